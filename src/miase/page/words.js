// Times, rates, states and scores in words.

export function clock(seconds) {
  const whole = Math.floor(seconds + 1e-6);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export const tenths = (seconds) => `${clock(seconds)}.${Math.floor(10 * (seconds % 1) + 1e-6) % 10}`;

export function left(seconds) {
  if (seconds == null) return "";
  if (seconds < 60) return `about ${Math.max(1, Math.round(seconds))} s left`;
  return `about ${Math.round(seconds / 60)} min left`;
}

export const kilohertz = (rate) => `${(rate / 1000).toLocaleString("en", { maximumFractionDigits: 2 })} kHz`;

const percent = (share) => `${Math.round(100 * share)} %`;

export function channels(n) {
  return { 1: "mono", 2: "stereo" }[n] ?? `${n} channels`;
}

export function stateText(item) {
  const doing = item.stage === "preview" ? "Making a preview" : "Enhancing all of it";
  const texts = {
    waiting: () => "Waiting for its turn",
    sending: () => `Sending, ${percent(item.progress)}`,
    busy: () => `The server is busy; trying again in ${item.retrySeconds} s`,
    queued: () => (item.position ? `In the queue, ${item.position} before it` : "In the queue"),
    running: () => [`${doing}, ${percent(item.progress)}`, left(item.secondsLeft)].filter(Boolean).join(", "),
    done: () => {
      const { seconds, sample_rate: rate, n_channels: n } = item.job;
      return `Done · ${seconds < 60 ? `${seconds.toFixed(seconds < 1 ? 2 : 1)} s` : clock(seconds)} · ${kilohertz(rate)}, ${channels(n)}`;
    },
    cancelled: () => "Cancelled",
    failed: () => item.error,
  };
  return texts[item.state]();
}

// Steps of the scale that the raters behind DNSMOS used (ITU-T P.835), from 1 to 5.
const STEPS = ["bad", "poor", "fair", "good", "excellent"];
export const step = (score) => STEPS[Math.min(4, Math.max(0, Math.round(score) - 1))];

// Changes that mean little: DNSMOS says as much of the same speech in other noise.
const EVEN = 0.1;
const MUCH = 0.5; // from here on, the command warns too

export function scoresSentence({ noisy, estimate }) {
  const background = estimate.BAK - noisy.BAK;
  const speech = estimate.SIG - noisy.SIG;
  if ([noisy.BAK, noisy.SIG, estimate.BAK, estimate.SIG].includes(null)) return "It cannot be rated: too short or too quiet.";
  const first =
    background > EVEN ? "The background is quieter" : background < -EVEN ? "The background got worse" : "The background is about as before";
  if (speech > EVEN) return `${first}; the speech sounds clearer.`;
  if (speech >= -EVEN) return `${first}; the speech sounds about as clear as before.`;
  if (speech >= -MUCH) return `${first}; the speech sounds a little less clear.`;
  return `${first}; the speech sounds less clear. Listen to it, and try a lower strength.`;
}
