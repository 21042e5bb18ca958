// Puts the parts together: what comes in, the list, the player, downloads, and what is said when something fails.

import * as api from "./api.js";
import { Files } from "./files.js";
import { List } from "./list.js";
import { Listen } from "./listen.js";
import { Recording, canRecord } from "./record.js";
import { clock, kilohertz } from "./words.js";

const $ = (id) => document.getElementById(id);
const LOOK_AGAIN_SECONDS = 3;
const COMMON = ["WAV", "FLAC", "MP3", "OGG", "M4A"]; // formats by which a beginner sees what is meant
const IS_LOCAL = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);

const files = new Files();
const listen = new Listen(fail);
const list = new List($("files"), {
  listen: (item) => {
    open(item);
    $("listen").scrollIntoView();
    $("play").focus({ preventScroll: true });
  },
  download: (item) => save($(item === listen.item ? "download-note" : "zip-note"), () => api.result(item.job.id, listen.strength, listen.format)),
  cancel: (item) => files.cancel(item),
  again: (item) => files.again(item, $("model").value),
  remove: (item) => files.remove(item),
});
list.fallback = $("choose");
let limits = null;

const say = (text) => ($("status").textContent = text);

// ---- what fails

let looking = null;

function fail(error) {
  if (error.name === "AbortError") return;
  if (error.status === 0 && !looking) looking = setInterval(lookAgain, 1000 * LOOK_AGAIN_SECONDS);
  banner(error.message);
}

function banner(text) {
  $("banner-text").textContent = text;
  $("banner").hidden = !text;
  $("banner-button").textContent = looking ? "Look again" : "Close";
}

async function lookAgain() {
  if (!(await api.isThere())) return;
  clearInterval(looking);
  looking = null;
  banner("");
  say("The server answers again.");
  if (!limits) begin();
}

$("banner-button").addEventListener("click", async () => {
  if (!looking) banner("");
  else if (await api.isThere()) await lookAgain();
  else say("The server still does not answer.");
});

api.onUnauthorised((refused) => {
  $("login-text").textContent = refused
    ? "That token was refused. This server asks for the token it was started with."
    : "This server asks for the token it was started with.";
  $("token").value = "";
  $("login").showModal();
  return new Promise((resolve) => {
    const closed = () => {
      if ($("token").value) resolve($("token").value);
      else $("login").showModal(); // nothing works without it
    };
    $("login").onclose = closed;
  });
});

// ---- what comes in

function add(chosen) {
  for (const file of chosen) {
    const megabytes = file.size / 1e6;
    if (limits && megabytes > limits.upload_mb) {
      banner(`${file.name} has ${Math.ceil(megabytes)} MB; this server takes ${limits.upload_mb} MB at most. Cut it into parts.`);
    } else {
      files.add(file, $("model").value);
    }
  }
}

$("choose").addEventListener("click", () => $("picker").click());
$("picker").addEventListener("change", () => {
  add($("picker").files);
  $("picker").value = "";
});

// Anywhere on the page: a file that misses the field would otherwise replace the page.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));

let recording = null;

$("record").hidden = !canRecord();
$("record").addEventListener("click", async () => {
  $("record").disabled = true;
  try {
    await (recording ? stopRecording() : startRecording());
  } finally {
    $("record").disabled = false;
  }
});

async function startRecording() {
  recording = new Recording();
  try {
    await recording.start((seconds, megabytes, peak) => {
      $("recorded").textContent = clock(seconds);
      $("level").value = Math.max(peak, 0.9 * $("level").value);
      if (limits && (seconds > 60 * limits.minutes - 1 || megabytes > limits.upload_mb - 1)) stopRecording();
    });
  } catch (error) {
    await recording.stop();
    recording = null;
    const refused = error.name === "NotAllowedError";
    banner(refused ? "The browser was not allowed to use the microphone." : "No microphone was found.");
    return;
  }
  recordingShown(true);
  say("Recording.");
}

async function stopRecording() {
  const current = recording;
  recording = null;
  recordingShown(false);
  const file = await current?.stop();
  if (file) add([file]);
}

function recordingShown(on) {
  $("recording").hidden = !on;
  $("record").classList.toggle("on", on);
  $("record-text").textContent = on ? "Stop" : "Record";
}

// ---- the list and the player

function open(item) {
  list.mark(item);
  listen.open(item);
}

const FINISHED = {
  done: (item) => `${item.name} is done.`,
  failed: (item) => `${item.name} failed: ${item.error}`,
  cancelled: (item) => `${item.name} was cancelled.`,
};

files.addEventListener("change", ({ detail: item }) => {
  list.update(item);
  if (FINISHED[item.state] && item.said !== item.state) say(FINISHED[item.state](item));
  item.said = item.state;
  if (item.state === "failed" && item.status === 0) fail({ message: item.error, status: 0 });
  if ((item.preview || item.job) && (!listen.item || listen.item === item)) open(item);
  drawAll();
});

files.addEventListener("removed", ({ detail: item }) => {
  list.remove(item);
  if (listen.item === item) {
    listen.close();
    const next = files.items.find((other) => other.job ?? other.preview);
    if (next) open(next);
  }
  say(`${item.name} was removed.`);
  drawAll();
});

function drawAll() {
  $("files-section").hidden = files.items.length === 0;
  $("all").hidden = files.items.length < 2;
  $("zip").disabled = files.done.length === 0;
  $("zip").textContent = files.done.length < files.items.length ? `Download the ${files.done.length} done as ZIP` : "Download all as ZIP";
}

$("clear").addEventListener("click", () => {
  for (const item of [...files.items]) files.remove(item);
  $("choose").focus();
});

// ---- downloads

async function save(note, ask) {
  note.textContent = "Writing the file…";
  try {
    note.textContent = `${await ask()} was saved.`;
  } catch (error) {
    note.textContent = "";
    fail(error);
  }
  say(note.textContent);
}

$("download").addEventListener("click", () =>
  save($("download-note"), () => api.result(listen.item.job.id, listen.strength, listen.format)),
);
$("zip").addEventListener("click", () => {
  const ids = files.done.map((item) => item.job.id);
  save($("zip-note"), () => api.archive(ids, listen.strength, listen.format));
});

// ---- light and dark

const isDark = () =>
  (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  $("theme").setAttribute("aria-pressed", isDark());
}

$("theme").addEventListener("click", () => {
  const name = isDark() ? "light" : "dark";
  localStorage.setItem("theme", name);
  theme(name);
});

// ---- what the server offers

let models = [];

async function begin() {
  try {
    const [found, allowed, examples] = await Promise.all([api.models(), api.limits(), api.examples()]);
    models = found;
    limits = allowed;
    $("model").replaceChildren(...models.map((model) => new Option(model.name, model.name, model.default, model.default)));
    aboutModel();
    const readable = limits.formats.map((format) => format.replace(".", "").toUpperCase());
    $("limits").title = readable.join(", ");
    const common = COMMON.filter((format) => readable.includes(format));
    $("limits").textContent = `${common.join(", ")} and more; up to ${limits.minutes} minutes and ${limits.upload_mb} MB each. They stay on this ${IS_LOCAL ? "machine" : "server"}.`;
    $("picker").accept = ["audio/*", ...limits.formats].join(",");
    $("kept").textContent = `, and after ${limits.result_minutes} minutes`;
    files.atOnce = Math.min(files.atOnce, limits.jobs_per_client);
    $("format").append(...limits.output_formats.map((format) => new Option(format.toUpperCase(), format)));
    $("examples").append(...examples.map(exampleButton));
    $("examples").hidden = examples.length === 0;
  } catch (error) {
    fail(error);
  }
}

function aboutModel() {
  const model = models.find(({ name }) => name === $("model").value);
  if (!model) return;
  const [licence] = model.licence.split(";"); // what it allows in full is in the title
  $("model-about").textContent = `${kilohertz(model.sample_rate)} · licence ${licence}`;
  $("model-about").title = `${model.summary}. Licence: ${model.licence}`;
}

function exampleButton({ name, title, seconds }) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.textContent = `${title} (${Math.round(seconds)} s)`;
  button.addEventListener("click", async () => {
    try {
      add([await api.example(name)]);
    } catch (error) {
      fail(error);
    }
  });
  return button;
}

$("model").addEventListener("change", aboutModel);

theme(localStorage.getItem("theme"));
begin();
