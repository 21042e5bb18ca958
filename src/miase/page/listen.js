// The part of the page where one recording is heard and seen: the controls around player and waves, and their keys.

import { Player } from "./player.js";
import { showScores } from "./scores.js";
import { openSound } from "./sound.js";
import { Waves } from "./waves.js";
import { clock, kilohertz, tenths } from "./words.js";

const STEP_SECONDS = 2;
const SMALL_STEP_SECONDS = 0.1;
const FEWEST_SECONDS = 0.1; // of a loop

const $ = (id) => document.getElementById(id);

export class Listen {
  #player = new Player();
  #waves = new Waves({ noisy: $("wave-noisy"), estimate: $("wave-estimate") });
  #selection = null; // [from, to] in seconds
  #opening = null;
  item = null;

  // onError is called with what went wrong while sounds were read
  constructor(onError) {
    this.onError = onError;
    this.#player.addEventListener("change", () => this.#draw());
    this.#player.addEventListener("failed", ({ detail }) => onError(detail));
    this.#waves.addEventListener("seek", ({ detail }) => this.#seek(detail));
    this.#waves.addEventListener("select", ({ detail }) => this.#select(detail, true));
    this.#connect();
  }

  get strength() {
    return $("strength").value / 100;
  }

  get format() {
    return $("format").value;
  }

  // Shows the item's recording, or its preview as long as there is no more.
  async open(item) {
    const job = item.job ?? item.preview;
    const same = item === this.item;
    if (same && this.job?.id === job.id) {
      this.job = job;
      this.#note();
      this.#showScores();
      return;
    }
    this.#opening?.abort();
    this.#opening = new AbortController();
    const { signal } = this.#opening;
    if (!same) this.#leave();
    Object.assign(this, { item, job });
    $("listen").hidden = false;
    $("listen-title").textContent = item.name;
    $("listen").dataset.loading = "true";
    $("listen-note").textContent = same ? "The rest is done and being read…" : "Being read…";
    try {
      const sound = await openSound(job, signal);
      if (!same) this.#player.load(sound, false); // it can be heard before all of it has been read
      await sound.survey((share) => {
        if (!signal.aborted && share < 1) $("listen-note").textContent = `Being read, ${Math.round(100 * share)} %`;
      });
      signal.throwIfAborted();
      if (same) this.#player.load(sound, true);
      else this.#player.mix(); // the loudness is known now
      this.#waves.show(sound);
      if (this.#selection || $("loop").checked) this.#select(this.#selection, false);
      this.sound = sound;
      delete $("listen").dataset.loading;
      this.#note();
      this.#axes();
      this.#showScores();
      $("download").disabled = !item.job;
      this.#draw();
    } catch (error) {
      if (error.name !== "AbortError") this.onError(error);
    }
  }

  close() {
    this.#opening?.abort();
    this.#leave();
    this.#player.close();
    this.item = this.job = null;
    $("listen").hidden = true;
  }

  #leave() {
    this.#player.unload();
    this.#waves.clear();
    this.#selection = this.sound = null;
    $("zoom").value = 0;
    $("loop").checked = false;
    this.#waves.zoom(0);
    $("scores").replaceChildren();
    $("download-note").textContent = "";
  }

  #showScores() {
    showScores($("scores"), this.job, this.job !== this.item.job);
  }

  #note() {
    if (!this.sound || $("listen").dataset.loading) return;
    const rest = { cancelled: "The rest was cancelled.", failed: "The rest failed." }[this.item.state] ?? "The rest follows by itself.";
    const isPreview = this.job !== this.item.job;
    $("listen-note").textContent = isPreview ? `The first ${Math.round(this.sound.seconds)} seconds. ${rest}` : "";
  }

  #axes() {
    const { sound } = this;
    const top = kilohertz(sound.sampleRate / 2);
    for (const axis of document.querySelectorAll(".axis.top")) axis.textContent = top;
    $("wave-note").hidden = !sound.windowed;
    $("wave-note").textContent = "A recording this long is drawn from short windows at even distances.";
  }

  #connect() {
    const player = this.#player;
    $("play").addEventListener("click", () => this.#toggle());
    for (const radio of document.getElementsByName("choice")) {
      radio.addEventListener("change", () => this.#choose(radio.value));
    }
    $("seek").addEventListener("input", () => this.#seek(Number($("seek").value)));
    $("strength").addEventListener("input", () => {
      player.strength = this.strength;
      player.mix();
      $("strength-text").textContent = `${$("strength").value} %`;
      $("strength").setAttribute("aria-valuetext", `${$("strength").value} percent`);
    });
    $("matched").addEventListener("change", () => {
      player.matched = $("matched").checked;
      player.mix();
    });
    $("zoom").addEventListener("input", () => this.#waves.zoom($("zoom").value / 100));
    $("loop").addEventListener("change", () => this.#select(this.#selection, false));
    $("loop-start").addEventListener("click", () => this.#mark(0));
    $("loop-end").addEventListener("click", () => this.#mark(1));
    $("loop-clear").addEventListener("click", () => {
      this.#select(null, false);
      $("loop-start").focus(); // there is nothing to clear now
    });
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  #toggle() {
    if (this.#player.playing) this.#player.pause();
    else this.#player.play();
  }

  #choose(choice) {
    for (const radio of document.getElementsByName("choice")) radio.checked = radio.value === choice;
    this.#player.choice = choice;
    this.#player.mix();
  }

  #seek(seconds) {
    const outside = this.#selection && (seconds < this.#selection[0] || seconds > this.#selection[1]);
    if (outside) this.#select(null, false);
    this.#player.seek(seconds);
  }

  // Takes a selection, and loops over it (or everything) if that is switched on; a drag switches it on.
  #select(range, loop) {
    if (range && range[1] - range[0] < FEWEST_SECONDS) range = null;
    this.#selection = range;
    if (loop && range) $("loop").checked = true;
    const looping = $("loop").checked;
    this.#player.setLoop(looping ? (range ?? [0, this.#player.seconds]) : null);
    this.#waves.select(range);
    $("loop-clear").disabled = !range;
    $("loop-text").textContent = range ? range.map((seconds) => `${seconds.toFixed(1)} s`).join(" to ") : "";
  }

  #mark(side) {
    const range = [...(this.#selection ?? [0, this.#player.seconds])];
    range[side] = this.#player.position;
    // The other end moves along, where the marks would cross.
    if (range[0] >= range[1]) range[1 - side] = side ? 0 : this.#player.seconds;
    this.#select(range, true);
  }

  #zoomBy(amount) {
    $("zoom").valueAsNumber += amount;
    this.#waves.zoom($("zoom").value / 100);
  }

  #key(event) {
    if (!this.item || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const { type, tagName } = event.target;
    // Keys that a control needs for itself stay with it.
    const typing = tagName === "SELECT" || (tagName === "INPUT" && type !== "range" && type !== "radio" && type !== "checkbox");
    const pressed = tagName === "BUTTON" || tagName === "SUMMARY" || type === "checkbox";
    const moved = (type === "range" && event.target !== $("seek")) || type === "radio";
    if (typing) return;
    const step = event.shiftKey ? SMALL_STEP_SECONDS : STEP_SECONDS;
    const keys = {
      " ": pressed ? null : () => this.#toggle(),
      1: () => this.#choose("noisy"),
      2: () => this.#choose("estimate"),
      3: () => this.#choose("noise"),
      ArrowLeft: moved ? null : () => this.#seek(this.#player.position - step),
      ArrowRight: moved ? null : () => this.#seek(this.#player.position + step),
      Home: moved ? null : () => this.#seek(0),
      l: () => $("loop").click(),
      "[": () => this.#mark(0),
      "]": () => this.#mark(1),
      "+": () => this.#zoomBy(10),
      "-": () => this.#zoomBy(-10),
    };
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  #draw() {
    const { playing, position, seconds } = this.#player;
    $("play").classList.toggle("playing", playing);
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    $("time").textContent = `${tenths(position)} / ${tenths(seconds)}`;
    $("seek").max = seconds;
    $("seek").value = position;
    $("seek").setAttribute("aria-valuetext", `${clock(position)} of ${clock(seconds)}`);
    this.#waves.move(position);
    if (playing) {
      cancelAnimationFrame(this.frame);
      this.frame = requestAnimationFrame(() => this.#draw());
    }
  }
}
