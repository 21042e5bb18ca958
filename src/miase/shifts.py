"""Several passes over one signal, each begun at another place of the network's grid, and their mean.

A network with strides of many frames gives another estimate when the same sound comes a little later. What
the passes have in common is speech; what they get wrong differs, and the mean has less of it.
"""

from collections.abc import Callable

import numpy as np

from miase.sounds import Samples
from miase.streamer import Aligned, ChannelStream


def shifted(
    open_stream: Callable[[bool], ChannelStream], n_shifts: int, frame_stride: int, hop_length: int
) -> Callable[[bool], ChannelStream]:
    """What makes streams of ``n_shifts`` passes, of what makes those of one.

    Args:
        open_stream: makes a stream, with one output or with three; see `miase.streamer.Streamer`.
        n_shifts: passes; with one, ``open_stream`` itself is what is given.
        frame_stride: frames after which the network would do the same again.
        hop_length: samples from frame to frame.
    """
    if n_shifts == 1:
        return open_stream
    # A frame more than the stride: so the shifts are spread over the frame, too.
    span = (frame_stride + 1) * hop_length
    return lambda with_cut: ShiftedStreams(lambda: open_stream(with_cut), n_shifts, span)


class ShiftedStreams:
    """One channel through several streams, each after silence of another length; the mean of what they give.

    y = 1/N sum_i D_i^-1 f(D_i x), D_i a delay by i T / N samples, i = 0 ... N - 1: the shifts of Defossez et
    al. (2019), which are random there, spread evenly.

    Args:
        open_stream: makes one of the streams.
        n_shifts: N, how many there are.
        span: T, in samples.
    """

    def __init__(self, open_stream: Callable[[], ChannelStream], n_shifts: int, span: int) -> None:
        # Samples of each that are still to be left out.
        self._n_silent = [i * span // n_shifts for i in range(n_shifts)]
        self._streams = [open_stream() for _ in self._n_silent]
        self._aligned = Aligned()
        silence = [np.zeros(n_silent, np.float32) for n_silent in self._n_silent]
        self._heard([s.feed(zeros) for s, zeros in zip(self._streams, silence, strict=True)])

    @property
    def latency(self) -> int:
        """Samples that are taken, at most, before the first of them is given.

        A stream that began with silence is as far behind as one without, at other places of the grid.
        """
        return max(stream.latency for stream in self._streams)

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """As `miase.streaming.ModelStream.feed`."""
        outputs = self._heard([stream.feed(samples, last=last) for stream in self._streams])
        mean: Samples = np.mean(outputs, axis=0, dtype=np.float32)
        return mean

    def _heard(self, outputs: list[Samples]) -> list[Samples]:
        """The same without the silence before, as far as all of them have come."""
        heard = []
        for i, output in enumerate(outputs):
            n_silent = min(self._n_silent[i], output.shape[1])
            self._n_silent[i] -= n_silent
            heard.append(output[:, n_silent:])
        return self._aligned.feed(*heard)
