"""One sound of any rate and number of channels through a model, block by block."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from miase.config import EnhanceConfig
from miase.errors import AudioError
from miase.resampling import StreamResampler, resampling_delay
from miase.sounds import Samples, check_finite

MOST_CHANNELS = 64  # an array with more is taken for one of shape (time, channel)


class ChannelStream(Protocol):
    """One channel at the model's rate.

    Attributes:
        latency: samples that are taken, at most, before the first of them is given.
    """

    @property
    def latency(self) -> int:  # noqa: D102 - above
        ...

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """(time,) -> (stream, time): the estimate, or the estimate, the input and the share to cut."""
        ...


class Aligned:
    """Streams that come at different times, given as far as all of them have come."""

    def __init__(self) -> None:
        self._held: list[Samples] = []

    def feed(self, *pieces: Samples) -> list[Samples]:
        """The next (channel, time) of each; gives as many samples of each."""
        held = self._held or [piece[:, :0] for piece in pieces]
        joined = [np.concatenate(both, axis=1) for both in zip(held, pieces, strict=True)]
        n_given = min(stream.shape[1] for stream in joined)
        self._held = [stream[:, n_given:] for stream in joined]
        return [stream[:, :n_given] for stream in joined]


class Streamer:
    """Takes a sound in blocks of any size and gives its estimate, in step with it and as long as it.

    Made by `Enhancer.streamer`. For one sound; flush it and make another for the next.

    Attributes:
        latency_seconds: how long a sample may take from `feed` to coming out, computing time not counted:
            what the model waits for, the samples that go through it at once, and the resampling.

    Args:
        sample_rate: of the blocks, in Hz.
        model_rate: of the model, in Hz.
        n_channels: of the blocks.
        config: how to enhance.
        open_stream: makes the stream of a channel, with one output or with three.
        gives_noise: give what the model removes at full strength, instead of the estimate.
    """

    def __init__(
        self,
        sample_rate: int,
        model_rate: int,
        n_channels: int,
        config: EnhanceConfig,
        open_stream: Callable[[bool], ChannelStream],
        *,
        gives_noise: bool = False,
    ) -> None:
        self.sample_rate, self.n_channels = sample_rate, n_channels
        self._config, self._gives_noise = config, gives_noise
        with_cut = sample_rate != model_rate
        self._n_streams = 3 * n_channels if with_cut else n_channels
        self._to_model = StreamResampler(sample_rate, model_rate, n_channels)
        self._from_model = StreamResampler(model_rate, sample_rate, self._n_streams)
        self._channels = [open_stream(with_cut) for _ in range(n_channels)]
        self._originals = np.zeros((n_channels, 0), np.float32)  # that wait for their estimate
        self._ended = False
        self._flat = False  # whether the blocks are (time,)
        self.latency_seconds = self._channels[0].latency / model_rate
        if with_cut:
            self.latency_seconds += resampling_delay(sample_rate, model_rate) + resampling_delay(
                model_rate, sample_rate
            )

    def feed(self, block: NDArray[np.floating]) -> Samples:
        """Take the next samples and give the estimates that are complete.

        Args:
            block: floats at full scale 1.0, (channel, time), or (time,) for one channel; of any length.

        Returns:
            float32 of as many axes, with no, fewer or more samples.

        Raises:
            AudioError: the samples are no finite floats, their shape is not one of the two, or the stream was
                flushed.
        """
        samples = self._checked(block)
        self._flat = block.ndim == 1
        return self._shaped(self._advance(samples, last=False))

    def flush(self) -> Samples:
        """Give what is left, of as many axes as the blocks; the sound has ended, and nothing may follow."""
        return self._shaped(self._advance(np.zeros((self.n_channels, 0), np.float32), last=True))

    def _shaped(self, samples: Samples) -> Samples:
        return samples[0] if self._flat else samples

    def _advance(self, block: Samples, *, last: bool) -> Samples:
        if self._ended:
            raise AudioError("this stream was flushed; make a new one for the next sound")
        self._ended = last
        self._originals = np.concatenate((self._originals, block), axis=1)
        at_model_rate = self._to_model.process(block, last)
        outputs = [
            stream.feed(channel, last=last)
            for stream, channel in zip(self._channels, at_model_rate, strict=True)
        ]
        # (channel, stream, time) -> all estimates, then all inputs, then all shares
        streams = np.stack(outputs, axis=1).reshape(self._n_streams, -1)
        streams = self._from_model.process(streams, last)
        n_samples = self._originals.shape[1] if last else min(streams.shape[1], self._originals.shape[1])
        if streams.shape[1] < n_samples:  # resampling there and back may give a sample less
            streams = np.pad(streams, ((0, 0), (0, n_samples - streams.shape[1])))
        original, self._originals = self._originals[:, :n_samples], self._originals[:, n_samples:]
        removed = _noise_of(original, streams[:, :n_samples], self._config)
        return removed if self._gives_noise else take_away(original, removed, self._config)

    def _checked(self, block: NDArray[np.floating]) -> Samples:
        samples = checked(block, self.sample_rate, empty=True)
        if len(samples) != self.n_channels:
            raise AudioError(f"the block has {len(samples)} channels; this stream has {self.n_channels}")
        return samples


def take_away(original: Samples, removed: Samples, config: EnhanceConfig) -> Samples:
    """The original less the share of the removed noise that ``config`` asks for, (channel, time) each.

    Subtracting leaves the original to the bit where nothing is removed.
    """
    kept: Samples = original - np.float32(config.share_removed) * removed
    return kept


def _noise_of(original: Samples, streams: Samples, config: EnhanceConfig) -> Samples:
    """What the model removes from the original at full strength.

    With the rates alike the streams are the estimate; else the estimate, the input within the model's band
    and the share to cut of what lies above it.
    """
    n_channels = len(original)
    if len(streams) == n_channels:
        removed = original - streams
    else:
        estimate, in_band, cut = streams.reshape(3, n_channels, -1)
        removed = in_band - estimate
        above = original - in_band
        if config.high_band in ("follow", "hear"):  # what is heard is below the model's rate
            removed = removed + np.clip(cut, 0, 1) * above
        elif config.high_band == "drop":
            removed = removed + above
    return removed


def checked(array: NDArray[np.floating], sample_rate: int, *, empty: bool = False) -> Samples:
    """(time,) or (channel, time) floats -> (channel, time) float32.

    Args:
        array: samples at full scale 1.0.
        sample_rate: in Hz.
        empty: whether there may be none.

    Raises:
        AudioError: the samples are no finite floats, or their shape is not one of the two.
    """
    if array.ndim not in (1, 2) or (array.size == 0 and not empty):
        raise AudioError(
            f"the samples have shape {array.shape}; it must be (time,) or (channel, time), not empty"
        )
    if array.ndim == 2 and len(array) > MOST_CHANNELS:
        raise AudioError(
            f"the samples have shape {array.shape}, which would be {len(array)} channels; "
            f"transpose to (channel, time)"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(
            f"the samples are {array.dtype}; give floats at full scale 1.0 (16-bit integers / 32768)"
        )
    if sample_rate < 1:
        raise AudioError(f"the sample rate is {sample_rate} Hz; it must be 1 or more")
    samples = np.atleast_2d(array).astype(np.float32)
    check_finite(samples, "array", sample_rate)
    return samples
