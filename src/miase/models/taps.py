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


def spread(
    inputs: Sequence[Tensor], weight: Tensor, bias: Tensor, stride: Pair, padding: Pair, size: Pair
) -> Tensor:
    """The transposed convolution, in float32.

    Args:
        inputs: whose channels are convolved, one's after the other's, (batch, in, row, column) each, channels
            last in memory.
        weight: (in, out, *kernel).
        bias: (out,).
        stride: of rows and columns.
        padding: likewise.
        size: rows and columns of the output.

    Returns:
        (batch, out, *size), each channel's values one after another in memory.
    """
    how = stride, padding, size
    result: Tensor = _Spread.apply(weight, bias, *how, *inputs)  # type: ignore[no-untyped-call]
    return result


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, *rest: Any) -> Tensor:
        how, inputs = rest[:3], rest[3:]
        weight = weight.to(inputs[0].dtype)
        ctx.save_for_backward(weight, *inputs)
        ctx.how = how
        return summed(through_taps(inputs, weight), bias, *how)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, *inputs = ctx.saved_tensors
        n_batch, _, *size = inputs[0].shape
        shape = (*weight.shape[1:], n_batch, *size)
        planes = _seen(grad.to(weight.dtype), shape, *ctx.how).flatten(3).flatten(0, 2)
        of_inputs, of_weights = [], []
        with by_onednn(rounded=False):
            for rows, part in _rows_and_weights(inputs, weight):
                of_rows = torch.mm(planes.T, part.T)
                of_inputs.append(of_rows.view(n_batch, *size, -1).permute(0, 3, 1, 2))
                of_weights.append(torch.mm(planes, rows).T)
        of_weight = torch.cat(of_weights).view(weight.shape)
        return of_weight, grad.sum((0, 2, 3)), None, None, None, *of_inputs


def _rows_and_weights(inputs: Sequence[Tensor], weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(batch * row * column, in) and (in, out * kernel) of each of the inputs."""
    rows = [x.permute(0, 2, 3, 1).flatten(0, 2) for x in inputs]
    return zip(rows, torch.split(weight.flatten(1), [x.shape[1] for x in inputs]), strict=True)


def through_taps(inputs: Sequence[Tensor], weight: Tensor) -> Tensor:
    """What the inputs of `spread` give through each tap: (out, *kernel, batch, row, column), in float32."""
    with by_onednn(rounded=False):
        planes = [torch.mm(part.T, rows.T).float() for rows, part in _rows_and_weights(inputs, weight)]
    n_batch, _, *size = inputs[0].shape
    total = planes[0]
    for other in planes[1:]:
        total += other
    return total.view(*weight.shape[1:], n_batch, *size)


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
