// The list of recordings: name, state, progress, and what can be done with each.

import { stateText } from "./words.js";

const ACTIVE = new Set(["waiting", "sending", "busy", "queued", "running"]);

const USABLE = "button:enabled:not([hidden])";

export class List {
  #rows = new Map();

  // fallback gets the focus when the last row goes. actions: listen, download, cancel, again and remove, each called
  // with the item.
  constructor(root, fallback, actions) {
    this.root = root;
    this.fallback = fallback;
    this.actions = actions;
  }

  update(item) {
    const row = this.#rows.get(item) ?? this.#create(item);
    const focused = document.activeElement; // which loses the focus when it vanishes
    const active = ACTIVE.has(item.state);
    row.item.dataset.state = item.state;
    row.state.textContent = stateText(item);
    row.name.disabled = !item.job && !item.preview;
    row.progress.hidden = item.state !== "running" && item.state !== "sending";
    row.progress.value = item.progress ?? 0;
    row.preview.hidden = !item.preview || !active;
    row.cancel.hidden = !active;
    row.download.hidden = item.state !== "done";
    row.again.hidden = item.state !== "failed" && item.state !== "cancelled";
    row.remove.hidden = active;
    if (row.item.contains(focused) && focused.hidden) row.item.querySelector(USABLE).focus();
  }

  remove(item) {
    const { item: row } = this.#rows.get(item);
    // The focus would be lost with the button that had it.
    const next = row.nextElementSibling ?? row.previousElementSibling;
    if (row.contains(document.activeElement)) (next?.querySelector(USABLE) ?? this.fallback).focus();
    row.remove();
    this.#rows.delete(item);
  }

  mark(item) {
    for (const [other, { name }] of this.#rows) {
      if (other === item) name.setAttribute("aria-current", "true");
      else name.removeAttribute("aria-current");
    }
  }

  #create(item) {
    const make = (tag, className, textContent = "") => Object.assign(document.createElement(tag), { className, textContent });
    const button = (action, text, className = "small") => {
      const made = make("button", className, text);
      made.type = "button";
      made.setAttribute("aria-label", `${text}: ${item.name}`);
      made.addEventListener("click", () => this.actions[action](item));
      return made;
    };
    const row = {
      item: make("li", "file"),
      name: button("listen", item.name, "name"),
      state: make("p", "state"),
      preview: make("span", "badge", "Preview ready"),
      progress: make("progress", ""),
      cancel: button("cancel", "Cancel"),
      again: button("again", "Try again"),
      download: button("download", "Download"),
      remove: button("remove", "Remove", "small quiet"),
    };
    row.name.setAttribute("aria-label", `Listen to ${item.name}`);
    row.progress.setAttribute("aria-label", `Progress of ${item.name}`);
    const about = make("div", "about");
    about.append(row.name, row.state, row.preview, row.progress);
    const buttons = make("div", "buttons");
    buttons.append(row.download, row.again, row.cancel, row.remove);
    row.item.append(about, buttons);
    this.root.append(row.item);
    this.#rows.set(item, row);
    return row;
  }
}
