"""Noise made of voices: babble of several recordings at once, and steady noise with their mean spectrum.

    python recipes/voices.py RECORDINGS OUT [--babble 220] [--steady 60]

RECORDINGS is a folder such as the targets of halfway.py. No other speech is needed to learn to take
away the voices of others.
"""

import argparse
from pathlib import Path

import numpy as np

from miase.audio import load
from miase.sounds import find_sounds
from miase.writing import SoundWriter

SAMPLE_RATE = 16000
SECONDS = 12
RMS = 0.05
N_FFT = 512


def main() -> None:
    """Parse the command and write the noises."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--babble", type=int, default=220, help="files of babble")
    parser.add_argument("--steady", type=int, default=60, help="files of steady noise")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    paths = find_sounds(arguments.recordings)
    rng = np.random.default_rng(arguments.seed)
    for kind, n, make in (("babble", arguments.babble, babble), ("shaped", arguments.steady, steady)):
        for i in range(n):
            noise = make(paths, rng)
            noise = RMS * noise / np.sqrt(np.square(noise).mean())
            with SoundWriter(arguments.out / f"{kind}{i:03d}.flac", SAMPLE_RATE, 1, overwrite=True) as writer:
                writer.write(noise[None].astype(np.float32))


def babble(paths: list[Path], rng: np.random.Generator) -> np.ndarray:
    """Three to eight voices at once, at levels up to 6 dB apart."""
    n_voices = int(rng.integers(3, 9))
    gains = 10 ** (rng.uniform(-6, 0, n_voices) / 20)
    return sum(gain * voice(paths, rng) for gain in gains)


def steady(paths: list[Path], rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise with the mean power spectrum of a voice."""
    speech = voice(paths, rng)
    n = len(speech)
    frames = speech[: n // N_FFT * N_FFT].reshape(-1, N_FFT) * np.hanning(N_FFT)
    magnitude = np.sqrt((np.abs(np.fft.rfft(frames)) ** 2).mean(0))
    bins = np.linspace(0, N_FFT // 2, n // 2 + 1)
    envelope = np.interp(bins, np.arange(N_FFT // 2 + 1), magnitude)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * envelope, n)


def voice(paths: list[Path], rng: np.random.Generator) -> np.ndarray:
    """Recordings one after the other, each at an RMS of 1, for SECONDS."""
    n, parts = SECONDS * SAMPLE_RATE, []
    while sum(map(len, parts)) < n:
        samples, _ = load(paths[rng.integers(len(paths))], SAMPLE_RATE)
        parts.append(samples[0] / np.sqrt(np.square(samples[0]).mean() + 1e-9))
    return np.concatenate(parts)[:n]


if __name__ == "__main__":
    main()
