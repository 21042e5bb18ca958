"""A transposed convolution to a few channels, as one matrix product: what each input gives through each tap.

oneDNN has a vector for the channels of an output; of two channels it leaves most of that empty. Here the taps
stand beside the channels, each in a plane of its own, and the planes are summed where their outputs meet.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from miase.models.convolution import Pair
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
        rows = x.permute(0, 2, 3, 1)
        shape = (*weight.shape[1:], *rows.shape[:3])
        planes = _seen(grad.to(x.dtype), shape, *ctx.how).flatten(3).flatten(0, 2)
        with by_onednn(rounded=False):
            of_rows = torch.mm(planes.T, weight.flatten(1).T)
            of_weight = torch.mm(planes, rows.flatten(0, 2)).T
        of_x = of_rows.view_as(rows).permute(0, 3, 1, 2)
        return of_x, of_weight.reshape(weight.shape), grad.sum((0, 2, 3)), None, None, None


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
    out = planes.new_empty(planes.shape[0], planes.shape[3], *size)
    for rows, columns in _phases(planes.shape, stride, padding, size):
        phase = out[..., rows.of_output, columns.of_output]
        total = bias.to(out.dtype)[:, None, None, None].expand_as(phase).contiguous()
        for row, column in itertools.product(rows.taps, columns.taps):
            seen = planes[:, row.number, column.number, :, row.of_input, column.of_input]
            total[..., row.of_phase, column.of_phase] += seen
        phase.copy_(total)
    return out.transpose(0, 1)


def _seen(grad: Tensor, shape: Sequence[int], stride: Pair, padding: Pair, size: Pair) -> Tensor:
    """The way back of `summed`: planes of this shape, with what each tap takes back to its inputs."""
    planes = grad.new_zeros(*shape)
    for rows, columns in _phases(shape, stride, padding, size):
        phase = grad.transpose(0, 1)[..., rows.of_output, columns.of_output]
        for row, column in itertools.product(rows.taps, columns.taps):
            seen = planes[:, row.number, column.number, :, row.of_input, column.of_input]
            seen.copy_(phase[..., row.of_phase, column.of_phase])
    return planes


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


def _phases(shape: Sequence[int], stride: Pair, padding: Pair, size: Pair) -> Iterator[tuple[_Phase, _Phase]]:
    """Those of rows with those of columns, for planes of this shape."""
    of_rows, of_columns = (
        [_Phase(k, shape[1 + i], stride[i], padding[i], shape[4 + i], size[i]) for k in range(stride[i])]
        for i in range(2)
    )
    yield from itertools.product(of_rows, of_columns)
