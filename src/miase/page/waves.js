// Waveforms and spectrograms of noisy and estimate, one below the other, with one zoom, one scroll and one selection.

import WaveSurfer from "./vendor/wavesurfer/wavesurfer.esm.js";
import Regions from "./vendor/wavesurfer/regions.esm.js";
import Spectrogram from "./vendor/wavesurfer/spectrogram.esm.js";
import Timeline from "./vendor/wavesurfer/timeline.esm.js";
import { clock } from "./words.js";

const WAVE_HEIGHT = 64; // the policy in index.html holds the hash of a style made with it
const SPECTROGRAM_HEIGHT = 128;
const TIMELINE_HEIGHT = 22;
const RANGE_DB = 70;
const HEADROOM_DB = 12; // from the loudness of the whole to what is drawn brightest
const CLOSEST = 400; // pixels per second
const MOST_PIXELS = 40_000; // of a zoomed recording, 20 MB of picture each
const SELECTED = "rgba(224, 140, 40, 0.25)";

// From silent to loud; the reports use the same colours.
const COLOURS = [[8, 8, 32], [60, 20, 110], [150, 35, 110], [220, 80, 60], [250, 170, 50], [255, 250, 210]];
const COLOUR_MAP = Array.from({ length: 256 }, (_, i) => {
  const place = (i / 255) * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  const mixed = COLOURS[low].map((value, j) => value + (COLOURS[low + 1][j] - value) * (place - low));
  return [...mixed.map((value) => value / 255), 1];
});

const TITLES = { noisy: "original", estimate: "enhanced" };

// Tones that stand out on a light and on a dark page.
const TONES = { noisy: "#8a94a0", estimate: "#2f84d6" };

export class Waves extends EventTarget {
  #views = [];
  #seconds = 0;
  #zoom = 0;
  #mirroring = false;

  constructor(containers) {
    super();
    this.containers = containers; // by sound
  }

  show(sound) {
    this.clear();
    this.#seconds = sound.seconds;
    const loudness = 10 * Math.log10(Math.max(sound.power.noisy, 1e-9));
    const highest = sound.drawn.noisy.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1e-3);
    for (const [name, container] of Object.entries(this.containers)) {
      const regions = Regions.create();
      const spectrogram = Spectrogram.create({
        height: SPECTROGRAM_HEIGHT,
        labels: false,
        scale: "mel", // half of a linear one would be empty for speech at 44.1 kHz
        windowFunc: "hann",
        fftSamples: sound.fftSize,
        noverlap: sound.windowed ? 1 : undefined,
        gainDB: -loudness - HEADROOM_DB,
        rangeDB: RANGE_DB,
        colorMap: COLOUR_MAP,
      });
      const waves = WaveSurfer.create({
        container,
        height: WAVE_HEIGHT,
        waveColor: TONES[name],
        progressColor: TONES[name],
        cursorColor: "#e0572f",
        cursorWidth: 2,
        normalize: true,
        maxPeak: highest, // of the original: the enhanced one is drawn to the same scale
        autoCenter: false,
        peaks: [sound.drawn[name]],
        duration: sound.seconds,
        plugins: [regions, Timeline.create({ height: TIMELINE_HEIGHT, secondaryLabelOpacity: 1, formatTimeCallback: clock }), spectrogram],
      });
      const scroller = waves.getWrapper().parentElement;
      scroller.setAttribute("role", "group");
      scroller.setAttribute("aria-label", `Waveform and spectrogram, ${TITLES[name]}`);
      this.#views.push({ waves, regions, scroller });
      waves.on("interaction", (seconds) => this.#emit("seek", seconds));
      waves.on("ready", () => this.zoom(this.#zoom));
      waves.on("scroll", (start, end, left) => this.#scroll(waves, left));
      // On a touch screen a drag scrolls; there the buttons select.
      if (matchMedia("(pointer: fine)").matches) regions.enableDragSelection({ color: SELECTED });
      regions.on("region-created", (region) => this.#selected(region));
      regions.on("region-updated", (region) => this.#selected(region));
    }
  }

  clear() {
    for (const { waves } of this.#views) waves.destroy();
    this.#views = [];
  }

  // From 0, all of it in view, to 1.
  zoom(share) {
    this.#zoom = share;
    for (const { waves, scroller } of this.#views) {
      if (!waves.getDecodedData()) continue;
      scroller.tabIndex = share > 0 ? 0 : -1; // what scrolls must be reached by keyboard
      const all = waves.getWidth() / this.#seconds;
      const closest = Math.min(CLOSEST, MOST_PIXELS / this.#seconds);
      waves.zoom(share > 0 && all < closest ? all * (closest / all) ** share : 0);
    }
  }

  move(seconds) {
    for (const { waves } of this.#views) if (waves.getDecodedData()) waves.setTime(seconds);
  }

  // Draws the selection [from, to], or takes it away.
  select(range) {
    this.#mirroring = true; // what is drawn here was not selected by hand
    for (const { regions } of this.#views) {
      regions.clearRegions();
      if (range) regions.addRegion({ start: range[0], end: range[1], color: SELECTED });
    }
    this.#mirroring = false;
  }

  #selected({ start, end }) {
    if (!this.#mirroring) this.#emit("select", [start, end]);
  }

  #scroll(moved, left) {
    for (const { waves } of this.#views) if (waves !== moved && waves.getScroll() !== left) waves.setScroll(left);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
