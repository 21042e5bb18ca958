"""Long signals in constant memory: segments with context on both sides, joined by short cross-fades."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from miase.sounds import Samples


def process_in_segments(
    process: Callable[[Samples], Samples], blocks: Iterable[Samples], segment: int, context: int, fade: int
) -> Iterator[Samples]:
    """Apply ``process`` to a stream as if to the whole signal.

    Each call sees ``segment`` samples with ``context`` more on each side, which are thrown away but for half
    a cross-fade:

        call k        [ context |      segment      | context ]
        call k + 1                      [ context |      segment      | context ]
        kept          ...................x                    x..........

    A ``process`` whose result at a sample depends on no more than ``context`` samples around it gives what it
    would give for the whole signal, and one that gives its input back gives the stream back to the bit.

    Args:
        process: (channel, time) -> (output, time), without delay.
        blocks: (channel, time) each, of any lengths.
        segment: samples that are new in each call.
        context: samples on each side; at least half of ``fade``.
        fade: samples of the cross-fade between segments.

    Yields:
        (output, time), together as long as the input.
    """
    half = fade // 2
    rise = ((np.arange(2 * half) + 0.5) / max(1, 2 * half)).astype(np.float32)
    held: list[Samples] = []
    n_held = 0
    lead = 0  # samples of context at the start of what is held
    tail: Samples | None = None  # the last call's view of the samples around the border

    def emit(buffer: Samples, n_core: int | None) -> Iterator[Samples]:
        nonlocal tail
        result = process(buffer)
        stop = result.shape[1] if n_core is None else lead + n_core
        start = lead
        if tail is not None:
            head = result[:, lead - half : lead + half]
            width = min(head.shape[1], tail.shape[1])
            yield tail[:, :width] + rise[:width] * (head[:, :width] - tail[:, :width])
            start = lead - half + width
        if n_core is None:
            yield result[:, start:]
            return
        yield result[:, start : stop - half]
        tail = result[:, stop - half : stop + half]

    for block in blocks:
        held.append(block)
        n_held += block.shape[1]
        while n_held > lead + segment + 2 * context:
            buffer = np.concatenate(held, axis=1)
            yield from emit(buffer[:, : lead + segment + context], segment)
            kept_from = lead + segment - context
            held = [buffer[:, kept_from:]]
            n_held = held[0].shape[1]
            lead = context
    if n_held:
        yield from emit(np.concatenate(held, axis=1), None)
