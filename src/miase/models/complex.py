"""Complex layers on real tensors: convolution, transposed convolution, normalisation and activation.

Complex channels are interleaved: channel 2c holds the real part and 2c + 1 the imaginary part of complex
channel c. In this order the concatenation of two complex tensors is a plain ``torch.cat`` along the channels.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miase.models.convolution import Pair, convolve_by_pieces, learns_by_pieces
from miase.models.taps import MOST_CHANNELS, spread


def real_part(x: Tensor) -> Tensor:
    """(batch, 2 * channel, ...) -> (batch, channel, ...)."""
    return x[:, 0::2]


def imag_part(x: Tensor) -> Tensor:
    """(batch, 2 * channel, ...) -> (batch, channel, ...)."""
    return x[:, 1::2]


def interleave(real: Tensor, imag: Tensor) -> Tensor:
    """Two (batch, channel, ...) parts -> (batch, 2 * channel, ...)."""
    return torch.stack((real, imag), dim=2).flatten(1, 2)


def eager_cpu(x: Tensor) -> bool:
    """Whether ``x`` is computed with on a CPU, one operation after the other: where our own ways back pay."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


NARROW = 2  # values along the last axis
SLOPE = 0.01  # of the LeakyReLU


def convolve(
    convolution: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any
) -> Tensor:
    """``convolution(x, weight, bias, *how)``; in float32 where bfloat16 may give NaN.

    On a CPU with AMX oneDNN, up to that of torch 2.13, reads memory that nobody wrote when a convolution in
    bfloat16 has a stride of two along a last axis of one or two values, and on its way back.
    """
    if x.device.type == "cpu" and x.shape[-1] <= NARROW:
        with torch.autocast("cpu", enabled=False):
            return convolution(x.to(weight.dtype), weight, bias, *how)
    if learns_by_pieces(x, weight, *how):
        return convolve_by_pieces(x, weight, bias, *how)
    return convolution(x, weight, bias, *how)


class _ComplexWeight(nn.Module):
    """Real and imaginary weight and bias of a complex convolution, and the real weight they stand for."""

    def __init__(self, first: int, second: int, out_channels: int, kernel: Pair, fan: int) -> None:
        super().__init__()
        self.weight_real = nn.Parameter(torch.empty(first, second, *kernel))
        self.weight_imag = nn.Parameter(torch.empty(first, second, *kernel))
        self.bias = nn.Parameter(torch.zeros(2 * out_channels))
        # Xavier (Glorot and Bengio 2010); the two parts share the variance, Var(W) = Var(Wr) + Var(Wi).
        bound = math.sqrt(3.0 / fan)
        nn.init.uniform_(self.weight_real, -bound, bound)
        nn.init.uniform_(self.weight_imag, -bound, bound)


class ComplexConv2d(_ComplexWeight):
    """Complex convolution as ONE real convolution (Trabelsi et al. 2017, equation 2).

    (Wr xr - Wi xi, Wi xr + Wr xi) is the real convolution of the stacked parts with the block weight
    [[Wr, -Wi], [Wi, Wr]]. Padded by half the kernel: (batch, 2 * in_channels, freq, frame) ->
    (batch, 2 * out_channels, ceil(freq / stride[0]), ceil(frame / stride[1])) for odd kernels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Pair, stride: Pair) -> None:
        fan = (in_channels + out_channels) * kernel[0] * kernel[1]
        super().__init__(out_channels, in_channels, out_channels, kernel, fan)
        self.stride = stride
        self.padding = (kernel[0] // 2, kernel[1] // 2)

    def block_weight(self) -> Tensor:
        """(2 * out_channels, 2 * in_channels, *kernel)."""
        rows_real = torch.stack((self.weight_real, -self.weight_imag), dim=2)
        rows_imag = torch.stack((self.weight_imag, self.weight_real), dim=2)
        return torch.stack((rows_real, rows_imag), dim=1).flatten(0, 1).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 2 * in_channels, frame, freq) -> (batch, 2 * out_channels, frame', freq')."""
        return self.convolved(x, self.bias)

    def convolved(self, x: Tensor, bias: Tensor | None, *, scale: Tensor | None = None) -> Tensor:
        """`forward` with another bias, or none, and the weights of each output channel times ``scale``."""
        weight = self.block_weight().transpose(2, 3)
        if scale is not None:
            weight = weight * scale[:, None, None, None]
        return convolve(F.conv2d, x, weight, bias, self.stride[::-1], self.padding[::-1])


class ComplexConvTranspose2d(_ComplexWeight):
    """Complex transposed convolution as one real transposed convolution, cut to the size asked for.

    The size is the one that the mirrored convolution had as input: freq in
    (stride * (freq' - 1), stride * freq'].
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Pair, stride: Pair) -> None:
        # Each output sample meets 1 / (stride product) of the kernel's taps.
        fan = max(1, (in_channels + out_channels) * kernel[0] * kernel[1] // (stride[0] * stride[1]))
        super().__init__(in_channels, out_channels, out_channels, kernel, fan)
        self.stride = stride
        self.padding = (kernel[0] // 2, kernel[1] // 2)

    def block_weight(self) -> Tensor:
        """(2 * in_channels, 2 * out_channels, *kernel)."""
        from_real = torch.stack((self.weight_real, self.weight_imag), dim=2)
        from_imag = torch.stack((-self.weight_imag, self.weight_real), dim=2)
        return torch.stack((from_real, from_imag), dim=1).flatten(0, 1).flatten(1, 2)

    def forward(self, x: Tensor, size: Pair, *skipped: Tensor) -> Tensor:
        """(batch, 2 * in_channels, frame', freq') -> (batch, 2 * out_channels, *size).

        The last of the input's channels may be ``skipped``.
        """
        if len(self.bias) <= MOST_CHANNELS and eager_cpu(x):
            weight = self.block_weight().transpose(2, 3)
            return spread((x, *skipped), weight, self.bias, self.stride[::-1], self.padding[::-1], size)
        return self.convolved(concatenated(x, *skipped), self.bias, size)

    def convolved(self, x: Tensor, bias: Tensor | None, size: Pair, *, scale: Tensor | None = None) -> Tensor:
        """`forward` with another bias, or none, and the weights of each output channel times ``scale``."""
        if bias is not None and x.device.type == "cpu" and torch.is_grad_enabled():
            # With a bias oneDNN goes back in up to four times the time.
            y = self.convolved(x, None, size, scale=scale)
            return y.add_(bias.to(y.dtype)[:, None, None])
        stride, padding = self.stride[::-1], self.padding[::-1]
        weight = self.block_weight().transpose(2, 3)
        if scale is not None:
            weight = weight * scale[:, None, None]
        if bias is not None and x.device.type == "cpu":
            # With a bias oneDNN is slow at borders that no tap reaches.
            most = [step - 1 for step in stride]
            y = convolve(F.conv_transpose2d, x, weight, bias, stride, padding, most)
            return y[:, :, : size[0], : size[1]]
        extra = [size[i] - ((x.shape[2 + i] - 1) * stride[i] + 1) for i in range(2)]
        return convolve(F.conv_transpose2d, x, weight, bias, stride, padding, extra)


def concatenated(x: Tensor, *skipped: Tensor) -> Tensor:
    """All along the channels; on a CPU the gradient of each has memory of its own.

    In bfloat16 sums with a view of some of the channels, the last axis in memory, take four times as long as
    with a copy.
    """
    if not skipped:
        return x
    if not eager_cpu(x):
        return torch.cat((x, *skipped), dim=1)
    result: Tensor = _Concatenated.apply(x, *skipped)  # type: ignore[no-untyped-call]
    return result


class _Concatenated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.n_channels = [part.shape[1] for part in parts]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        parts = torch.split(grad, ctx.n_channels, dim=1)
        return tuple(part.contiguous(memory_format=torch.channels_last) for part in parts)


class ComplexBlock(nn.Module):
    """Complex convolution, batch norm on real and imaginary parts, LeakyReLU."""

    def __init__(self, conv: ComplexConv2d | ComplexConvTranspose2d, out_channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(2 * out_channels)

    def forward(self, x: Tensor, *size: Pair) -> Tensor:
        """(batch, 2 * in_channels, frame, freq) -> (batch, 2 * out_channels, frame', freq')."""
        if self.norm.training and type(self.norm) is not nn.BatchNorm2d:  # but one of several processes
            y = self.norm(self.conv(x, *size))
        elif self.norm.training:
            y = self._normed(self.conv.convolved(x, None, *size))
        else:
            scale, bias = self.scale_and_bias()
            y = self.conv.convolved(x, bias, *size, scale=scale)
        return F.leaky_relu(y, SLOPE, inplace=y.is_contiguous(memory_format=torch.channels_last))

    def scale_and_bias(self) -> tuple[Tensor, Tensor]:
        """What the norm makes of the convolution in evaluation mode, for each of its output channels.

        Its weights times g / s, and for its bias b (b - m) g / s + b', with m, s, g and b' those of the norm.
        """
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return scale, (self.conv.bias - norm.running_mean) * scale + norm.bias

    def _normed(self, x: Tensor) -> Tensor:
        """The norm, in training, of x and the bias, which the mean takes out: it need not be added."""
        norm, bias = self.norm, self.conv.bias
        assert norm.running_mean is not None
        assert norm.num_batches_tracked is not None
        with torch.no_grad():
            mean = norm.running_mean - bias
        beta = norm.bias + 0 * bias  # the bias has a gradient, of zero
        y = F.batch_norm(x, mean, norm.running_var, norm.weight, beta, True, norm.momentum or 0.0, norm.eps)
        if norm.momentum:
            with torch.no_grad():
                norm.num_batches_tracked += 1
                norm.running_mean.copy_(mean + bias)
        return y
