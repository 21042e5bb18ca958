"""Generated signals for the tests, speech-like and noise; the same seed gives the same samples."""

import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float64]

# In Hz: a, i, u, e, o.
FORMANTS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))


def speech_like(seconds: float, sample_rate: int, seed: int = 0) -> Signal:
    """Four syllables a second, each a vowel with some breath and a pause after it, shape (time,), peak 0.5.

    Harmonics of a gliding pitch up to 7 kHz or the Nyquist frequency under three formants, over faint noise,
    so that no frequency and no pause is digitally silent.
    """
    rng = np.random.default_rng(seed)
    n = round(seconds * sample_rate)
    t = np.arange(n) / sample_rate
    pitch = rng.uniform(100, 200)
    phase = 2 * np.pi * pitch * (t - 0.03 * np.cos(2 * np.pi * 1.5 * t))
    rate = pitch * (1 + 0.03 * 2 * np.pi * 1.5 * np.sin(2 * np.pi * 1.5 * t))
    signal = np.zeros(n)
    for k in range(int(4 * seconds) + 1):
        part = slice(*np.clip(np.round(np.array([k, k + 0.75]) / 4 * sample_rate), 0, n).astype(int))
        vowel, level = FORMANTS[rng.integers(len(FORMANTS))], rng.uniform(0.3, 1)
        envelope = level * np.sin(np.pi * (t[part] * 4 - k) / 0.75) ** 2
        for h in range(1, int(min(7000, 0.95 * sample_rate / 2) / (1.1 * 1.3 * pitch))):
            f = h * rate[part]
            gain = sum(1 / (1 + ((f - formant) / 90) ** 2) for formant in vowel) + 0.02
            signal[part] += envelope * gain * np.sin(h * phase[part])
        signal[part] += 0.1 * envelope * rng.standard_normal(len(envelope))
    signal += 0.002 * rng.standard_normal(n)
    return 0.5 * signal / np.max(np.abs(signal))


def white(seconds: float, sample_rate: int, seed: int = 0) -> Signal:
    """White Gaussian noise, shape (time,), power 1."""
    return np.random.default_rng(seed).standard_normal(round(seconds * sample_rate))
