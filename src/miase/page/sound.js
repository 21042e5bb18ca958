// The two sounds of a job, noisy and estimate, in pieces of ten seconds that are fetched when they are needed. What was
// removed is their difference, so it needs no third.
//
// Pieces, and not <audio> elements for long recordings: two elements drift some milliseconds apart, which is heard as
// an echo when one fades into the other and leaves speech in their difference; and they cannot send the token.

import { bytes } from "./api.js";

export const PIECE_SECONDS = 10;
const HELD_SAMPLES = 32e6; // of a whole recording's sound that is kept: 128 MB for each of the two
const HELD_PIECES = 6; // of a longer one: what is playing, what comes next, and some way back
const DRAWN_SAMPLES = 10e6; // that are drawn as they are; longer recordings are drawn from windows of them
const DRAWN_WINDOWS = 8192;
const NAMES = ["noisy", "estimate"];

export async function openSound(job, signal) {
  const layouts = await Promise.all(NAMES.map((name) => readLayout(job.id, name, signal)));
  return new Sound(job.id, layouts, signal);
}

// Where a WAV file keeps its samples: after "RIFF", a size and "WAVE" come chunks, each of a name, a size and as many
// bytes.
async function readLayout(id, name, signal) {
  const { data, total } = await bytes(id, name, 0, 4096, signal);
  const view = new DataView(data);
  const layout = {};
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const chunk = String.fromCharCode(...new Uint8Array(data, at, 4));
    const size = view.getUint32(at + 4, true);
    if (chunk === "fmt ") {
      layout.nChannels = view.getUint16(at + 10, true);
      layout.sampleRate = view.getUint32(at + 12, true);
      if (view.getUint16(at + 22, true) !== 16) break;
    }
    if (chunk === "data") {
      layout.start = at + 8;
      layout.nSamples = Math.floor(Math.min(size, total - layout.start) / (2 * layout.nChannels));
      return layout;
    }
    at += 8 + size + (size % 2);
  }
  throw new Error("The sound of this recording cannot be played here; its download is not affected.");
}

class Sound {
  constructor(id, layouts, signal) {
    this.id = id;
    this.layouts = layouts;
    this.signal = signal;
    this.sampleRate = layouts[0].sampleRate;
    this.nChannels = layouts[0].nChannels;
    this.nSamples = Math.min(...layouts.map((layout) => layout.nSamples));
    this.seconds = this.nSamples / this.sampleRate;
    this.pieceSamples = PIECE_SECONDS * this.sampleRate;
    this.nPieces = Math.ceil(this.nSamples / this.pieceSamples);
    this.held = new Map(); // number -> promise of [noisy, estimate], least recently used first
    this.power = { noisy: 0, estimate: 0, product: 0 }; // not known yet
    this.nHeld = this.nSamples * this.nChannels <= HELD_SAMPLES ? this.nPieces : HELD_PIECES;
  }

  piece(i) {
    const found = this.held.get(i) ?? Promise.all(this.layouts.map((layout, j) => this.#read(NAMES[j], layout, i)));
    this.held.delete(i);
    this.held.set(i, found);
    found.catch(() => this.held.delete(i));
    if (this.held.size > this.nHeld) this.held.delete(this.held.keys().next().value);
    return found;
  }

  async #read(name, { start, nChannels }, i) {
    const from = i * this.pieceSamples;
    const length = Math.min(this.pieceSamples, this.nSamples - from);
    const at = (frame) => start + 2 * nChannels * frame;
    const { data } = await bytes(this.id, name, at(from), at(from + length), this.signal);
    const values = new Int16Array(data); // little-endian, as every machine with a browser is
    const buffer = new AudioBuffer({ length, numberOfChannels: nChannels, sampleRate: this.sampleRate });
    for (let channel = 0; channel < nChannels; channel++) {
      const samples = buffer.getChannelData(channel);
      for (let k = 0, j = channel; k < length; k++, j += nChannels) samples[k] = values[j] / 32768;
    }
    return buffer;
  }

  // One pass over everything: mean squares and product, for the loudness at any strength, and what is drawn.
  async survey(onProgress) {
    const sums = { noisy: 0, estimate: 0, product: 0 };
    const sketches = NAMES.map(() => new Sketch(this.nSamples, this.sampleRate));
    for (let i = 0; i < this.nPieces; i++) {
      const coming = this.piece(i);
      if (i + 1 < this.nPieces) this.piece(i + 1); // comes while this one is worked on
      const [noisy, estimate] = await coming;
      for (let channel = 0; channel < this.nChannels; channel++) {
        const x = noisy.getChannelData(channel);
        const y = estimate.getChannelData(channel);
        for (let k = 0; k < x.length; k++) {
          sums.noisy += x[k] * x[k];
          sums.estimate += y[k] * y[k];
          sums.product += x[k] * y[k];
        }
      }
      sketches[0].take(i * this.pieceSamples, noisy);
      sketches[1].take(i * this.pieceSamples, estimate);
      onProgress((i + 1) / this.nPieces);
    }
    const n = this.nSamples * this.nChannels;
    this.power = { noisy: sums.noisy / n, estimate: sums.estimate / n, product: sums.product / n };
    this.drawn = { noisy: sketches[0].samples, estimate: sketches[1].samples };
    this.fftSize = sketches[0].fftSize;
    this.windowed = sketches[0].windowed;
  }
}

// The mean of the channels; of a long recording, windows at even distances, one behind the other. A window is one
// sample shorter than the spectrogram's, as wavesurfer lets its windows overlap by one sample at the least.
class Sketch {
  constructor(nSamples, sampleRate) {
    this.fftSize = sampleRate > 24_000 ? 1024 : 512;
    this.windowed = nSamples > DRAWN_SAMPLES;
    this.window = this.windowed ? this.fftSize - 1 : nSamples;
    this.step = this.windowed ? nSamples / DRAWN_WINDOWS : nSamples;
    this.samples = new Float32Array(this.windowed ? DRAWN_WINDOWS * this.window : nSamples);
  }

  take(from, buffer) {
    const end = from + buffer.length;
    for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
      const samples = buffer.getChannelData(channel);
      for (let i = Math.floor(from / this.step); i * this.step < end; i++) {
        const start = Math.floor(i * this.step);
        const to = Math.min(start + this.window, end);
        for (let k = Math.max(start, from), at = i * this.window + k - start; k < to && at < this.samples.length; ) {
          this.samples[at++] += samples[k++ - from] / buffer.numberOfChannels;
        }
      }
    }
  }
}
