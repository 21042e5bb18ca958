"""Fit a noise to the length of an utterance, scale it to a stated SNR and add it.

What is random (where to crop) is drawn from a generator first and applied afterwards, so that a mixture can
be repeated. SNR is the power ratio over the whole utterance, 10 log10(sum clean^2 / sum noise^2), pauses
included. The noise is scaled after it was fitted: power taken from the clip before it is cropped or repeated
gives another SNR than the asked one.
"""

import math
from dataclasses import dataclass

import numpy as np

from miase.errors import CorpusError
from miase.sounds import Samples

SILENCE_DBFS = -90.0  # one step of 16-bit audio; anything below is digital silence
PEAK = 0.99  # largest absolute sample of a mixture
SEAM = 160  # samples of cross-fade where a repeated noise meets itself: 10 ms at 16 kHz


@dataclass(frozen=True)
class Mixture:
    """An utterance with noise: noisy = clean + noise, each of shape (time,), float32."""

    noisy: Samples
    clean: Samples
    noise: Samples
    gain: float
    """What all three were multiplied with so that none exceeds `PEAK`; 1.0 when none did."""


def fit_length(noise: Samples, n: int, rng: np.random.Generator, *, seam: int = SEAM) -> Samples:
    """Crop or repeat a noise to `n` samples from a random start.

    Args:
        noise: shape (time,). Longer than `n`: a crop is taken, never a silent one. Shorter: it is repeated
            as often as needed, each end cross-faded into the next beginning at equal power.
        n: samples wanted.
        rng: where the start is drawn from.
        seam: length of the cross-fade in samples; at most half of the noise is used.

    Returns:
        Shape (n,).

    Raises:
        CorpusError: the noise is silent.
    """
    if n == 0:
        return noise[:0]
    if noise.size < n and not is_silent(noise):
        noise = _loop(noise, min(seam, noise.size // 2))
        start = int(rng.integers(noise.size))
    else:
        start = draw_crop(noise, n, rng)
    return crop(noise, n, start)


def draw_crop(noise: Samples, n: int, rng: np.random.Generator) -> int:
    """Draw where a crop of `n` samples starts that is not silent, in `noise` of shape (time,), time >= n.

    Raises:
        CorpusError: every crop is silent.
    """
    start = int(rng.integers(noise.size - n + 1)) if noise.size > n else 0
    if not is_silent(noise[start : start + n]):
        return start
    energy = np.concatenate(([0.0], np.cumsum(noise.astype(np.float64) ** 2)))
    audible = np.flatnonzero(energy[n:] - energy[:-n] > n * 10 ** (SILENCE_DBFS / 10))
    if not audible.size:
        raise CorpusError(f"the noise is silent (below {SILENCE_DBFS:g} dBFS); remove it or take another one")
    return int(rng.choice(audible))


def crop(noise: Samples, n: int, start: int) -> Samples:
    """Take `n` samples of `noise`, shape (time,), from `start`, going on at its beginning when it ends."""
    return np.take(noise, np.arange(start, start + n), mode="wrap")


def mix_at_snr(clean: Samples, noise: Samples, snr_db: float) -> Mixture:
    """Add a noise to an utterance at a stated SNR.

    The SNR is the power ratio over the whole utterance, 10 log10(sum clean^2 / sum noise^2). The utterance
    keeps its level unless a peak would exceed `PEAK`: then clean, noise and noisy are lowered together, which
    keeps the SNR.

    Args:
        clean: shape (time,).
        noise: shape (time,), the same length; see `fit_length`.
        snr_db: in dB.

    Raises:
        CorpusError: one of the two is silent or not finite, or their lengths differ.
    """
    if clean.shape != noise.shape or clean.ndim != 1:
        raise CorpusError(
            f"speech {clean.shape} and noise {noise.shape} must both have shape (time,); fit the noise first"
        )
    for name, samples in (("speech", clean), ("noise", noise)):
        if not np.isfinite(samples).all():
            raise CorpusError(f"the {name} holds samples that are not finite numbers; repair or remove it")
        if is_silent(samples):
            raise CorpusError(
                f"the {name} is silent (below {SILENCE_DBFS:g} dBFS), so it has no SNR; remove it"
            )
    scale = math.sqrt(_energy(clean) / _energy(noise) * 10 ** (-snr_db / 10))
    clean = clean.astype(np.float32)
    noise = (noise * scale).astype(np.float32)
    noisy = clean + noise
    peak = max(float(np.abs(samples).max()) for samples in (noisy, clean, noise))
    gain = min(1.0, PEAK / peak)
    if gain < 1:
        clean, noise, noisy = (samples * np.float32(gain) for samples in (clean, noise, noisy))
    return Mixture(noisy=noisy, clean=clean, noise=noise, gain=gain)


def _energy(samples: Samples) -> float:
    # Not a dot product: BLAS may add in another order on another number of threads.
    return float(np.sum(np.square(samples, dtype=np.float64)))


def is_silent(samples: Samples) -> bool:
    """Whether samples of shape (time,) hold nothing above `SILENCE_DBFS`."""
    return samples.size == 0 or _energy(samples) <= samples.size * 10 ** (SILENCE_DBFS / 10)


def _loop(noise: Samples, seam: int) -> Samples:
    """Shorten `noise` by `seam` samples so that its end runs into its beginning without a step."""
    if not seam:
        return noise
    angle = (np.arange(seam, dtype=np.float32) + 0.5) * np.float32(0.5 * math.pi / seam)
    joint = noise[:seam] * np.sin(angle) + noise[-seam:] * np.cos(angle)
    return np.concatenate((joint, noise[seam:-seam]))
