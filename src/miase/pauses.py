"""Noise from the recordings themselves: what is heard while nobody speaks."""

import numpy as np

from miase.sounds import Samples

FRAME_SECONDS = 0.02
SMOOTH_FRAMES = 5  # a pause is quiet for longer than the gaps within a word
QUIET_SHARE = 0.15  # of the frames; read speech pauses for about a fifth of its time
LEAST_SECONDS = 0.08  # of a stretch
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
    n_frames = len(samples) // length
    if n_frames < 4 * SMOOTH_FRAMES:
        return None
    power = np.square(samples[: n_frames * length].reshape(n_frames, length), dtype=np.float64).mean(1)
    smooth = np.convolve(
        np.pad(power, SMOOTH_FRAMES // 2, "edge"), np.ones(SMOOTH_FRAMES) / SMOOTH_FRAMES, "valid"
    )
    quiet, loud = np.quantile(smooth, (QUIET_SHARE, 0.9))
    if quiet <= 1e-12 or 10 * np.log10(loud / quiet) < LEAST_CONTRAST_DB:
        return None
    edges = np.flatnonzero(np.diff(np.concatenate(([False], smooth <= quiet, [False]))))
    stretches = [
        samples[start * length : stop * length]
        for start, stop in edges.reshape(-1, 2)
        if (stop - start) * FRAME_SECONDS >= LEAST_SECONDS
    ]
    if not stretches:
        return None
    order = rng.permutation(len(stretches))
    return _joined([stretches[i] for i in order], length // 2)


def _joined(stretches: list[Samples], seam: int) -> Samples:
    """Stretches end to end, each faded into the next at equal power over ``seam`` samples."""
    rise = np.sin(np.linspace(0, np.pi / 2, seam, dtype=np.float32))
    joined = stretches[0]
    for stretch in stretches[1:]:
        crossing = joined[-seam:] * rise[::-1] + stretch[:seam] * rise
        joined = np.concatenate((joined[:-seam], crossing, stretch[seam:]))
    return joined
