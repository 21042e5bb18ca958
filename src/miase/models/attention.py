"""Softmax attention (Vaswani et al. 2017) over few steps with narrow heads, and its way back.

PyTorch's own takes up to twice the time for so few steps, and back again.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FEW_STEPS = 12  # up to which attention forth is faster in the open
MOST_STEPS = 128  # up to which the weights are kept for the way back


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k' / sqrt(width)) v, (row, head, step, width) each -> the same."""
    n_steps = q.shape[2]
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (q, k, v))
    if learns and n_steps <= MOST_STEPS:
        attended: Tensor = _AttentionAndBack.apply(q, k, v)  # type: ignore[no-untyped-call]
        return attended
    if n_steps > FEW_STEPS:
        return F.scaled_dot_product_attention(q, k, v)
    weights = _unnormed_weights(q, k)
    return (weights @ v) / weights.sum(-1, keepdim=True)


def _unnormed_weights(q: Tensor, k: Tensor) -> Tensor:
    scores = q.div(math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
    return scores.sub_(scores.amax(-1, keepdim=True)).exp_()


class _AttentionAndBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = _unnormed_weights(q, k)
        weights /= weights.sum(-1, keepdim=True)
        attended = weights @ v
        ctx.save_for_backward(q, k, v, weights, attended)
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With W the weights and o what they gave, of the scores W (grad v' - sum over width of grad o)."""
        q, k, v, weights, attended = ctx.saved_tensors
        of_scores = (grad @ v.transpose(-1, -2)).sub_((grad * attended).sum(-1, keepdim=True)).mul_(weights)
        of_scores /= math.sqrt(q.shape[-1])
        return of_scores @ k, of_scores.transpose(-1, -2) @ q, weights.transpose(-1, -2) @ grad
