// What the server offers, drawn: models with rate and licence, limits, formats, examples.

import * as api from "./api.js";
import { fail } from "./trouble.js";
import { kilohertz } from "./words.js";

const COMMON = ["WAV", "FLAC", "MP3", "OGG", "M4A"]; // formats by which a beginner sees what is meant
const FULL_BAND = 48000; // Hz, the highest rate that a model is taken to
const IS_LOCAL = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);

const $ = (id) => document.getElementById(id);
let models = [];

// The limits. onExample is called with the file of an example that was chosen.
export async function offer(onExample) {
  const [found, limits, examples] = await Promise.all([api.models(), api.limits(), api.examples()]);
  models = found;
  $("model").replaceChildren(...models.map(({ name, default: first }) => new Option(name, name, first, first)));
  aboutModel();
  aboutLimits(limits);
  $("format").append(...limits.output_formats.map((format) => new Option(format.toUpperCase(), format)));
  $("examples").append(...examples.map((example) => exampleButton(example, onExample)));
  $("examples").hidden = examples.length === 0;
  return limits;
}

function aboutLimits({ formats, minutes, upload_mb: megabytes, result_minutes: kept }) {
  const readable = formats.map((format) => format.replace(".", "").toUpperCase());
  const common = COMMON.filter((format) => readable.includes(format)).join(", ");
  const where = IS_LOCAL ? "machine" : "server";
  $("limits").textContent = `${common} and more; up to ${minutes} minutes and ${megabytes} MB each. They stay on this ${where}.`;
  $("limits").title = readable.join(", ");
  $("picker").accept = ["audio/*", ...formats].join(",");
  $("kept").textContent = `, and after ${kept} minutes`;
}

function aboutModel() {
  const { sample_rate: rate, licence, summary } = models.find(({ name }) => name === $("model").value);
  const [short] = licence.split(";"); // what it allows in full is in the title
  $("model-about").textContent = `${kilohertz(rate)} · licence ${short}`;
  $("model-about").title = `${summary}. Licence: ${licence}`;
  $("hear-text").textContent = `Noise above ${kilohertz(rate / 2)}, too`;
  $("hear").parentElement.hidden = rate >= FULL_BAND;
}

$("model").addEventListener("change", aboutModel);

function exampleButton({ name, title, seconds }, onExample) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.textContent = `${title} (${Math.round(seconds)} s)`;
  button.addEventListener("click", () => api.example(name).then(onExample, fail));
  return button;
}
