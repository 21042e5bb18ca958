// One playhead over two sounds that run together. What is heard is a weighted sum of both, so that a switch between
// original, enhanced and removed noise, and every strength, is nothing but a change of two gains.

const FADE_SECONDS = 0.02; // short enough to seem at once, long enough not to click
const START_SECONDS = 0.04; // from a command to the first sample, for the sound card to keep up
const AHEAD_SECONDS = 3; // planned beforehand: timers of a page in the background run once a second
const LOUDEST_CHANGE = 4; // 12 dB

export class Player extends EventTarget {
  #context = null;
  #rate = 0; // that the context was asked for, in Hz
  #sound = null;
  #run = null; // what is playing: its gains, the chunks planned, the next sample to plan and its time
  #at = 0; // samples, while paused
  #loop = null; // [from, to] in samples
  #gains = [];
  #timer = null;
  choice = "estimate";
  strength = 1;
  matched = true;

  // Takes another sound; the playhead stays, and goes on if it moved: a preview becomes the whole recording.
  load(sound, keepPlace) {
    const playing = keepPlace && this.playing;
    const place = keepPlace ? this.position : 0;
    this.pause();
    this.#sound = sound;
    if (!keepPlace) this.#loop = null;
    this.#at = this.#sample(place);
    if (playing) this.play();
    this.#tell();
  }

  unload() {
    this.pause();
    this.#sound = null;
    this.#loop = null;
    this.#tell();
  }

  close() {
    this.unload();
    this.#context?.close();
    this.#context = null;
  }

  get playing() {
    return this.#run !== null;
  }

  get seconds() {
    return this.#sound?.seconds ?? 0;
  }

  get position() {
    if (!this.#sound) return 0;
    return (this.#run ? this.#sampleNow() : this.#at) / this.#sound.sampleRate;
  }

  async play() {
    if (!this.#sound || this.#run) return;
    this.#prepare();
    if (this.#at >= this.#end() || (this.#loop && this.#at < this.#loop[0])) this.#at = this.#loop?.[0] ?? 0;
    this.#start(this.#at);
    await this.#context.resume();
  }

  pause() {
    if (!this.#run) return;
    this.#at = Math.min(this.#sampleNow(), this.#sound.nSamples);
    this.#stop();
    this.#tell();
  }

  seek(seconds) {
    if (!this.#sound) return;
    this.#at = this.#sample(seconds);
    if (this.#run) this.#start(this.#at);
    this.#tell();
  }

  setLoop(range) {
    if (!this.#sound) return;
    const at = this.#run ? this.#sampleNow() : this.#at;
    this.#loop = range && [this.#sample(range[0]), this.#sample(range[1])];
    const outside = this.#loop && (at < this.#loop[0] || at >= this.#loop[1]);
    if (this.#run) this.#start(outside ? this.#loop[0] : at);
    else if (outside) this.#at = this.#loop[0];
    this.#tell();
  }

  // Weights of (noisy, estimate) for what is chosen. The louder of the two is lowered, so nothing gets clipped.
  weights() {
    const s = this.strength;
    const { noisy, estimate, product } = this.#sound.power;
    const mixed = (1 - s) ** 2 * noisy + s * s * estimate + 2 * s * (1 - s) * product;
    const ratio = this.matched && noisy > 0 && mixed > 0 ? Math.sqrt(mixed / noisy) : 1;
    const factor = Math.min(Math.max(ratio, 1 / LOUDEST_CHANGE), LOUDEST_CHANGE);
    const lower = Math.min(1, factor); // for the original, and for the noise as it was in it
    if (this.choice === "noisy") return [lower, 0];
    if (this.choice === "noise") return [lower * s, -lower * s];
    return [1 - s, s].map((weight) => weight / Math.max(1, factor));
  }

  mix() {
    if (!this.#context || !this.#sound) return;
    const now = this.#context.currentTime;
    this.weights().forEach((weight, i) => {
      const { gain } = this.#gains[i];
      gain.cancelScheduledValues(now);
      gain.setValueAtTime(gain.value, now);
      gain.linearRampToValueAtTime(weight, now + FADE_SECONDS);
    });
  }

  // A context of the recording's rate plays its samples as they are, and the browser resamples once, at the end.
  #prepare() {
    if (this.#context && this.#rate === this.#sound.sampleRate) return this.mix();
    this.#context?.close();
    this.#rate = this.#sound.sampleRate;
    try {
      this.#context = new AudioContext({ sampleRate: this.#rate });
    } catch {
      this.#context = new AudioContext(); // the browser does not play that rate, and resamples piece by piece
    }
    this.#gains = this.weights().map((weight) => {
      const node = new GainNode(this.#context, { gain: weight });
      node.connect(this.#context.destination);
      return node;
    });
  }

  #sample(seconds) {
    return Math.round(Math.min(Math.max(seconds, 0), this.seconds) * this.#sound.sampleRate);
  }

  #end() {
    return this.#loop?.[1] ?? this.#sound.nSamples;
  }

  // From one sample on; a run that is under way fades out meanwhile.
  #start(from) {
    this.#stop();
    const when = this.#context.currentTime + START_SECONDS;
    const gains = this.#gains.map((to) => {
      const node = new GainNode(this.#context, { gain: 0 });
      node.gain.setValueAtTime(0, when);
      node.gain.linearRampToValueAtTime(1, when + FADE_SECONDS);
      node.connect(to);
      return node;
    });
    this.#run = { gains, chunks: [], sources: new Set(), place: from, when, waiting: false };
    this.#timer = setInterval(() => this.#plan(this.#run), 250);
    this.#plan(this.#run);
    this.#tell();
  }

  #stop() {
    const run = this.#run;
    if (!run) return;
    clearInterval(this.#timer);
    this.#run = null;
    const now = this.#context.currentTime;
    for (const { gain } of run.gains) {
      gain.cancelScheduledValues(now);
      gain.setValueAtTime(gain.value, now);
      gain.linearRampToValueAtTime(0, now + START_SECONDS);
    }
    for (const source of run.sources) source.stop(now + START_SECONDS);
  }

  // Plans piece after piece, until enough lies ahead. `place` is the first sample not planned yet, `when` its time.
  async #plan(run) {
    if (run.waiting) return;
    while (run === this.#run && run.when < this.#context.currentTime + AHEAD_SECONDS) {
      if (run.place >= this.#end()) {
        if (!this.#loop) return this.#finish(run);
        run.place = this.#loop[0];
      }
      const { pieceSamples, sampleRate } = this.#sound;
      const i = Math.floor(run.place / pieceSamples);
      let piece;
      run.waiting = true;
      try {
        piece = await this.#sound.piece(i);
      } catch (error) {
        if (run === this.#run) this.pause();
        this.dispatchEvent(new CustomEvent("failed", { detail: error }));
        return;
      } finally {
        run.waiting = false;
      }
      if (run !== this.#run) return;
      // A piece that came too late is played late, as the playhead waited for it.
      run.when = Math.max(run.when, this.#context.currentTime + (run.chunks.length ? 0.005 : 0));
      const offset = run.place - i * pieceSamples;
      const length = Math.min(piece[0].length - offset, this.#end() - run.place);
      piece.forEach((buffer, j) => {
        const source = new AudioBufferSourceNode(this.#context, { buffer });
        source.connect(run.gains[j]);
        source.start(run.when, offset / sampleRate, length / sampleRate);
        source.onended = () => run.sources.delete(source);
        run.sources.add(source);
      });
      run.chunks.push({ when: run.when, from: run.place, to: run.place + length });
      while (run.chunks[1]?.when < this.#context.currentTime - 1) run.chunks.shift();
      run.place += length;
      run.when += length / sampleRate;
    }
  }

  #finish(run) {
    if (this.#context.currentTime < run.when) return;
    this.#at = this.#sound.nSamples;
    this.#stop();
    this.#tell();
  }

  // Bluetooth loudspeakers are heard late; the playhead shows what is heard.
  #sampleNow() {
    const { chunks, place } = this.#run;
    const now = this.#context.currentTime - (this.#context.outputLatency || 0);
    const chunk = chunks.findLast(({ when }) => when <= now) ?? chunks[0];
    if (!chunk) return place;
    const passed = Math.round((now - chunk.when) * this.#sound.sampleRate);
    return Math.min(Math.max(chunk.from + passed, chunk.from), chunk.to);
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
