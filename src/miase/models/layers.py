"""The layers of a prepared network, on frames as they come.

Each takes so many at once that they stay in the processor's caches, where the next layer finds them, and
keeps the few that its next output needs.
"""

import copy
from collections.abc import Iterator
from typing import NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from miase.models.complex import NARROW
from miase.models.folding import Folded, Parts
from miase.models.grouped import GroupedBottleneck
from miase.models.taps import summed, through_taps
from miase.models.waiting import Waiting

Pieces = Iterator[tuple[Parts, bool]]  # frames, and whether they are the last that are there for now
# For each thread; measured by benchmarks/speed.py:
_AT_ONCE = 1 << 20  # values that go in and out when a layer computes, which stay in the caches,
_FEWEST_AT_ONCE = 16  # but as many frames at least, as calls cost time, and frames that are seen again
_ALL = 1 << 40  # frames


class Layer(Protocol):
    """What makes something of the frames that wait for it, best of ``at_once`` of them."""

    waiting: Waiting
    at_once: int

    def run(self, size: int | None) -> Parts:
        """The outputs that are complete; all that are left, up to ``size``, once the signal has ended."""


Some = TypeVar("Some", bound=Layer)


def forked(layer: Some) -> Some:
    """The same state for another course of the signal."""
    other = copy.copy(layer)
    other.waiting = layer.waiting.fork()
    return other


def through(layer: Layer, pieces: Pieces, mirrored: Waiting, *, activate: bool, last: bool) -> Pieces:
    """What a layer makes of the pieces, as they come: the next layer has it while it is in the caches.

    Args:
        layer: which.
        pieces: the frames.
        mirrored: what the layer's outputs are as many as, once the signal has ended.
        activate: the LeakyReLU is still to come.
        last: the signal ends with the last piece.
    """
    for x, ends in pieces:
        smaller = list(zip(*(torch.split(part, layer.at_once) for part in x), strict=True))
        for i, piece in enumerate(smaller):
            layer.waiting.append(piece, activate=activate)
            all_there = ends and i == len(smaller) - 1
            if all_there or len(layer.waiting) >= layer.at_once:
                yield layer.run(mirrored.n_taken if last and all_there else None), all_there


def noted(pieces: Pieces, waiting: Waiting) -> Pieces:
    """The same, for a skip connection too."""
    for x, ends in pieces:
        waiting.skip(x)
        yield x, ends


def _at_once(n_values: float, like: Tensor) -> int:
    """Frames that a layer best takes at once, which has this many values of input and output for each."""
    if like.device.type != "cpu":
        return _ALL
    return max(_FEWEST_AT_ONCE, round(_AT_ONCE / n_values)) * torch.get_num_threads()


def _as_image(frames: Tensor) -> Tensor:
    """(frame, freq, channel) -> (1, channel, frame, freq), without moving anything."""
    return frames.permute(2, 0, 1).unsqueeze(0)


def _as_frames(image: Tensor) -> Tensor:
    """(1, channel, frame, freq) -> (frame, freq, channel)."""
    return image.squeeze(0).permute(1, 2, 0)


class Convolution:
    """A convolution of the encoder; its output i sees inputs stride * i - padding on."""

    def __init__(self, weights: Folded, n_freq: int, n_channels: int) -> None:
        if n_freq <= NARROW:  # as `miase.models.complex.convolve` has it
            weights = weights.to(torch.float32)
        self._weights = weights
        self._n_freq_out = -(-n_freq // weights.stride[1])
        n_groups = len(weights.weights)
        self.waiting = Waiting(weights.padding[0], n_freq, weights.weights[0], n_channels, groups=n_groups)
        n_out = self._n_freq_out * weights.n_channels / weights.stride[0]
        self.at_once = _at_once(n_freq * n_channels + n_out, weights.weights[0])

    def run(self, size: int | None) -> Parts:
        """See `Layer.run`."""
        weights, kernel, stride = self._weights, self._weights.kernel[0], self._weights.stride[0]
        if size is not None:
            self.waiting.end(weights.padding[0])
        n_frames = (len(self.waiting) - kernel) // stride + 1
        if n_frames < 1:
            return weights.none(self._n_freq_out)
        groups = self.waiting.frames((n_frames - 1) * stride + kernel)
        padding = (0, weights.padding[1])
        outputs = [
            _as_frames(F.conv2d(_as_image(x), weight, bias, weights.stride, padding))
            for x, weight, bias in zip(groups, weights.weights, weights.biases, strict=True)
        ]
        self.waiting.drop(n_frames * stride)
        return weights.parts(outputs)


class _Progress(NamedTuple):
    """How far a transposed convolution is along the frames.

    Its output o sees the inputs i with 0 <= o + padding - stride * i < kernel.

    Attributes:
        kernel: its size.
        stride: which.
        padding: likewise.
        first: which input waits first.
        n_given: outputs.
    """

    kernel: int
    stride: int
    padding: int
    first: int = 0
    n_given: int = 0

    def complete(self, n_frames: int, size: int | None) -> tuple[slice, "_Progress"]:
        """Which outputs may be given, counted from output stride * first, and what follows.

        Args:
            n_frames: inputs that wait.
            size: outputs in all, once the signal has ended.
        """
        end = self.first + n_frames
        stop = max(self.n_given, self.stride * end - self.padding if size is None else size)
        start = self.stride * self.first
        seen_from = -(-(stop + self.padding - self.kernel + 1) // self.stride)
        after = self._replace(first=min(max(self.first, seen_from), end), n_given=stop)
        return slice(self.n_given - start, stop - start), after


def _progress(weights: Folded) -> _Progress:
    return _Progress(weights.kernel[0], weights.stride[0], weights.padding[0])


def _useful_padding(n_freq: int) -> int:
    """Frequencies of zeros with which a transposed convolution in bfloat16 is faster than without.

    oneDNN takes up to six times as long for 97 or 193 frequencies as for the next multiple of 16.
    """
    n_empty = -n_freq % 16
    return n_empty if 6 * n_empty <= n_freq else 0


class Transposed:
    """A transposed convolution of the decoder."""

    def __init__(
        self, weights: Folded, n_freq: int, n_freq_out: int, n_channels: int, n_skipped: int
    ) -> None:
        self._weights = weights
        like = weights.weights[0]
        n_empty = _useful_padding(n_freq) if like.dtype == torch.bfloat16 else 0
        self.waiting = Waiting(0, n_freq, like, n_channels, n_skipped, n_empty, len(weights.weights))
        self._n_freq_out = n_freq_out
        self._progress = _progress(weights)
        n_out = n_freq_out * weights.n_channels * weights.stride[0]
        self.at_once = _at_once(n_freq * (n_channels + n_skipped) + n_out, like)

    def run(self, size: int | None) -> Parts:
        """See `Layer.run`."""
        weights, n_frames = self._weights, len(self.waiting)
        complete, after = self._progress.complete(n_frames, size)
        if complete.start == complete.stop:
            return weights.none(self._n_freq_out)
        how = weights.stride, weights.padding, weights.output_padding
        groups = zip(self.waiting.frames(n_frames), weights.weights, weights.biases, strict=True)
        outputs = [
            _as_frames(F.conv_transpose2d(_as_image(x), weight, bias, *how))[complete, : self._n_freq_out]
            for x, weight, bias in groups
        ]
        self.waiting.drop(after.first - self._progress.first)
        self._progress = after
        return weights.parts(outputs)


class MaskOut:
    """The last layer, tap by tap: what its inputs give through each tap is kept, not the inputs."""

    def __init__(
        self, weights: Folded, n_freq: int, n_freq_out: int, n_channels: int, n_skipped: int
    ) -> None:
        self._how = weights.stride, weights.padding
        (self._weight,), (bias,) = weights.weights, weights.biases
        assert bias is not None
        self._bias = bias
        self.waiting = Waiting(0, n_freq, self._weight, n_channels, n_skipped)
        self._planes = self._weight.new_empty(*self._weight.shape[1:], 1, 0, n_freq, dtype=torch.float32)
        self._n_freq_out = n_freq_out
        self._progress = _progress(weights)
        self.at_once = _at_once(n_freq * (n_channels + n_skipped), self._weight)

    def run(self, size: int | None) -> Parts:
        """See `Layer.run`; (2, frame, freq), in float32."""
        if n_frames := len(self.waiting):
            planes = through_taps([_as_image(self.waiting.frames(n_frames)[0])], self._weight)
            self._planes = torch.cat((self._planes, planes), dim=4)
            self.waiting.drop(n_frames)
        complete, after = self._progress.complete(self._planes.shape[4], size)
        if complete.start == complete.stop:
            return (self._planes.new_empty(2, 0, self._n_freq_out),)
        outputs = summed(self._planes, self._bias, *self._how, (complete.stop, self._n_freq_out))
        self._planes = self._planes[..., after.first - self._progress.first :, :]
        self._progress = after
        return (outputs[0, :, complete],)


class Windows:
    """The bottleneck on windows of frames, as `miase.models.transformer.in_windows` has it.

    Windows are computed when as many as go at once are full; the last one reaches back over the one before.
    """

    def __init__(
        self, bottleneck: GroupedBottleneck, window: int, n_windows: int, n_freq: int, last: Folded
    ) -> None:
        self._bottleneck = bottleneck
        self._window = window
        self._n_windows = n_windows
        self.at_once = n_windows * window or _ALL
        self.waiting = Waiting(0, n_freq, last.weights[0].float(), last.n_channels)
        self._before = self.waiting.frames(0)[0]  # the last window's frames

    def run(self, size: int | None) -> Parts:
        """See `Layer.run`."""
        frames = self.waiting.frames(len(self.waiting))[0]
        window = self._window
        results = []
        n_whole = len(frames) // window if window else 0
        if size is None:
            n_whole -= n_whole % self._n_windows
        if n_whole:
            whole = frames[: n_whole * window]
            results.append(self._through(whole.view(n_whole, window, *whole.shape[1:])).flatten(1, 2))
            self._before = whole[-window:].clone()
            self.waiting.drop(n_whole * window)
        rest = len(frames) - n_whole * window
        if size is not None and rest:
            held = torch.cat((self._before, self.waiting.frames(rest)[0]))[-window:]
            results.append(self._through(held.unsqueeze(0))[:, 0, -rest:])
        if not results:
            return (frames[:0],)
        real, imag = torch.cat(results, dim=1)
        return real, imag

    def _through(self, windows: Tensor) -> Tensor:
        """(item, frame, freq, 2 * channel) -> (2, item, frame, freq, channel)."""
        return self._bottleneck(windows.view(*windows.shape[:-1], 2, -1).movedim(-2, 0))
