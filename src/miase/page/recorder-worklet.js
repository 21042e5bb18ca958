// Runs beside the page, where samples come from: passes on the first channel of what the microphone gives.

const BLOCK = 1024; // samples; what a browser gives at once, 128, would be many messages

class Recorder extends AudioWorkletProcessor {
  #block = new Float32Array(BLOCK);
  #filled = 0;

  process([input]) {
    if (!input.length) return true;
    this.#block.set(input[0], this.#filled);
    this.#filled += input[0].length;
    if (this.#filled === BLOCK) {
      this.port.postMessage(this.#block);
      this.#filled = 0;
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
