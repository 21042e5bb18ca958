"""A trained U-Net for inference: norms folded into the convolutions, frames as they come, nothing done twice.

`FusedNetwork` holds the weights; each `MaskStream` of it takes the frames of one signal in pieces of any size
and gives the masks that `DCUNet` would give for the whole signal. Every layer keeps the few frames that its
next output needs, so a long signal costs what its frames cost, in constant memory, and a piece stays within
the processor's caches.

Frames stand first, channels last: (frame, freq, channel), which the convolutions take as they are.
"""

import copy
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from miase.models.complex import (
    NARROW,
    ComplexBlock,
    ComplexConv2d,
    ComplexConvTranspose2d,
    Pair,
    bounded_mask,
    complex_multiply,
)
from miase.models.dcunet import DCUNet
from miase.models.grouped import GroupedBottleneck

_PIECE = 1 << 16  # spectrum values; measured by benchmarks/speed.py
SLOPE = 0.01  # of the LeakyReLU


class _Weights(NamedTuple):
    """A real convolution over (frame, freq), plain or transposed.

    Attributes:
        weight: as torch has it.
        bias: of each output channel.
        kernel: (frame, freq).
        stride: (frame, freq).
    """

    weight: Tensor
    bias: Tensor
    kernel: Pair
    stride: Pair

    @property
    def padding(self) -> Pair:
        return self.kernel[0] // 2, self.kernel[1] // 2

    def to(self, dtype: torch.dtype) -> "_Weights":
        return self._replace(weight=self.weight.to(dtype), bias=self.bias.to(dtype))

    @property
    def output_padding(self) -> Pair:
        """All that the stride allows: the excess is cut off, and oneDNN is slow at borders without taps."""
        return self.stride[0] - 1, self.stride[1] - 1


class FusedNetwork:
    """The weights of a network in evaluation mode, prepared once; later changes to it are not seen.

    Args:
        model: any network of ours.
        dtype: of the convolutions and what lies between them; the bottleneck stays in float32, whose norms
            and recurrences bfloat16 would harm for little time.
    """

    def __init__(self, model: DCUNet, dtype: torch.dtype = torch.float32) -> None:
        with torch.inference_mode():
            self.encoder = [_fold(block).to(dtype) for block in _complex_blocks(model.encoder)]
            self.decoder = [_fold(block).to(dtype) for block in _complex_blocks(model.decoder)]
            mask_out = _frames_first(model.mask_out, model.mask_out.block_weight(), model.mask_out.bias)
            self.mask_out = mask_out.to(dtype)
            self.bottleneck = GroupedBottleneck(model.bottleneck) if model.bottleneck is not None else None
        self.n_freq = model.config.n_fft // 2 + 1
        self.frame_stride = model.frame_stride
        self.window = model.config.window_frames // model.frame_stride
        # Frames that go through at once: so many that calls cost little, so few that they stay in the caches.
        self.piece = max(2, round(_PIECE / (self.n_freq * self.frame_stride))) * self.frame_stride
        self.phases = _phase_weights(self.mask_out)

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


def estimate_once(model: DCUNet, noisy: Tensor) -> Tensor:
    """What a network on the CPU gives in evaluation mode, prepared for this one time.

    Preparing costs little beside a few seconds of sound, and saves up to a third of the time of the network's
    own forward, so that it pays even where the weights change from step to step. Under autocast to bfloat16
    the convolutions are in bfloat16.

    Args:
        model: any network of ours, as it is now.
        noisy: (batch, time).

    Returns:
        The estimate, (batch, time), in float32 and without gradient.
    """
    rounded = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        network = FusedNetwork(model, torch.bfloat16 if rounded else torch.float32)
        spectrum = model.stft.analyse(noisy.float())
        features = model.features(spectrum).transpose(1, 2)
        outputs = [network.stream().feed(frames, last=True) for frames in features]
        masks = bounded_mask(torch.stack(outputs).transpose(1, 2), model.config.mask_exponent)
        estimate: Tensor = model.stft.synthesise(complex_multiply(masks, spectrum), noisy.shape[-1])
        return estimate


def _complex_blocks(blocks: torch.nn.ModuleList) -> list[ComplexBlock]:
    return [block for block in blocks if isinstance(block, ComplexBlock)]


def _fold(block: ComplexBlock) -> _Weights:
    """The convolution with its batch norm: W g / s and (b - m) g / s + b' for a norm of m, s, g and b'."""
    norm = block.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = block.conv.block_weight()
    shape = (1, -1, 1, 1) if isinstance(block.conv, ComplexConvTranspose2d) else (-1, 1, 1, 1)
    bias = (block.conv.bias - norm.running_mean) * scale + norm.bias
    return _frames_first(block.conv, weight * scale.view(shape), bias)


def _frames_first(conv: ComplexConv2d | ComplexConvTranspose2d, weight: Tensor, bias: Tensor) -> _Weights:
    weight = weight.transpose(2, 3).contiguous(memory_format=torch.channels_last)
    kernel_freq, kernel_frame = conv.weight_real.shape[2:]
    return _Weights(weight, bias.clone(), (kernel_frame, kernel_freq), (conv.stride[1], conv.stride[0]))


def _phase_weights(mask_out: _Weights) -> Tensor | None:
    """A 3x3 transposed convolution of stride 2 as a 2x2 convolution that gives the four phases of its output.

    With only two output channels the transposed form wastes most of the vector unit. Output 2 j sees input j
    with tap 1; output 2 j - 1 sees input j - 1 with tap 2 and input j with tap 0.

    Returns:
        (2 * 2 * out, in, 2, 2) over inputs j - 1 and j, the phases (2 j - 1, 2 j) of (frame, freq) before the
        channel; None for other kernels and strides.
    """
    if mask_out.kernel != (3, 3) or mask_out.stride != (2, 2):
        return None
    taps = mask_out.weight.new_zeros(2, 2, 3)  # phase, input, tap
    taps[0, 0, 2] = taps[0, 1, 0] = taps[1, 1, 1] = 1
    weight = torch.einsum("pax,qby,ioxy->pqoiab", taps, taps, mask_out.weight)
    return weight.flatten(0, 2).contiguous(memory_format=torch.channels_last)


class MaskStream:
    """The network on one signal; see `FusedNetwork.stream`."""

    def __init__(self, network: FusedNetwork, n_windows: int = 1) -> None:
        self._network = network
        n_freq = [network.n_freq]
        for weights in network.encoder:
            n_freq.append(-(-n_freq[-1] // weights.stride[1]))
        self._encoder = [_Convolution(*pair) for pair in zip(network.encoder, n_freq, strict=False)]
        self._bottleneck = (
            _Windows(network.bottleneck, network.window, n_windows, n_freq[-1], network.encoder[-1])
            if network.bottleneck is not None
            else None
        )
        skipped = [0, *(len(weights.bias) for weights in network.encoder[-2::-1])]
        n_freq.reverse()
        self._decoder: list[_Transposed | _Phases] = [
            _Transposed(weights, n_freq[i], n_freq[i + 1], skipped[i])
            for i, weights in enumerate(network.decoder)
        ]
        if network.phases is not None:
            self._decoder.append(
                _Phases(network.phases, network.mask_out, n_freq[-2], n_freq[-1], skipped[-1])
            )
        else:
            self._decoder.append(_Transposed(network.mask_out, n_freq[-2], n_freq[-1], skipped[-1]))

    def feed(self, frames: Tensor, *, last: bool = False) -> Tensor:
        """Take the next frames and give the outputs that are complete.

        Args:
            frames: features, (frame, freq, 2); there may be none.
            last: the signal ends with them; nothing may follow.

        Returns:
            The network's output before it is bounded, (frame, freq, 2), with no, fewer or more frames.
        """
        with torch.inference_mode():
            x, activate = frames, False
            for i, layer in enumerate(self._encoder):
                layer.waiting.append(x, activate=activate)
                x, activate = layer.run(last=last), True
                if i < len(self._encoder) - 1:
                    self._decoder[-1 - i].waiting.skip(x)
            if self._bottleneck is not None:
                self._bottleneck.waiting.append(x)
                x, activate = self._bottleneck.run(last=last), False
            parts = torch.split(x, self._network.piece // self._network.frame_stride) if len(x) else [x]
            outputs = [
                self._decode(part, activate=activate, last=last and i == len(parts) - 1)
                for i, part in enumerate(parts)
            ]
            return torch.cat(outputs).float()

    def _decode(self, x: Tensor, *, activate: bool, last: bool) -> Tensor:
        sizes = [layer.waiting.n_taken for layer in self._encoder]
        for layer, size in zip(self._decoder, reversed(sizes), strict=True):
            layer.waiting.append(x, activate=activate)
            x, activate = layer.run(size if last else None), True
        return x

    def fork(self) -> "MaskStream":
        """The same state for another course of the signal."""
        other = copy.copy(self)
        for name in ("_encoder", "_decoder"):
            setattr(other, name, [_forked(layer) for layer in getattr(self, name)])
        other._bottleneck = _forked(self._bottleneck) if self._bottleneck is not None else None
        return other


class _Waiting:
    """Frames that wait for a layer, (frame, freq, channel), with those of a skip connection beside them.

    Args:
        n_lead: frames of zeros before the first.
        n_freq: size of the second axis.
        like: a tensor on the device that they live on.
        n_channels: of the layer before.
        n_skipped: channels of the skip connection.
        n_empty: frequencies of zeros after the last.
    """

    def __init__(
        self,
        n_lead: int,
        n_freq: int,
        like: Tensor,
        n_channels: int,
        n_skipped: int = 0,
        n_empty: int = 0,
    ) -> None:
        self.data = like.new_zeros(n_lead, n_freq + n_empty, n_channels + n_skipped)
        self._n_freq = n_freq
        self._n_channels = n_channels
        self._skipped: tuple[Tensor, ...] = ()
        self.n_taken = 0

    def __len__(self) -> int:
        return len(self.data)

    def append(self, frames: Tensor, *, activate: bool = True) -> None:
        """Take frames of the layer before, through the LeakyReLU when it is still to come."""
        before, n_frames = len(self.data), len(frames)
        grown = self.data.new_empty(before + n_frames, *self.data.shape[1:])
        grown[:before] = self.data
        grown[before:, self._n_freq :] = 0
        self.data = grown
        room = grown[before:, : self._n_freq, : self._n_channels]
        if activate:
            torch.ops.aten.leaky_relu.out(frames.to(room.dtype), SLOPE, out=room)
        else:
            room.copy_(frames)
        self.n_taken += n_frames
        start = before
        while self._skipped and start < len(grown):
            given, rest = self._skipped[0][: len(grown) - start], self._skipped[0][len(grown) - start :]
            room = grown[start : start + len(given), : self._n_freq, self._n_channels :]
            torch.ops.aten.leaky_relu.out(given.to(room.dtype), SLOPE, out=room)
            self._skipped = ((rest,) if len(rest) else ()) + self._skipped[1:]
            start += len(given)

    def skip(self, frames: Tensor) -> None:
        """Take frames of the skip connection, which come before those that they stand beside."""
        if len(frames):
            self._skipped = (*self._skipped, frames)

    def end(self, n_frames: int) -> None:
        """Add frames of zeros to the end."""
        self.data = F.pad(self.data, (0, 0, 0, 0, 0, n_frames))

    def drop(self, n_frames: int) -> None:
        """Forget the first frames."""
        self.data = self.data[n_frames:]  # their memory goes when the next frames come


Layer = TypeVar("Layer", "_Convolution", "_Transposed", "_Phases", "_Windows")


def _forked(layer: Layer) -> Layer:
    other = copy.copy(layer)
    other.waiting = copy.copy(layer.waiting)
    return other


def _as_image(frames: Tensor) -> Tensor:
    """(frame, freq, channel) -> (1, channel, frame, freq), without moving anything."""
    return frames.permute(2, 0, 1).unsqueeze(0)


def _as_frames(image: Tensor) -> Tensor:
    """(1, channel, frame, freq) -> (frame, freq, channel)."""
    return image.squeeze(0).permute(1, 2, 0)


class _Convolution:
    """A convolution of the encoder; its output i sees inputs stride * i - padding on."""

    def __init__(self, weights: _Weights, n_freq: int) -> None:
        if n_freq <= NARROW:  # as `miase.models.complex.convolve` has it
            weights = weights.to(torch.float32)
        self._weights = weights
        self._n_freq_out = -(-n_freq // weights.stride[1])
        self.waiting = _Waiting(weights.padding[0], n_freq, weights.bias, weights.weight.shape[1])

    def run(self, *, last: bool) -> Tensor:
        weights, kernel, stride = self._weights, self._weights.kernel[0], self._weights.stride[0]
        if last:
            self.waiting.end(weights.padding[0])
        n_frames = (len(self.waiting) - kernel) // stride + 1
        if n_frames < 1:
            return weights.bias.new_empty(0, self._n_freq_out, len(weights.bias))
        x = _as_image(self.waiting.data[: (n_frames - 1) * stride + kernel])
        y = F.conv2d(x, weights.weight, weights.bias, weights.stride, (0, weights.padding[1]))
        self.waiting.drop(n_frames * stride)
        return _as_frames(y)


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

    def __init__(self, weights: _Weights, n_freq: int, n_freq_out: int, n_skipped: int) -> None:
        self._weights = weights
        n_channels = weights.weight.shape[0] - n_skipped
        n_empty = _useful_padding(n_freq) if weights.weight.dtype == torch.bfloat16 else 0
        self.waiting = _Waiting(0, n_freq, weights.bias, n_channels, n_skipped, n_empty)
        self._n_freq_out = n_freq_out
        self._first = 0  # which input waits first
        self._n_given = 0

    def run(self, size: int | None) -> Tensor:
        """Outputs that are complete, or all that are left up to ``size`` once the signal has ended."""
        weights, n_frames = self._weights, len(self.waiting)
        kernel, stride, padding = weights.kernel[0], weights.stride[0], weights.padding[0]
        stop = size if size is not None else stride * (self._first + n_frames) - padding
        if stop <= self._n_given:
            return weights.bias.new_empty(0, self._n_freq_out, len(weights.bias))
        x = _as_image(self.waiting.data[:n_frames])
        y = F.conv_transpose2d(
            x, weights.weight, weights.bias, weights.stride, weights.padding, weights.output_padding
        )
        start = stride * self._first
        result = _as_frames(y)[self._n_given - start : stop - start, : self._n_freq_out]
        self._n_given = stop
        seen_from = max(self._first, -(-(stop + padding - kernel + 1) // stride))
        self.waiting.drop(min(seen_from - self._first, n_frames))
        self._first = seen_from
        return result


class _Phases:
    """The last transposed convolution by `_phase_weights`."""

    def __init__(
        self, phases: Tensor, weights: _Weights, n_freq: int, n_freq_out: int, n_skipped: int
    ) -> None:
        self._phases, self._bias = phases, weights.bias.repeat(4)
        self.waiting = _Waiting(1, n_freq, weights.bias, weights.weight.shape[0] - n_skipped, n_skipped)
        self._n_freq_out = n_freq_out
        self._n_channels = len(weights.bias)
        self._n_given = 0

    def run(self, size: int | None) -> Tensor:
        """As `_Transposed.run`."""
        if size is not None:
            self.waiting.end(1)
        n_pairs = len(self.waiting) - 1
        if n_pairs < 1:
            return self._bias.new_empty(0, self._n_freq_out, self._n_channels)
        x = _as_image(self.waiting.data[: n_pairs + 1])
        y: Tensor = _as_frames(F.conv2d(x, self._phases, self._bias, padding=(0, 1)))
        y = y.reshape(n_pairs, -1, 2, 2, self._n_channels).transpose(1, 2)
        y = y.reshape(2 * n_pairs, -1, self._n_channels)
        start = 0 if self._n_given else 1  # output -1 is none
        stop = len(y) if size is None else size - self._n_given + start
        result = y[start:stop, 1 : self._n_freq_out + 1]
        self._n_given += len(result)
        self.waiting.drop(n_pairs)
        return result


class _Windows:
    """The bottleneck on windows of frames, as `miase.models.transformer.in_windows` has it.

    Windows are computed when as many as go at once are full; the last one reaches back over the one before.
    """

    def __init__(
        self, bottleneck: GroupedBottleneck, window: int, at_once: int, n_freq: int, last: _Weights
    ) -> None:
        self._bottleneck = bottleneck
        self._window = window
        self._at_once = at_once
        self.waiting = _Waiting(0, n_freq, last.bias.float(), len(last.bias))
        self._before = self.waiting.data  # the last window's frames

    def run(self, *, last: bool) -> Tensor:
        frames, window = self.waiting.data, self._window
        results = []
        n_whole = len(frames) // window if window else 0
        if not last:
            n_whole -= n_whole % self._at_once
        if n_whole:
            whole = frames[: n_whole * window]
            results.append(self._bottleneck(whole.view(n_whole, window, *whole.shape[1:])).flatten(0, 1))
            self._before = whole[-window:].clone()
            self.waiting.drop(n_whole * window)
        rest = len(frames) - n_whole * window
        if last and rest:
            held = torch.cat((self._before, self.waiting.data))[-window:]
            results.append(self._bottleneck(held.unsqueeze(0))[0, -rest:])
        return torch.cat(results) if results else frames[:0]
