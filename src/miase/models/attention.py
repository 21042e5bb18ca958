"""Softmax attention (Vaswani et al. 2017) over few steps with narrow heads, and its way back.

PyTorch's own takes two to three times as long for heads of 8 channels. What is faster here: powers of two in
place of those of e, products that have the steps along their last axis, no maximum taken out where none is
needed, and weights that are kept for the way back and normed only after what they weigh.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from miase.models.products import by_onednn

FEWEST_STEPS = 24  # from which on oneDNN is faster
MOST_STEPS = 128  # up to which all scores stand in memory at once
SAFE = 2.0**100  # sums of powers between which and its inverse their products, too, are numbers of float32


def attend(qkv: Tensor, *, rounded: bool = False) -> Tensor:
    """softmax(q k' / sqrt(width)) v.

    Args:
        qkv: (row, step, 3, head, width), q, k and v along the third axis.
        rounded: whether factors of matrix products, forth and back, may be rounded to bfloat16.

    Returns:
        (row, step, head * width).
    """
    if qkv.shape[1] > MOST_STEPS:
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    if torch.is_grad_enabled() and qkv.requires_grad:
        attended: Tensor = _AttentionAndBack.apply(qkv, rounded)  # type: ignore[no-untyped-call]
        return attended
    return _attend(qkv, rounded)[0]


def _powers(q: Tensor, k: Tensor, rounded: bool, *, shifted: bool) -> Tensor:
    """Of the scores, powers of two, (row * head, step of k, step of q); ``shifted`` to 1 for the largest."""
    with by_onednn(rounded=rounded, large=q.shape[1] >= FEWEST_STEPS):
        scores = torch.bmm(k, q.transpose(1, 2))
    if shifted:
        scores -= scores.amax(1, keepdim=True)
    return scores.exp2_()


def _attend(qkv: Tensor, rounded: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What `attend` gives, and what the way back needs: q, k, v, W before it is normed, its norm, W v."""
    n_rows, n_steps, _, n_heads, width = qkv.shape
    q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)  # (row * head, step, width) each
    q *= math.log2(math.e) / math.sqrt(width)
    weights = _powers(q, k, rounded, shifted=False)
    norm = weights.sum(1, keepdim=True)
    least, most = torch.aminmax(norm)
    if not (least > 1 / SAFE and most < SAFE):
        weights = _powers(q, k, rounded, shifted=True)
        norm = weights.sum(1, keepdim=True)
    norm = norm.reciprocal_()
    with by_onednn(rounded=rounded, large=n_steps >= FEWEST_STEPS):
        attended = torch.bmm(v.transpose(1, 2), weights)  # (row * head, width, step)
    attended *= norm
    by_step = attended.view(n_rows, n_heads * width, n_steps).transpose(1, 2).contiguous()
    return by_step, (q, k, v, weights, norm, attended)


class _AttentionAndBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, rounded: bool) -> Tensor:
        attended, kept = _attend(qkv, rounded)
        ctx.n_heads, ctx.rounded = qkv.shape[3], rounded
        ctx.save_for_backward(*kept)
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """With W the weights and o what they gave, of the scores W (grad v' - sum over width of grad o)."""
        q, k, v, weights, norm, attended = ctx.saved_tensors
        n_rows, n_steps, _ = grad.shape
        grad = grad.transpose(1, 2).contiguous().view_as(attended).mul(norm)
        shared = (grad * attended).sum(1, keepdim=True)
        of_qkv = grad.new_empty(3, *attended.shape)
        with by_onednn(rounded=ctx.rounded, large=n_steps >= FEWEST_STEPS):
            of_scores = torch.bmm(v, grad).sub_(shared).mul_(weights)
            torch.bmm(k.transpose(1, 2), of_scores, out=of_qkv[0])
            torch.bmm(q.transpose(1, 2), of_scores.transpose(1, 2), out=of_qkv[1])
            torch.bmm(grad, weights.transpose(1, 2), out=of_qkv[2])
        of_qkv[0] /= math.sqrt(q.shape[-1])
        of_qkv[1] *= math.log(2)
        return of_qkv.view(3, n_rows, ctx.n_heads, -1, n_steps).permute(1, 4, 0, 2, 3).contiguous(), None
