"""Long signals in constant memory: segments with context on both sides, joined by short cross-fades."""

from collections.abc import Callable, Iterator

import numpy as np

from miase.sounds import Samples


class SegmentStream:
    """Applies ``process`` to a stream as if to the whole signal.

    Each call of it sees ``segment`` samples with ``context`` more on each side, which are thrown away but for
    half a cross-fade:

        call k        [ context |      segment      | context ]
        call k + 1                      [ context |      segment      | context ]
        kept          ...................x                    x..........

    A ``process`` whose result at a sample depends on no more than ``context`` samples around it gives what it
    would give for the whole signal, and one that gives its input back gives the stream back to the bit.

    Args:
        process: (channel, time) -> (output, time), without delay.
        segment: samples that are new in each call.
        context: samples on each side; at least half of ``fade``.
        fade: samples of the cross-fade between segments.
        n_outputs: of ``process``.
    """

    def __init__(
        self, process: Callable[[Samples], Samples], segment: int, context: int, fade: int, n_outputs: int = 1
    ) -> None:
        self._process, self._segment, self._context = process, segment, context
        self._half = fade // 2
        self._rise = ((np.arange(2 * self._half) + 0.5) / max(1, 2 * self._half)).astype(np.float32)
        self._held: list[Samples] = []
        self._n_held = 0
        self._lead = 0  # samples of context at the start of what is held
        self._tail: Samples | None = None  # the last call's view of the samples around the border
        self._nothing = np.zeros((n_outputs, 0), np.float32)

    @property
    def latency(self) -> int:
        """Samples that are taken, at most, before the first of them is given."""
        return self._segment + 2 * self._context + self._half + 1

    def feed(self, block: Samples, *, last: bool = False) -> Samples:
        """Take the next samples and give what they complete.

        Args:
            block: (channel, time), of any length.
            last: the signal ends with it; nothing may follow.

        Returns:
            (output, time), together as long as the input.
        """
        self._held.append(block)
        self._n_held += block.shape[1]
        pieces = [self._nothing]
        while self._n_held > self._lead + self._segment + 2 * self._context:
            buffer = np.concatenate(self._held, axis=1)
            pieces += self._emit(buffer[:, : self._lead + self._segment + self._context], self._segment)
            self._held = [buffer[:, self._lead + self._segment - self._context :]]
            self._n_held = self._held[0].shape[1]
            self._lead = self._context
        if last and self._n_held:
            pieces += self._emit(np.concatenate(self._held, axis=1), None)
        return np.concatenate(pieces, axis=1)

    def _emit(self, buffer: Samples, n_core: int | None) -> Iterator[Samples]:
        result = self._process(buffer)
        start, half = self._lead, self._half
        if self._tail is not None:
            head = result[:, start - half : start + half]
            width = min(head.shape[1], self._tail.shape[1])
            tail = self._tail[:, :width]
            yield tail + self._rise[:width] * (head[:, :width] - tail)
            start += width - half
        if n_core is None:
            yield result[:, start:]
            return
        stop = self._lead + n_core
        yield result[:, start : stop - half]
        self._tail = result[:, stop - half : stop + half]
