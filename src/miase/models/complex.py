"""Complex layers on real tensors: convolution, transposed convolution, normalisation, activation and mask.

Complex channels are interleaved: channel 2c holds the real part and 2c + 1 the imaginary part of complex
channel c. In this order the concatenation of two complex tensors is a plain ``torch.cat`` along the channels.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miase.models.convolution import convolve_by_pieces, learns_by_pieces

Pair = tuple[int, int]


def real_part(x: Tensor) -> Tensor:
    """(batch, 2 * channel, ...) -> (batch, channel, ...)."""
    return x[:, 0::2]


def imag_part(x: Tensor) -> Tensor:
    """(batch, 2 * channel, ...) -> (batch, channel, ...)."""
    return x[:, 1::2]


def interleave(real: Tensor, imag: Tensor) -> Tensor:
    """Two (batch, channel, ...) parts -> (batch, 2 * channel, ...)."""
    return torch.stack((real, imag), dim=2).flatten(1, 2)


NARROW = 2  # values along the last axis


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
        weight = self.block_weight().transpose(2, 3)
        return convolve(F.conv2d, x, weight, self.bias, self.stride[::-1], self.padding[::-1])


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

    def forward(self, x: Tensor, size: Pair) -> Tensor:
        """(batch, 2 * in_channels, frame', freq') -> (batch, 2 * out_channels, *size)."""
        stride, padding = self.stride[::-1], self.padding[::-1]
        extra = [size[i] - ((x.shape[2 + i] - 1) * stride[i] + 1) for i in range(2)]
        weight = self.block_weight().transpose(2, 3)
        if x.device.type != "cpu":
            return convolve(F.conv_transpose2d, x, weight, self.bias, stride, padding, extra)
        # With a bias oneDNN takes up to twice the time forth, and up to four times back.
        y = convolve(F.conv_transpose2d, x, weight, None, stride, padding, extra)
        return y.add_(self.bias.to(y.dtype)[:, None, None])


class ComplexBlock(nn.Module):
    """Complex convolution, batch norm on real and imaginary parts, LeakyReLU."""

    def __init__(self, conv: ComplexConv2d | ComplexConvTranspose2d, out_channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(2 * out_channels)

    def forward(self, x: Tensor, *size: Pair) -> Tensor:
        """(batch, 2 * in_channels, frame, freq) -> (batch, 2 * out_channels, frame', freq')."""
        return F.leaky_relu(self.norm(self.conv(x, *size)), 0.01, inplace=True)


def bounded_mask(x: Tensor, exponent: float = 1.0) -> Tensor:
    """Bounded complex ratio mask M = tanh(|O|)^e O / |O| (Choi et al. 2019, section 3.2, with e = 1).

    (..., 2) -> (..., 2): the phase of O with a magnitude below 1. Its gradient is finite at O = 0,
    where M = O for e = 1.
    """
    magnitude = torch.sqrt(power_of(x) + 1e-12)
    bounded = torch.tanh(magnitude)
    if exponent != 1:
        bounded = bounded.pow(exponent)
    return (bounded / magnitude).unsqueeze(-1) * x


def power_of(x: Tensor) -> Tensor:
    """(..., 2) -> (...): the sum of the squares of a pair, in a quarter of the time of ``sum``."""
    real, imag = x.unbind(-1)
    return torch.addcmul(real * real, imag, imag)


def complex_multiply(a: Tensor, b: Tensor) -> Tensor:
    """Complex product of two (..., 2) tensors of real pairs."""
    ar, ai = a.unbind(-1)
    br, bi = b.unbind(-1)
    return torch.stack((ar * br - ai * bi, ar * bi + ai * br), dim=-1)
