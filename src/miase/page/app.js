// Puts the parts together: what comes in goes to the list, what is ready to the player, what is wanted to a file.

import * as api from "./api.js";
import { Files } from "./files.js";
import { limit, onFile } from "./intake.js";
import { List } from "./list.js";
import { Listen } from "./listen.js";
import { offer } from "./offer.js";
import "./theme.js";
import { fail, say, whenBack } from "./trouble.js";

const $ = (id) => document.getElementById(id);

const files = new Files();
const listen = new Listen(fail);
const list = new List($("files"), $("choose"), {
  listen: (item) => {
    open(item);
    $("listen").scrollIntoView();
    $("play").focus({ preventScroll: true });
  },
  download: (item) => download(item, $(item === listen.item ? "download-note" : "zip-note")),
  cancel: (item) => files.cancel(item),
  again: (item) => {
    if (listen.item === item) listen.close();
    files.again(item, how());
  },
  remove: (item) => files.remove(item),
});

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
  const n = files.done.length;
  $("zip").disabled = n < 2;
  $("zip").textContent = n < 2 || n === files.items.length ? "Download all as ZIP" : `Download the ${n} done as ZIP`;
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

const download = ({ job }, note) => save(note, () => api.result(job.id, listen.strength, listen.format));

$("download").addEventListener("click", () => download(listen.item, $("download-note")));
$("zip").addEventListener("click", () => {
  const ids = files.done.map((item) => item.job.id);
  save($("zip-note"), () => api.archive(ids, listen.strength, listen.format));
});

// ---- the start

const how = () => ({
  model: $("model").value,
  shifts: $("shifts").checked ? $("shifts").value : 1,
  ...($("hear").checked && { high_band: $("hear").value }),
});
const add = (file) => files.add(file, how());

async function begin() {
  try {
    const limits = await offer(add);
    limit(limits);
    files.atOnce = Math.min(files.atOnce, limits.jobs_per_client);
    whenBack(() => {}); // what it offers is drawn
  } catch (error) {
    fail(error);
  }
}

onFile(add);
whenBack(begin);
begin();
