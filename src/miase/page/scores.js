// DNSMOS before and after, in words and as bars, and the warning when speech may be damaged.

import { scoresSentence, step } from "./words.js";

const ROWS = [
  ["SIG", "Speech", "how natural the speech sounds"],
  ["BAK", "Background", "how little the noise disturbs"],
  ["OVRL", "Overall", "both together"],
];

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function showScores(panel, job, isPreview) {
  panel.replaceChildren(element("h3", { textContent: "How listeners might rate it" }));
  const { scores } = job;
  if (scores?.warning) {
    const text = `Speech may have been damaged: ${scores.warning}. Listen to it, and try a lower strength.`;
    panel.append(element("p", { className: "warning", textContent: text }));
  }
  if (!scores?.noisy || !scores?.estimate) {
    const text = job.scores_pending ? "The scores are being made…" : "There are no scores for this recording.";
    panel.append(element("p", { className: "note", textContent: text }));
    return;
  }
  panel.append(element("p", { textContent: scoresSentence(scores) }), table(scores));
  const about = `Guessed by DNSMOS, from 1, bad, to 5, excellent${
    isPreview ? ", from the first seconds" : ""
  }, and at full strength.`;
  panel.append(element("p", { className: "note", textContent: about }));
}

function table({ noisy, estimate }) {
  const titles = ["Original", "Enhanced"].map((textContent) => element("th", { scope: "col", textContent }));
  const body = ROWS.map(([name, title, about]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", textContent: title, title: about }),
      cell(noisy[name], "noisy"),
      cell(estimate[name], "estimate"),
    ),
  );
  const caption = element("caption", { className: "hidden", textContent: "Scores before and after" });
  return element("table", { className: "scores" }, caption, element("thead", {}, element("tr", {}, element("td"), ...titles)), element("tbody", {}, ...body));
}

function cell(score, className) {
  const bar = element("span", { className: `bar ${className}` });
  bar.setAttribute("aria-hidden", "true");
  bar.style.setProperty("--share", (score - 1) / 4);
  if (score === null) return element("td", { textContent: "–" });
  return element("td", {}, `${score.toFixed(1)} `, element("span", { className: "note", textContent: step(score) }), bar);
}
