"""Losses between an estimate and its target: functions of waveforms, (batch, time) -> (batch,).

One value per item, so that the level of one item never weighs on another.
"""

import torch
from torch import Tensor

EPS = 1e-8


def weighted_sdr(noisy: Tensor, estimate: Tensor, target: Tensor) -> Tensor:
    """Weighted SDR loss of Choi et al. 2019, equation 8, between -1 (perfect) and 1.

    -a <y, y'> / (|y| |y'|) - (1 - a) <z, z'> / (|z| |z'|) with the noise z = x - y, its estimate z' = x - y'
    and the target's share of the energy a = |y|^2 / (|y|^2 + |z|^2).

    Args:
        noisy: the network's input x.
        estimate: the network's output y'.
        target: what it should be, y.
    """
    noise, noise_estimate = noisy - target, noisy - estimate
    target_energy, noise_energy = target.square().sum(-1), noise.square().sum(-1)
    share = target_energy / (target_energy + noise_energy + EPS)
    return -share * _cosine(target, estimate) - (1 - share) * _cosine(noise, noise_estimate)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    norms = a.square().sum(-1).sqrt() * b.square().sum(-1).add(EPS**2).sqrt()
    return (a * b).sum(-1) / (norms + EPS)


def relative_time_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the waveform over the target's RMS.

    Silence, which weighted SDR forgives, gets about 1.
    """
    return (estimate - target).abs().mean(-1) / _rms(target)


def compressed_spectrum_error(estimate: Tensor, target: Tensor, exponent: float = 0.3) -> Tensor:
    """Error of compressed magnitudes and of compressed complex spectra.

    Ephrat et al. 2018; Braun and Tashev 2021. Mean of (|Y'|^c - |Y|^c)^2 and of
    |Y'|^c e^{i phase(Y')} - |Y|^c e^{i phase(Y)} squared, over spectra of 32 ms frames at 16 kHz of signals
    that are first divided by the target's RMS. Compression gives weak speech sounds a say.

    Args:
        estimate: the network's output.
        target: what it should be.
        exponent: c, from above 0 to 1.
    """
    level = _rms(target).unsqueeze(-1)
    a, b = _spectrum(estimate / level), _spectrum(target / level)
    a_power, b_power = a.square().sum(-1) + 1e-6, b.square().sum(-1) + 1e-6
    a_magnitude, b_magnitude = a_power ** (exponent / 2), b_power ** (exponent / 2)
    by_magnitude = (a_magnitude - b_magnitude).square().mean((1, 2))
    a_unit, b_unit = a * a_power.rsqrt().unsqueeze(-1), b * b_power.rsqrt().unsqueeze(-1)
    by_complex = (a_unit * a_magnitude.unsqueeze(-1) - b_unit * b_magnitude.unsqueeze(-1)).square().sum(-1)
    return by_magnitude + 0.5 * by_complex.mean((1, 2))


def _spectrum(samples: Tensor) -> Tensor:
    window = torch.hann_window(512, device=samples.device)
    spectrum = torch.stft(
        samples.float(), 512, 256, window=window, center=True, pad_mode="constant", return_complex=True
    )
    return torch.view_as_real(spectrum) / 16.0  # a full-scale sine's bin comes out as 8


def _rms(samples: Tensor) -> Tensor:
    return samples.square().mean(-1).add(EPS).sqrt()
