// The microphone as a WAV file, which the server reads without ffmpeg; what MediaRecorder writes would need it.

export const canRecord = () => Boolean(navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode);

export class Recording {
  #blocks = [];
  #nSamples = 0;

  // What the browser would do against noise is switched off: it is what the model is for.
  // onBlock is called with the seconds and megabytes so far, and the highest of the last samples.
  async start(onBlock) {
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 },
    });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule(new URL("recorder-worklet.js", import.meta.url));
    const source = this.context.createMediaStreamSource(this.stream);
    const recorder = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 0 });
    recorder.port.onmessage = ({ data }) => {
      const peak = data.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
      this.#nSamples += data.length;
      this.#blocks.push(as16Bit(data));
      onBlock(this.#nSamples / this.context.sampleRate, 2e-6 * this.#nSamples, peak);
    };
    source.connect(recorder);
  }

  // The sound so far, as a file with the time in its name; the microphone is let go.
  async stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    const sampleRate = this.context?.sampleRate;
    await this.context?.close();
    if (!this.#nSamples) return null;
    const time = new Date().toLocaleString("sv").replaceAll(":", ".");
    return new File([header(this.#nSamples, sampleRate), ...this.#blocks], `recording ${time}.wav`, { type: "audio/wav" });
  }
}

function as16Bit(samples) {
  return Int16Array.from(samples, (sample) => Math.round(32767 * Math.min(1, Math.max(-1, sample))));
}

// The 44 bytes in front of the samples of a WAV file of one channel.
function header(nSamples, sampleRate) {
  const view = new DataView(new ArrayBuffer(44));
  const word = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, 36 + 2 * nSamples, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of the format
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channel
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 2 * sampleRate, true); // bytes per second
  view.setUint16(32, 2, true); // bytes per frame
  view.setUint16(34, 16, true); // bits per sample
  word(36, "data");
  view.setUint32(40, 2 * nSamples, true);
  return view.buffer;
}
