"""Complex convolutions with their batch norms, as real convolutions for inference.

Real parts come before imaginary ones. Gauss's three products in place of four save a quarter of the
arithmetic: with k = W_r (x_r + x_i) is y_r = k - (W_r + W_i) x_i and y_i = k + (W_i - W_r) x_r. So a layer is
either one real convolution, of all channels, or three of half of them each.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from miase.models.complex import ComplexBlock, ComplexConvTranspose2d
from miase.models.convolution import Pair

Parts = tuple[Tensor, ...]  # (frame, freq, channel): real and imaginary ones apart, or one tensor of both
FEWEST = 16  # complex channels on either side with which three products pay: what a vector of float32 holds


def real_and_imag(parts: Parts) -> tuple[Tensor, Tensor]:
    """Both apart."""
    real, imag = parts if len(parts) == 2 else parts[0].chunk(2, dim=-1)
    return real, imag


class Folded(NamedTuple):
    """A convolution over (frame, freq), plain or transposed.

    Attributes:
        weights: as torch has them, one, or three for the products of x_r + x_i, x_r and x_i.
        biases: of the channels that each of them gives.
        scales: what k is multiplied with in y_r and in y_i, where there are three products.
        kernel: (frame, freq).
        stride: (frame, freq).
        n_channels: that come out, real and imaginary ones.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    scales: tuple[Tensor, ...]
    kernel: Pair
    stride: Pair
    n_channels: int

    @property
    def padding(self) -> Pair:
        """Half the kernel."""
        return self.kernel[0] // 2, self.kernel[1] // 2

    @property
    def output_padding(self) -> Pair:
        """All that the stride allows: the excess is cut off, and oneDNN is slow at borders without taps."""
        return self.stride[0] - 1, self.stride[1] - 1

    def to(self, dtype: torch.dtype) -> "Folded":
        """The same in another precision."""
        return self._replace(
            weights=tuple(weight.to(dtype) for weight in self.weights),
            biases=tuple(bias if bias is None else bias.to(dtype) for bias in self.biases),
        )

    def none(self, n_freq: int) -> Parts:
        """An output without frames."""
        return (self.weights[0].new_empty(0, n_freq, self.n_channels),)

    def parts(self, outputs: list[Tensor]) -> Parts:
        """Of what the real convolutions give, the result; (frame, freq, channel) each, used up."""
        if len(outputs) == 1:
            return (outputs[0],)
        shared, of_real, of_imag = outputs
        return of_imag.addcmul_(shared, self.scales[0]), of_real.addcmul_(shared, self.scales[1])


def fold(layer: ComplexBlock | ComplexConvTranspose2d, n_skipped: int, dtype: torch.dtype) -> Folded:
    """The convolution with its batch norm.

    Args:
        layer: with a norm, or without one.
        n_skipped: complex channels of its input that a skip connection brings, the last ones.
        dtype: of the convolutions; three products are for float32, as bfloat16 would round their sums.
    """
    conv = layer.conv if isinstance(layer, ComplexBlock) else layer
    n_out = len(conv.bias) // 2
    transposed = isinstance(conv, ComplexConvTranspose2d)
    n_in = conv.weight_real.shape[0 if transposed else 1]
    scale, bias = torch.ones_like(conv.bias), conv.bias.detach()
    if isinstance(layer, ComplexBlock):
        scale, bias = layer.scale_and_bias()
    along = (1, -1, 1, 1) if transposed else (-1, 1, 1, 1)
    scales: tuple[Tensor, ...] = ()
    three = dtype == torch.float32 and min(n_in, n_out) >= FEWEST
    if three:
        scales = (scale[0::2].clone(), scale[1::2].clone())
        real, imag = conv.weight_real.detach(), conv.weight_imag.detach()
        products = real, (imag - real) * scales[1].view(along), -(real + imag) * scales[0].view(along)
        weights: tuple[Tensor, ...] = products
        biases: tuple[Tensor | None, ...] = (None, bias[1::2].clone(), bias[0::2].clone())
    else:
        weight = conv.block_weight() * scale.view(along)
        given = torch.cat((_apart(n_in - n_skipped), 2 * (n_in - n_skipped) + _apart(n_skipped)))
        for axis, order in enumerate((given, _apart(n_out)) if transposed else (_apart(n_out), given)):
            weight = weight.index_select(axis, order.to(weight.device))
        weights, biases = (weight,), (bias[_apart(n_out).to(bias.device)],)
    return Folded(
        tuple(w.transpose(2, 3).contiguous(memory_format=torch.channels_last) for w in weights),
        biases,
        scales,
        (conv.weight_real.shape[3], conv.weight_real.shape[2]),
        (conv.stride[1], conv.stride[0]),
        2 * n_out,
    ).to(dtype)


def _apart(n: int) -> Tensor:
    """Where in ``n`` interleaved pairs the real parts are, and then the imaginary ones."""
    return torch.arange(2 * n).view(n, 2).T.flatten()
