// What the server is asked, and who asks: the only module that knows addresses, the token and the client's id.

export class Refusal extends Error {
  constructor(message, status, retrySeconds = null) {
    super(message);
    this.status = status; // 0 when nobody answered
    this.retrySeconds = retrySeconds;
  }
}

const GONE = "The server does not answer. Is miase serve still running?";
const FINAL = new Set(["done", "failed", "cancelled"]);
const POLL_SECONDS = 1;

// crypto.randomUUID is missing on pages without https, which a server in the local network is.
function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const client = localStorage.getItem("client") ?? randomName();
localStorage.setItem("client", client);

let askForToken = null; // (whether one was refused) -> Promise of another
let asking = null;

export function onUnauthorised(ask) {
  askForToken = ask;
}

function headers(more = {}) {
  const token = sessionStorage.getItem("token");
  return { "X-Client": client, ...(token ? { Authorization: `Bearer ${token}` } : {}), ...more };
}

// Several requests may be refused at once; the user is asked once.
async function newToken(refused) {
  if (refused !== sessionStorage.getItem("token")) return;
  asking ??= askForToken(refused !== null).then((token) => {
    sessionStorage.setItem("token", token);
    asking = null;
  });
  await asking;
}

function refusal(status, text, retryAfter) {
  let message = `The server answered with ${status}.`;
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    // Not ours: a proxy in between, perhaps.
  }
  return new Refusal(message, status, status === 429 ? Number(retryAfter) || 5 : null);
}

async function request(path, options = {}) {
  const token = sessionStorage.getItem("token");
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(options.headers) });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal(GONE, 0);
  }
  if (response.status === 401) {
    await newToken(token);
    return request(path, options);
  }
  if (!response.ok) throw refusal(response.status, await response.text(), response.headers.get("Retry-After"));
  return response;
}

// The body, which may break off when the head has long come.
async function body(response, kind, refusal = new Refusal(GONE, 0)) {
  try {
    return await response[kind]();
  } catch (error) {
    throw error.name === "AbortError" ? error : refusal;
  }
}

async function json(path, options) {
  return body(await request(path, options), "json");
}

export const models = () => json("v1/models");
export const limits = () => json("v1/limits");
export const examples = () => json("v1/examples");

export async function example(name) {
  const response = await request(`v1/examples/${encodeURIComponent(name)}`);
  return new File([await body(response, "blob")], fileName(response));
}

export async function isThere() {
  try {
    return (await fetch("healthz")).ok;
  } catch {
    return false;
  }
}

// XMLHttpRequest, as fetch cannot tell how much of an upload has been sent.
export function send(file, fields, onSent, signal) {
  const token = sessionStorage.getItem("token");
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file, file.name);
  const call = new XMLHttpRequest();
  const answer = new Promise((resolve, reject) => {
    call.onload = () => {
      if (call.status === 202) resolve(JSON.parse(call.responseText));
      else reject(refusal(call.status, call.responseText, call.getResponseHeader("Retry-After")));
    };
    call.onerror = async () => {
      // A file that has changed or vanished since it was chosen fails just as a missing server does.
      const message = (await isThere()) ? "The upload was cut off. Was the file moved or changed?" : GONE;
      reject(new Refusal(message, 0));
    };
    call.onabort = () => reject(new DOMException("cancelled", "AbortError"));
  });
  call.upload.onprogress = (event) => onSent(event.loaded / event.total);
  call.open("POST", "v1/jobs");
  for (const [name, value] of Object.entries(headers())) call.setRequestHeader(name, value);
  const abort = () => call.abort();
  signal.addEventListener("abort", abort);
  call.send(form);
  return answer
    .finally(() => signal.removeEventListener("abort", abort))
    .catch(async (error) => {
      if (error.status !== 401) throw error;
      await newToken(token);
      return send(file, fields, onSent, signal);
    });
}

// The job when it has ended. onJob is called with it whenever it changes, and once more when the scores are there.
export function follow(id, onJob, signal) {
  return new Promise((resolve, reject) => {
    const take = (job) => {
      onJob(job);
      if (FINAL.has(job.state)) resolve(job);
    };
    watch(id, take, signal).catch(reject);
  });
}

// By its events until it ends, and by asking: for the scores, since a browser opens six connections at most and these may
// take a while, and where a proxy holds events back or cuts them off.
async function watch(id, onJob, signal) {
  let last = null;
  const take = (job) => {
    onJob((last = job));
    return FINAL.has(job.state);
  };
  try {
    // Read by fetch: an EventSource cannot send the token.
    const response = await request(`v1/jobs/${id}/events`, { signal, headers: { Accept: "text/event-stream" } });
    await readEvents(response.body, take);
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) throw error;
    if (error.name === "AbortError") throw error;
  }
  while (!last || !FINAL.has(last.state) || last.scores_pending) {
    if (last) await new Promise((resolve) => setTimeout(resolve, POLL_SECONDS * 1000));
    signal.throwIfAborted();
    take(await json(`v1/jobs/${id}`, { signal }));
  }
}

async function readEvents(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value.replaceAll("\r\n", "\n");
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
      if (data.length && take(JSON.parse(data.join("\n")))) return reader.cancel();
    }
  }
}

export async function remove(id) {
  try {
    await request(`v1/jobs/${id}`, { method: "DELETE", keepalive: true });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    // Gone already, or the server is: in both cases nothing is left to remove.
  }
}

// Bytes from (included) to (excluded) of one sound of a job, and how long all of it is.
export async function bytes(id, name, from, to, signal) {
  const range = { Range: `bytes=${from}-${to - 1}` };
  const response = await request(`v1/jobs/${id}/sound/${name}`, { signal, headers: range });
  const total = Number(response.headers.get("Content-Range")?.split("/")[1]);
  return { data: await body(response, "arrayBuffer"), total };
}

function query(values) {
  const parameters = new URLSearchParams();
  for (const [name, value] of values) if (value !== "") parameters.append(name, value);
  return parameters;
}

export const result = (id, strength, format) =>
  save(`v1/jobs/${id}/result?${query([["strength", strength], ["format", format]])}`);

export const archive = (ids, strength, format) =>
  save(`v1/jobs/archive?${query([...ids.map((id) => ["id", id]), ["strength", strength], ["format", format]])}`);

function fileName(response) {
  const disposition = response.headers.get("Content-Disposition") ?? "";
  const encoded = /filename\*=UTF-8''([^;]+)/i.exec(disposition)?.[1];
  const plain = /filename="?([^";]+)"?/i.exec(disposition)?.[1];
  return encoded ? decodeURIComponent(encoded) : (plain ?? "sound");
}

async function save(path) {
  const response = await request(path);
  const link = document.createElement("a");
  const cut = new Refusal("The download broke off. Try another format, or one recording at a time.", response.status);
  link.href = URL.createObjectURL(await body(response, "blob", cut));
  link.download = fileName(response);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return link.download;
}
