"""Resampling in phase with the input, of a whole signal or block by block with the same result to the bit."""

import numpy as np
import soxr

from miase.errors import AudioError
from miase.sounds import Samples

# Rates outside are headers that lie, and resampling from or to them would fill the memory.
_MIN_SAMPLE_RATE, _MAX_SAMPLE_RATE = 1_000, 768_000


def resampled_length(n_frames: int, source_rate: int, target_rate: int) -> int:
    """Return n_frames * target_rate / source_rate, rounded to the nearest integer and halves up."""
    return (2 * n_frames * target_rate + source_rate) // (2 * source_rate)


def check_rate(sample_rate: int, what: str) -> None:
    """Refuse a rate that no recording has; `what` begins the message, as "cannot resample to"."""
    if not _MIN_SAMPLE_RATE <= sample_rate <= _MAX_SAMPLE_RATE:
        allowed = f"{_MIN_SAMPLE_RATE} to {_MAX_SAMPLE_RATE} Hz"
        raise AudioError(f"{what} {sample_rate} Hz; allowed are {allowed}")


def resample(samples: Samples, source_rate: int, target_rate: int) -> Samples:
    """Return `samples` at `target_rate`, in phase with the input (zero delay).

    Args:
        samples: shape (channel, time) or (time,).
        source_rate: in Hz.
        target_rate: in Hz.

    Returns:
        As many axes as `samples`, with resampled_length(time, source_rate, target_rate) samples.

    Raises:
        AudioError: a rate is out of bounds.
    """
    whole = StreamResampler(source_rate, target_rate, 1 if samples.ndim == 1 else samples.shape[0])
    return whole.process(np.atleast_2d(samples), last=True).reshape(*samples.shape[:-1], -1)


class StreamResampler:
    """Resamples a signal block by block; the outputs joined equal `resample` of the whole, to the bit.

    Args:
        source_rate: in Hz.
        target_rate: in Hz.
        n_channels: channels of each block.

    Raises:
        AudioError: a rate is out of bounds.
    """

    def __init__(self, source_rate: int, target_rate: int, n_channels: int) -> None:
        check_rate(source_rate, "cannot resample from")
        check_rate(target_rate, "cannot resample to")
        self._stream = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, n_channels, "float32", "HQ")

    def process(self, block: Samples, last: bool = False) -> Samples:
        """Return the output that `block` completes, with no, fewer or more frames than it has.

        Args:
            block: shape (channel, time); time may be 0.
            last: the signal ends with `block`, and what was held back comes out. Nothing may follow.

        Returns:
            Shape (channel, time).
        """
        if self._stream is None:
            return block
        frames = np.ascontiguousarray(block.T, dtype=np.float32)
        return np.ascontiguousarray(self._stream.resample_chunk(frames, last=last).T)


def resampling_delay(source_rate: int, target_rate: int) -> float:
    """Seconds that a resampler holds back, at most."""
    resampler = StreamResampler(source_rate, target_rate, 1)
    step = max(1, source_rate // 100)
    silence = np.zeros((1, step), np.float32)
    given, longest = 0, 0.0
    for i in range(1, 101):
        longest = max(longest, i * step / source_rate - given / target_rate)
        given += resampler.process(silence).shape[1]
    return longest
