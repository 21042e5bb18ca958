"""Convolutions that learn on a CPU in float32, with the gradient of their weights taken piece by piece.

For large images oneDNN takes up to three times as long for the whole as for pieces, which stay in the caches.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Pair = tuple[int, int]  # along rows and columns

LARGE = 10_000_000  # bytes of an image
PIECE = 8  # rows of the smaller image
NARROWEST = 16  # channels: with fewer the whole is as fast

convolution = torch.ops.aten.convolution
convolution_back = torch.ops.aten.convolution_backward


def learns_by_pieces(x: Tensor, weight: Tensor, *how: Any) -> bool:
    """Whether this is a case for `convolve_by_pieces`.

    Args:
        x: what is convolved, (batch, channel, row, column).
        weight: as torch has it.
        how: as `convolve_by_pieces` takes it.
    """
    larger = math.prod(how[0]) if len(how) > 2 else 1  # a transposed convolution's output than its input
    return (
        torch.is_grad_enabled()
        and weight.requires_grad
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and min(weight.shape[:2]) >= NARROWEST
        and x[0, 0].numel() * larger * min(weight.shape[:2]) * x.element_size() > LARGE
    )


def convolve_by_pieces(x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
    """The convolution.

    Args:
        x: (batch, channel, row, column).
        weight: as torch has it.
        bias: of the output channels.
        how: stride and padding, and for a transposed convolution the output padding.
    """
    stride, padding = how[:2]
    extra = how[2] if len(how) > 2 else None
    result: Tensor = _ByPieces.apply(x, weight, bias, stride, padding, extra)  # type: ignore[no-untyped-call]
    return result


class _ByPieces(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        stride, padding, extra = how
        ctx.how = (stride, padding, (1, 1), extra is not None, extra or (0, 0), 1)
        ctx.save_for_backward(x, weight)
        result: Tensor = convolution(x, weight, bias, *ctx.how)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, _, transposed, _, _ = ctx.how
        of_x = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = convolution_back(grad, x, weight, None, *ctx.how, [True, False, False])[0]
        if ctx.needs_input_grad[2]:  # torch would take the gradient of the weights along with it
            of_bias = grad.sum((0, 2, 3))
        # A transposed convolution is the way back of a plain one, from its output to its input.
        larger, smaller = (grad, x) if transposed else (x, grad)
        return of_x, _of_weight(larger, smaller, weight, stride, padding), of_bias, None, None, None


def _of_weight(x: Tensor, grad: Tensor, weight: Tensor, stride: Any, padding: Any) -> Tensor:
    """Of a plain convolution of ``x``, with ``grad`` that of its output."""
    kernel = weight.shape[2]
    x = F.pad(x, (0, 0, padding[0], padding[0]))
    how = (stride, (0, padding[1]), (1, 1), False, (0, 0), 1, [False, True, False])
    total = torch.zeros_like(weight)
    for of_item, item in zip(torch.split(grad, 1), torch.split(x, 1), strict=True):
        for first, piece in enumerate(torch.split(of_item, PIECE, dim=2)):
            start = stride[0] * PIECE * first
            seen = item[:, :, start : start + stride[0] * (piece.shape[2] - 1) + kernel]
            total += convolution_back(piece, seen, weight, None, *how)[1]
    return total
