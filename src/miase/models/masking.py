"""The bounded complex ratio mask, and a spectrum under it.

M = tanh(|O|)^e O / |O| (Choi et al. 2019, section 3.2, with e = 1): the phase of the network's output O with
a magnitude below 1.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from miase.models.complex import eager_cpu

FLOOR = 1e-12  # beside the square of a magnitude, whose root then has a slope everywhere


def masked(output: Tensor, spectrum: Tensor, exponent: float = 1.0) -> Tensor:
    """The spectrum under the mask.

    Args:
        output: O, (batch, 2, frame, freq), of any precision.
        spectrum: (batch, freq, frame, 2).
        exponent: e.

    Returns:
        (batch, freq, frame, 2), in float32.
    """
    if not eager_cpu(output) or spectrum.requires_grad:
        mask = bounded_mask(output.float().permute(0, 3, 2, 1), exponent)
        return complex_multiply(mask, spectrum)
    real, imag = output.float().unbind(1)
    frames = torch.view_as_complex(spectrum.transpose(1, 2).contiguous())
    result: Tensor = _Masked.apply(real, imag, frames, exponent)  # type: ignore[no-untyped-call]
    return torch.view_as_real(result).transpose(1, 2)


class _Masked(torch.autograd.Function):
    """Real and imaginary parts apart, which a CPU computes several times as fast as pairs."""

    @staticmethod
    def forward(ctx: Any, real: Tensor, imag: Tensor, spectrum: Tensor, exponent: float) -> Tensor:
        magnitude = torch.addcmul(real * real, imag, imag).add_(FLOOR).sqrt_()
        bounded = torch.tanh(magnitude)
        gain = (bounded if exponent == 1 else bounded.pow(exponent)).div(magnitude)
        ctx.save_for_backward(real, imag, spectrum, magnitude, bounded, gain)
        ctx.exponent = exponent
        return torch.complex(gain * real, gain * imag).mul_(spectrum)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """With g = tanh(m)^e / m the gain and G the mask's gradient, of O: g G + g' / m <G, O> O."""
        real, imag, spectrum, magnitude, bounded, gain = ctx.saved_tensors
        of_mask = grad * spectrum.conj()
        of_real, of_imag = of_mask.real.contiguous(), of_mask.imag.contiguous()
        slope = torch.addcmul(torch.ones_like(bounded), bounded, bounded, value=-1)
        if ctx.exponent != 1:
            slope *= ctx.exponent * bounded.pow(ctx.exponent - 1)
        slope.sub_(gain).div_(magnitude).div_(magnitude)
        slope *= torch.addcmul(of_real * real, of_imag, imag)
        return of_real.mul_(gain).addcmul_(slope, real), of_imag.mul_(gain).addcmul_(slope, imag), None, None


def bounded_mask(x: Tensor, exponent: float = 1.0) -> Tensor:
    """The mask of an output, (..., 2) -> (..., 2).

    Its gradient is finite at O = 0, where M = O for e = 1.
    """
    magnitude = torch.sqrt(power_of(x) + FLOOR)
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
