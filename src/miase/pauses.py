"""Noise from the recordings themselves: what is heard while nobody speaks."""

import numpy as np
import numpy.typing as npt

from miase.sounds import Samples

FRAME_SECONDS = 0.02
SMOOTH_FRAMES = 5  # a pause is quiet for longer than the gaps within a word
QUIET_SHARE = 0.15  # of the frames; read speech pauses for about a fifth of its time
FLOOR_QUANTILE = 0.05  # of the power: what is left where nobody speaks
LEAST_SECONDS = 0.08  # of a stretch
LEAST_GAP_SECONDS = 0.12  # of a stretch where an estimate is quiet
GAP_DB = 6.0  # that the estimate lies below what it removes there
LEAST_CONTRAST_DB = 3.0  # between loud and quiet frames; with less there is no telling speech from noise


def cut_pauses(samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples | None:
    """The quietest stretches of a recording, one after the other, cross-faded.

    Args:
        samples: noisy speech, (time,); some seconds of it.
        sample_rate: in Hz.
        rng: decides in which order the stretches come.

    Returns:
        Noise, (time,), shorter than the recording; None where nothing stands out as a pause.
    """
    length = round(FRAME_SECONDS * sample_rate)
    smooth = smooth_power(samples, length)
    if len(smooth) < 4 * SMOOTH_FRAMES:
        return None
    quiet, loud = np.quantile(smooth, (QUIET_SHARE, 0.9))
    if quiet <= 1e-12 or 10 * np.log10(loud / quiet) < LEAST_CONTRAST_DB:
        return None
    stretches = _stretches(samples, smooth <= quiet, length, LEAST_SECONDS)
    if not stretches:
        return None
    order = rng.permutation(len(stretches))
    return _joined([stretches[i] for i in order], length // 2)


def cut_gaps(noisy: Samples, estimate: Samples, sample_rate: int) -> Samples | None:
    """What is heard where an estimate of the speech is quiet, one stretch after the other, cross-faded.

    The quietest stretches of a recording hold the noise at its faintest; these hold it as it is.

    Args:
        noisy: recording, (time,).
        estimate: of its speech, (time,).
        sample_rate: in Hz.

    Returns:
        Noise, (time,); None where the estimate is nowhere quiet.
    """
    length = round(FRAME_SECONDS * sample_rate)
    speech, noise = smooth_power(estimate, length), smooth_power(noisy - estimate, length)
    stretches = _stretches(noisy, speech < noise * 10 ** (-GAP_DB / 10), length, LEAST_GAP_SECONDS)
    return _joined(stretches, length // 2) if stretches else None


def estimated_snr(samples: Samples, sample_rate: int) -> float:
    """SNR of noisy speech by the power of its pauses, in dB; no clean speech is needed.

    10 log10((P - Q) / Q), P the mean power and Q the 5 % quantile of the power of 100 ms: noise that is
    steady is as strong beneath the words. Noise that comes and goes is taken for speech, and the estimate
    is then too high; `docs/adaptation.md` has its error on mixtures of known SNR.

    Args:
        samples: noisy speech, (time,).
        sample_rate: in Hz.

    Returns:
        dB, from -20 to 60; NaN for a recording that is shorter than 0.4 s or silent.
    """
    smooth = smooth_power(samples, round(FRAME_SECONDS * sample_rate))
    if len(smooth) < 4 * SMOOTH_FRAMES or not smooth.any():
        return float("nan")
    mean, quiet = float(smooth.mean()), float(np.quantile(smooth, FLOOR_QUANTILE))
    ratio = (mean - quiet) / max(quiet, 1e-6 * mean)
    return float(np.clip(10 * np.log10(max(ratio, 1e-2)), -20.0, 60.0))


def level_spread(noise: Samples, sample_rate: int) -> float:
    """How much the level of a noise comes and goes: the standard deviation of the power of 100 ms, in dB.

    Args:
        noise: (time,).
        sample_rate: in Hz.

    Returns:
        dB: about 1 for an engine, 8 for gun shots; 0 for less than 0.1 s.
    """
    smooth = smooth_power(noise, round(FRAME_SECONDS * sample_rate))
    return float(np.std(10 * np.log10(smooth + 1e-9))) if smooth.size else 0.0


def smooth_power(samples: Samples, length: int) -> npt.NDArray[np.float64]:
    """Mean power of each frame of ``length`` samples and its neighbours, (frame,)."""
    n_frames = len(samples) // length
    if n_frames < SMOOTH_FRAMES:
        return np.zeros(0)
    power = np.square(samples[: n_frames * length].reshape(n_frames, length), dtype=np.float64).mean(1)
    ones = np.ones(SMOOTH_FRAMES) / SMOOTH_FRAMES
    return np.convolve(np.pad(power, SMOOTH_FRAMES // 2, "edge"), ones, "valid")


def _stretches(
    samples: Samples, chosen: npt.NDArray[np.bool_], length: int, least_seconds: float
) -> list[Samples]:
    """The samples of chosen frames, (frame,), that follow each other for long enough."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False]))))
    return [
        samples[start * length : stop * length]
        for start, stop in edges.reshape(-1, 2)
        if (stop - start) * FRAME_SECONDS >= least_seconds
    ]


def _joined(stretches: list[Samples], seam: int) -> Samples:
    """Stretches end to end, each faded into the next at equal power over ``seam`` samples."""
    rise = np.sin(np.linspace(0, np.pi / 2, seam, dtype=np.float32))
    joined = stretches[0]
    for stretch in stretches[1:]:
        crossing = joined[-seam:] * rise[::-1] + stretch[:seam] * rise
        joined = np.concatenate((joined[:-seam], crossing, stretch[seam:]))
    return joined
