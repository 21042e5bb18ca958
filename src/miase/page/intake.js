// The ways by which recordings come in: dropped, chosen, pasted, or spoken into the microphone.

import { Recording, canRecord } from "./record.js";
import { complain, say } from "./trouble.js";
import { clock } from "./words.js";

const $ = (id) => document.getElementById(id);
const NO_LIMITS = { upload_mb: Infinity, minutes: Infinity };

let take = null;
let limits = NO_LIMITS;

// take is called with each file that the server may accept.
export function onFile(act) {
  take = act;
}

export function limit(allowed) {
  limits = allowed;
}

function add(files) {
  for (const file of files) {
    const megabytes = Math.ceil(file.size / 1e6);
    if (megabytes <= limits.upload_mb) take(file);
    else complain(`${file.name} has ${megabytes} MB; this server takes ${limits.upload_mb} MB at most. Cut it into parts.`);
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
let turning = false; // on or off, while the browser asks for leave

$("record").hidden = !canRecord();
$("record").addEventListener("click", async () => {
  if (turning) return; // not disabled meanwhile, as that would lose the focus
  turning = true;
  try {
    await (recording ? stopRecording() : startRecording());
  } finally {
    turning = false;
  }
});

async function startRecording() {
  recording = new Recording();
  try {
    await recording.start((seconds, megabytes, peak) => {
      $("recorded").textContent = clock(seconds);
      $("level").value = Math.max(peak, 0.9 * $("level").value);
      if (seconds > 60 * limits.minutes - 1 || megabytes > limits.upload_mb - 1) stopRecording();
    });
  } catch (error) {
    await recording.stop();
    recording = null;
    const refused = error.name === "NotAllowedError";
    complain(refused ? "The browser was not allowed to use the microphone." : "No microphone was found.");
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
