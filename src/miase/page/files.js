// The recordings of this visit and the way of each: sent, a preview of its start, then all of it.

import { Refusal, follow, remove, send } from "./api.js";

const PREVIEW_SECONDS = 10;
const AT_ONCE = 2; // more would only wait in the server's queue instead of here
const ENDED = new Set(["done", "failed", "cancelled"]);

export class Files extends EventTarget {
  items = [];
  #followed = new Map(); // id of a job -> what ends asking for it
  atOnce = AT_ONCE;

  // how: what is asked of the server beside the file, as { model, shifts, high_band }.
  add(file, how) {
    const item = { file, name: file.name, how, state: "waiting", stage: "preview", preview: null, job: null, error: "" };
    this.items.push(item);
    this.#tell(item);
    this.#next();
    return item;
  }

  again(item, how) {
    this.#forget(item);
    Object.assign(item, { how, state: "waiting", preview: null, job: null, error: "" });
    this.#tell(item);
    this.#next();
  }

  cancel(item) {
    item.stop?.abort();
    if (item.current) this.#drop(item.current);
    item.current = null;
    if (item.state === "waiting") this.#set(item, { state: "cancelled" });
  }

  remove(item) {
    this.cancel(item);
    this.#forget(item);
    this.items = this.items.filter((other) => other !== item);
    this.dispatchEvent(new CustomEvent("removed", { detail: item }));
    this.#next();
  }

  get done() {
    return this.items.filter((item) => item.state === "done");
  }

  #forget({ preview, job }) {
    for (const id of new Set([preview?.id, job?.id])) if (id) this.#drop(id);
  }

  #drop(id) {
    this.#followed.get(id)?.abort();
    this.#followed.delete(id);
    remove(id);
  }

  #next() {
    const active = this.items.filter((item) => item.state !== "waiting" && !ENDED.has(item.state));
    const item = this.items.find((other) => other.state === "waiting");
    if (item && active.length < this.atOnce) this.#run(item);
  }

  async #run(item) {
    item.stop = new AbortController();
    const { signal } = item.stop;
    try {
      item.stage = "preview";
      item.preview = await this.#job(item, PREVIEW_SECONDS, signal);
      if (item.preview.seconds >= PREVIEW_SECONDS) {
        item.stage = "whole";
        this.#tell(item);
        item.job = await this.#job(item, 0, signal);
        this.#drop(item.preview.id);
      } else {
        item.job = item.preview; // there was no more
      }
      item.preview = null;
      this.#set(item, { state: "done" });
    } catch (error) {
      if (error.name === "AbortError") this.#set(item, { state: "cancelled" });
      else this.#set(item, { state: "failed", error: error.message, status: error.status });
      if (!(error instanceof Refusal) && error.name !== "AbortError") throw error;
    } finally {
      item.current = null;
      this.#next();
    }
  }

  async #job(item, previewSeconds, signal) {
    const sent = await this.#send(item, { ...item.how, preview_seconds: previewSeconds }, signal);
    item.current = sent.id;
    this.#take(item, sent);
    const stop = new AbortController();
    this.#followed.set(sent.id, stop);
    const job = await follow(sent.id, (state) => this.#take(item, state), AbortSignal.any([signal, stop.signal]));
    item.current = null;
    if (job.state === "failed") throw new Refusal(job.error, 0.5);
    if (job.state === "cancelled") throw new DOMException("cancelled", "AbortError");
    return job;
  }

  // As often as the queue is full, after the time that the server asks for.
  async #send(item, fields, signal) {
    for (;;) {
      this.#set(item, { state: "sending", progress: 0 });
      try {
        return await send(item.file, fields, (progress) => this.#set(item, { progress }), signal);
      } catch (error) {
        if (error.status !== 429) throw error;
        this.#set(item, { state: "busy", retrySeconds: error.retrySeconds });
        await sleep(error.retrySeconds, signal);
      }
    }
  }

  #take(item, job) {
    const { id, state, progress, position, seconds_left: secondsLeft } = job;
    if (!ENDED.has(state)) this.#set(item, { state, progress, position, secondsLeft });
    for (const kept of ["preview", "job"]) if (item[kept]?.id === id) this.#set(item, { [kept]: job }); // with scores
  }

  #set(item, values) {
    Object.assign(item, values);
    this.#tell(item);
  }

  #tell(item) {
    if (this.items.includes(item)) this.dispatchEvent(new CustomEvent("change", { detail: item }));
  }
}

function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
