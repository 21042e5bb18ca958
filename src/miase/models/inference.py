"""A trained U-Net for inference: norms folded into the convolutions, frames as they come, nothing done twice.

`FusedNetwork` holds the weights; each `MaskStream` of it takes the frames of one signal in pieces of any size
and gives the masks that `DCUNet` would give for the whole signal. Every layer keeps the few frames that its
next output needs, so a long signal costs what its frames cost, in constant memory, and a piece stays within
the processor's caches.

Frames stand first, channels last: (frame, freq, channel), which the convolutions take as they are.
"""

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from miase.models.complex import NARROW, ComplexBlock
from miase.models.dcunet import DCUNet
from miase.models.folding import Folded, Parts, fold
from miase.models.grouped import GroupedBottleneck
from miase.models.taps import MOST_CHANNELS, summed, through_taps
from miase.models.waiting import Waiting

_PIECE = 1 << 16  # spectrum values; measured by benchmarks/speed.py
# glibc gives back, and must ask for again, what is larger than the largest block that was freed so far, which
# counts up to 32 MiB: one such block, never written to, saves a tenth of the time.
_LARGEST_KEPT = 33_500_000


class FusedNetwork:
    """The weights of a network in evaluation mode, prepared once; later changes to it are not seen.

    Args:
        model: any network of ours.
        dtype: of the convolutions and what lies between them; the bottleneck stays in float32, whose norms
            and recurrences bfloat16 would harm for little time.
    """

    def __init__(self, model: DCUNet, dtype: torch.dtype = torch.float32) -> None:
        torch.empty(_LARGEST_KEPT, dtype=torch.uint8)
        with torch.inference_mode():
            self.encoder = [fold(block, 0, dtype) for block in _complex_blocks(model.encoder)]
            # Channels that skip connections bring to each layer of the decoder.
            self.skipped = [0, *(layer.n_channels for layer in self.encoder[-2::-1])]
            blocks = zip(_complex_blocks(model.decoder), self.skipped, strict=False)
            self.decoder = [fold(block, n_skipped // 2, dtype) for block, n_skipped in blocks]
            self.mask_out = fold(model.mask_out, self.skipped[-1] // 2, dtype)
            self.bottleneck = GroupedBottleneck(model.bottleneck) if model.bottleneck is not None else None
        self.n_freq = model.config.n_fft // 2 + 1
        self.frame_stride = model.frame_stride
        self.window = model.config.window_frames // model.frame_stride
        # Frames that go through at once: so many that calls cost little, so few that they stay in the caches.
        self.piece = max(2, round(_PIECE / (self.n_freq * self.frame_stride))) * self.frame_stride

    def stream(self, n_windows: int = 1) -> "MaskStream":
        """A new signal, of which the bottleneck takes ``n_windows`` windows at once."""
        return MaskStream(self, n_windows)

    @property
    def streamable(self) -> bool:
        """Whether outputs are complete before the signal ends."""
        return self.bottleneck is None or self.window > 0

    def last_needed(self, frame: int, n_windows: int = 1) -> int:
        """The last frame that must be there before the output of `frame` is given."""
        for weights in (self.mask_out, *self.decoder[::-1]):
            frame = (frame + weights.padding[0]) // weights.stride[0]
        if self.bottleneck is not None:
            window = n_windows * self.window
            frame = (frame // window + 1) * window - 1
        for weights in self.encoder[::-1]:
            frame = frame * weights.stride[0] - weights.padding[0] + weights.kernel[0] - 1
        return frame


def _complex_blocks(blocks: torch.nn.ModuleList) -> list[ComplexBlock]:
    return [block for block in blocks if isinstance(block, ComplexBlock)]


class MaskStream:
    """The network on one signal; see `FusedNetwork.stream`."""

    def __init__(self, network: FusedNetwork, n_windows: int = 1) -> None:
        self._network = network
        n_freq, n_channels = [network.n_freq], [2]
        for weights in network.encoder:
            n_freq.append(-(-n_freq[-1] // weights.stride[1]))
            n_channels.append(weights.n_channels)
        self._encoder = [_Convolution(*row) for row in zip(network.encoder, n_freq, n_channels, strict=False)]
        self._bottleneck = (
            _Windows(network.bottleneck, network.window, n_windows, n_freq[-1], network.encoder[-1])
            if network.bottleneck is not None
            else None
        )
        n_freq.reverse()
        n_channels = [n_channels[-1], *(weights.n_channels for weights in network.decoder)]
        self._decoder = [
            _Transposed(weights, n_freq[i], n_freq[i + 1], n_channels[i], network.skipped[i])
            for i, weights in enumerate(network.decoder)
        ]
        last = network.mask_out, n_freq[-2], n_freq[-1], n_channels[-1], network.skipped[-1]
        self._decoder.append(_Transposed(*last))

    def feed(self, frames: Tensor, *, last: bool = False) -> Tensor:
        """Take the next frames and give the outputs that are complete.

        Args:
            frames: features, (frame, freq, 2); there may be none.
            last: the signal ends with them; nothing may follow.

        Returns:
            The network's output before it is bounded, (2, frame, freq), with no, fewer or more frames.
        """
        with torch.inference_mode():
            x: Parts = (frames,)
            activate = False
            for i, layer in enumerate(self._encoder):
                layer.waiting.append(x, activate=activate)
                x, activate = layer.run(last=last), True
                if i < len(self._encoder) - 1:
                    self._decoder[-1 - i].waiting.skip(x)
            if self._bottleneck is not None:
                self._bottleneck.waiting.append(x)
                x, activate = self._bottleneck.run(last=last), False
            step = self._network.piece // self._network.frame_stride
            pieces = list(zip(*(torch.split(part, step) for part in x), strict=True))
            outputs = [
                self._decode(piece, activate=activate, last=last and i == len(pieces) - 1)
                for i, piece in enumerate(pieces)
            ]
            return torch.cat(outputs, dim=1).float()

    def _decode(self, x: Parts, *, activate: bool, last: bool) -> Tensor:
        sizes = [layer.waiting.n_taken for layer in self._encoder]
        for layer, size in zip(self._decoder, reversed(sizes), strict=True):
            layer.waiting.append(x, activate=activate)
            x, activate = layer.run(size if last else None), True
        return torch.cat(x, dim=-1).movedim(-1, 0)

    def fork(self) -> "MaskStream":
        """The same state for another course of the signal."""
        other = copy.copy(self)
        for name in ("_encoder", "_decoder"):
            setattr(other, name, [_forked(layer) for layer in getattr(self, name)])
        other._bottleneck = _forked(self._bottleneck) if self._bottleneck is not None else None
        return other


Layer = TypeVar("Layer", "_Convolution", "_Transposed", "_Windows")


def _forked(layer: Layer) -> Layer:
    other = copy.copy(layer)
    other.waiting = layer.waiting.fork()
    return other


def _as_image(frames: Tensor) -> Tensor:
    """(frame, freq, channel) -> (1, channel, frame, freq), without moving anything."""
    return frames.permute(2, 0, 1).unsqueeze(0)


def _as_frames(image: Tensor) -> Tensor:
    """(1, channel, frame, freq) -> (frame, freq, channel)."""
    return image.squeeze(0).permute(1, 2, 0)


def _none(weights: Folded, n_freq: int) -> Parts:
    """An output without frames."""
    return (weights.weight.new_empty(0, n_freq, weights.n_channels),)


class _Convolution:
    """A convolution of the encoder; its output i sees inputs stride * i - padding on."""

    def __init__(self, weights: Folded, n_freq: int, n_channels: int) -> None:
        if n_freq <= NARROW:  # as `miase.models.complex.convolve` has it
            weights = weights.to(torch.float32)
        self._weights = weights
        self._n_freq_out = -(-n_freq // weights.stride[1])
        self.waiting = Waiting(weights.padding[0], n_freq, weights.weight, n_channels, groups=weights.groups)

    def run(self, *, last: bool) -> Parts:
        weights, kernel, stride = self._weights, self._weights.kernel[0], self._weights.stride[0]
        if last:
            self.waiting.end(weights.padding[0])
        n_frames = (len(self.waiting) - kernel) // stride + 1
        if n_frames < 1:
            return _none(weights, self._n_freq_out)
        x = _as_image(self.waiting.frames((n_frames - 1) * stride + kernel))
        padding = (0, weights.padding[1])
        y = F.conv2d(x, weights.weight, weights.bias, weights.stride, padding, groups=weights.groups)
        self.waiting.drop(n_frames * stride)
        return weights.parts(_as_frames(y))


def _useful_padding(n_freq: int) -> int:
    """Frequencies of zeros with which a transposed convolution in bfloat16 is faster than without.

    oneDNN takes up to six times as long for 97 or 193 frequencies as for the next multiple of 16.
    """
    n_empty = -n_freq % 16
    return n_empty if 6 * n_empty <= n_freq else 0


class _Transposed:
    """A transposed convolution of the decoder.

    Its output o sees the inputs i with 0 <= o + padding - stride * i < kernel.
    """

    def __init__(
        self, weights: Folded, n_freq: int, n_freq_out: int, n_channels: int, n_skipped: int
    ) -> None:
        self._weights = weights
        like = weights.weight
        n_empty = _useful_padding(n_freq) if like.dtype == torch.bfloat16 else 0
        self.waiting = Waiting(0, n_freq, like, n_channels, n_skipped, n_empty, weights.groups)
        self._n_freq_out = n_freq_out
        self._first = 0  # which input waits first
        self._n_given = 0

    def run(self, size: int | None) -> Parts:
        """Outputs that are complete, or all that are left up to ``size`` once the signal has ended."""
        weights, n_frames = self._weights, len(self.waiting)
        kernel, stride, padding = weights.kernel[0], weights.stride[0], weights.padding[0]
        stop = size if size is not None else stride * (self._first + n_frames) - padding
        if stop <= self._n_given:
            return _none(weights, self._n_freq_out)
        x = _as_image(self.waiting.frames(n_frames))
        start = stride * self._first
        how = weights.stride, weights.padding
        if weights.n_channels <= MOST_CHANNELS:
            planes = through_taps([x], weights.weight)
            y = summed(planes, weights.bias, *how, (stop - start, self._n_freq_out))
        else:
            more = weights.output_padding, weights.groups
            y = F.conv_transpose2d(x, weights.weight, weights.bias, *how, *more)
        result = _as_frames(y)[self._n_given - start : stop - start, : self._n_freq_out]
        self._n_given = stop
        seen_from = max(self._first, -(-(stop + padding - kernel + 1) // stride))
        self.waiting.drop(min(seen_from - self._first, n_frames))
        self._first = seen_from
        return weights.parts(result)


class _Windows:
    """The bottleneck on windows of frames, as `miase.models.transformer.in_windows` has it.

    Windows are computed when as many as go at once are full; the last one reaches back over the one before.
    """

    def __init__(
        self, bottleneck: GroupedBottleneck, window: int, at_once: int, n_freq: int, last: Folded
    ) -> None:
        self._bottleneck = bottleneck
        self._window = window
        self._at_once = at_once
        self.waiting = Waiting(0, n_freq, last.weight.float(), last.n_channels)
        self._before = self.waiting.frames(0)  # the last window's frames

    def run(self, *, last: bool) -> Parts:
        frames = self.waiting.frames(len(self.waiting))
        window = self._window
        results = []
        n_whole = len(frames) // window if window else 0
        if not last:
            n_whole -= n_whole % self._at_once
        if n_whole:
            whole = frames[: n_whole * window]
            results.append(self._through(whole.view(n_whole, window, *whole.shape[1:])).flatten(1, 2))
            self._before = whole[-window:].clone()
            self.waiting.drop(n_whole * window)
        rest = len(frames) - n_whole * window
        if last and rest:
            held = torch.cat((self._before, self.waiting.frames(rest)))[-window:]
            results.append(self._through(held.unsqueeze(0))[:, 0, -rest:])
        if not results:
            return (frames[:0],)
        real, imag = torch.cat(results, dim=1)
        return real, imag

    def _through(self, windows: Tensor) -> Tensor:
        """(item, frame, freq, 2 * channel) -> (2, item, frame, freq, channel)."""
        return self._bottleneck(windows.view(*windows.shape[:-1], 2, -1).movedim(-2, 0))
