"""A transposed convolution to a few channels, as one matrix product: what each input gives through each tap.

oneDNN has a vector for the channels of an output; of two channels it leaves most of that empty. Here the taps
stand beside the channels, each in a plane of its own, and the planes are summed where their outputs meet.
"""

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from miase.models.convolution import Pair, convolution_back
from miase.models.products import by_onednn

MOST_CHANNELS = 4  # of the output: a quarter of a vector of float32


def spread(x: Tensor, weight: Tensor, bias: Tensor, stride: Pair, padding: Pair, size: Pair) -> Tensor:
    """The transposed convolution, in float32.

    Args:
        x: (batch, in, row, column), channels last in memory.
        weight: (in, out, *kernel).
        bias: (out,).
        stride: of rows and columns.
        padding: likewise.
        size: rows and columns of the output.

    Returns:
        (batch, out, *size), each channel's values one after another in memory.
    """
    result: Tensor = _Spread.apply(x, weight, bias, stride, padding, size)  # type: ignore[no-untyped-call]
    return result


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *how: Pair) -> Tensor:
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        ctx.how = how
        return summed(through_taps(x, weight), bias, *how)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, size = ctx.how
        reached = [stride[i] * (x.shape[2 + i] - 1) + weight.shape[2 + i] - 2 * padding[i] for i in range(2)]
        extra = [size[i] - reached[i] for i in range(2)]
        rounded = grad.to(x.dtype, memory_format=torch.channels_last)
        how = stride, padding, (1, 1), True, extra, 1
        of_x, of_weight, _ = convolution_back(rounded, x, weight, None, *how, [True, True, False])
        return of_x, of_weight, grad.sum((0, 2, 3)), None, None, None


def through_taps(x: Tensor, weight: Tensor) -> Tensor:
    """(batch, in, row, column), (in, out, *kernel) -> (out, *kernel, batch, row, column) in float32."""
    rows = x.permute(0, 2, 3, 1)
    with by_onednn(rounded=False):
        planes = torch.mm(weight.flatten(1).T, rows.flatten(0, 2).T)
    return planes.float().view(*weight.shape[1:], *rows.shape[:3])


def summed(planes: Tensor, bias: Tensor, stride: Pair, padding: Pair, size: Pair) -> Tensor:
    """Output ``stride * i + tap - padding`` is the sum over the taps of what they give for inputs i.

    Args:
        planes: of `through_taps`.
        bias: (out,).
        stride: as `spread` has it.
        padding: as `spread` has it.
        size: as `spread` has it.

    Returns:
        (batch, out, *size).
    """
    n_channels, *kernel, n_batch, n_rows, n_columns = planes.shape
    out = planes.new_empty(n_channels, n_batch, *size)
    phases = [
        [_Phase(first, kernel[i], stride[i], padding[i], n_in, size[i]) for first in range(stride[i])]
        for i, n_in in enumerate((n_rows, n_columns))
    ]
    for rows, columns in itertools.product(*phases):
        phase = out[..., rows.of_output, columns.of_output]
        total = bias.to(out.dtype)[:, None, None, None].expand_as(phase).contiguous()
        for row, column in itertools.product(rows.taps, columns.taps):
            seen = planes[:, row.number, column.number, :, row.of_input, column.of_input]
            total[..., row.of_phase, column.of_phase] += seen
        phase.copy_(total)
    return out.transpose(0, 1)


class _Tap(NamedTuple):
    """Which of the inputs a tap takes to which outputs of a phase, along one axis."""

    number: int
    of_phase: slice
    of_input: slice


class _Phase:
    """Outputs ``stride * j + first`` along one axis, and the taps that reach them."""

    def __init__(self, first: int, kernel: int, stride: int, padding: int, n_in: int, n_out: int) -> None:
        self.of_output = slice(first, n_out, stride)
        n_out = len(range(first, n_out, stride))
        self.taps = []
        for number in range((first + padding) % stride, kernel, stride):
            ahead = (first + padding - number) // stride  # input j + ahead gives output j
            start, stop = max(0, -ahead), min(n_out, n_in - ahead)
            if start < stop:
                self.taps.append(_Tap(number, slice(start, stop), slice(start + ahead, stop + ahead)))
