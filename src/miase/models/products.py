"""Products of float32 matrices on a CPU by oneDNN, twice as fast as MKL on processors that are not Intel's.

PyTorch takes oneDNN where factors may be rounded to bfloat16. oneDNN then does so on processors with AMX; on
others of the kind it computes in float32.
"""

import functools
import platform
import threading
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)  # from torch 2.9 on


class _Rounding:
    """Within it factors may be rounded, in the whole process; the last thread to leave ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_within = 0
        self._before = ""

    def __enter__(self) -> None:
        with self._lock:
            if self._n_within == 0:
                self._before = _matmul.fp32_precision
                _matmul.fp32_precision = "bf16"
            self._n_within += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._n_within -= 1
            if self._n_within == 0:
                _matmul.fp32_precision = self._before


_rounding = _Rounding()


@functools.cache
def rounds() -> bool:
    """Whether this processor rounds factors that may be: found out with one that bfloat16 does not have."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True  # others may round by the shape
    factors = torch.full((1, 64, 64), 1 + 2**-12)
    with _rounding:
        errors = torch.bmm(factors, factors) - 64 * (1 + 2**-12) ** 2
    return bool(errors.abs().max() > 1e-3)  # of rounded factors 0.03, of precise ones the last digits


def by_onednn(*, rounded: bool, large: bool = True) -> AbstractContextManager[None]:
    """Within it products of float32 matrices are oneDNN's, unless that would round what it must not.

    Args:
        rounded: whether factors may be rounded to bfloat16.
        large: whether the products are so large that it pays.
    """
    return _rounding if large and _matmul is not None and (rounded or not rounds()) else nullcontext()


def affine(x: Tensor, weight: Tensor, bias: Tensor | None, *, rounded: bool) -> Tensor:
    """Rows times the weight, and the bias: x W + b.

    Args:
        x: (group, row, in).
        weight: (group, in, out).
        bias: (group, 1, out).
        rounded: whether factors may be, here and on the way back.

    Returns:
        (group, row, out).
    """
    result: Tensor = _Affine.apply(x, weight, bias, rounded)  # type: ignore[no-untyped-call]
    return result


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rounded: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.rounded = rounded
        with by_onednn(rounded=rounded):
            y = torch.bmm(x, weight)
        return y if bias is None else y.add_(bias)  # baddbmm takes half as long again

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x = of_bias = None
        with by_onednn(rounded=ctx.rounded):
            if ctx.needs_input_grad[0]:
                of_x = torch.bmm(grad, weight.transpose(1, 2))
            of_weight = torch.bmm(x.transpose(1, 2), grad)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum(1, keepdim=True)
        return of_x, of_weight, of_bias, None
