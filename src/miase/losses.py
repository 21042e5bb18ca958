"""Losses between an estimate and its target: functions of waveforms, (batch, time) -> (batch,).

One value per item, so that the level of one item never weighs on another.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-8
RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))  # n_fft, hop_length, window: samples


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


def compressed_spectrum_error(
    estimate: Tensor, target: Tensor, weights: Tensor | None = None, exponent: float = 0.3
) -> Tensor:
    """Error of compressed magnitudes and of compressed complex spectra.

    Ephrat et al. 2018; Braun and Tashev 2021. Mean of (|Y'|^c - |Y|^c)^2 and of
    |Y'|^c e^{i phase(Y')} - |Y|^c e^{i phase(Y)} squared, over spectra of 32 ms frames at 16 kHz of signals
    that are first divided by the target's RMS. Compression gives weak speech sounds a say.

    Args:
        estimate: the network's output.
        target: what it should be.
        weights: of the bins, (batch, freq, frame), as `trust_in_bins` gives them; by default all alike.
        exponent: c, from above 0 to 1.
    """
    level = _rms(target).unsqueeze(-1)
    a, b = _spectrum(estimate / level), _spectrum(target / level)
    a_power, b_power = a.square().sum(-1) + 1e-6, b.square().sum(-1) + 1e-6
    a_magnitude, b_magnitude = a_power ** (exponent / 2), b_power ** (exponent / 2)
    by_magnitude = (a_magnitude - b_magnitude).square()
    a_unit, b_unit = a * a_power.rsqrt().unsqueeze(-1), b * b_power.rsqrt().unsqueeze(-1)
    by_complex = (a_unit * a_magnitude.unsqueeze(-1) - b_unit * b_magnitude.unsqueeze(-1)).square().sum(-1)
    error = by_magnitude + 0.5 * by_complex
    return (error if weights is None else weights * error).mean((1, 2))


def trust_in_bins(target: Tensor, removed: Tensor, least: float) -> Tensor:
    """Weights for the spectrum of a target that is an estimate: how much of a bin it left as it was heard.

    ``least`` + (1 - ``least``) P_y / (P_y + P_r), with the powers of target and of what the estimate removed,
    each the mean of 3 x 3 bins; over the weights' mean. Where nearly all was removed, speech may have been,
    too; where little was, the target is near the truth.

    Args:
        target: the estimate, (batch, time).
        removed: the recording less the estimate, (batch, time).
        least: weight of a bin of which all was removed, from above 0; 1 makes all alike.

    Returns:
        Weights with mean 1, (batch, freq, frame).
    """
    level = _rms(target).unsqueeze(-1)
    left, gone = (
        F.avg_pool2d(_spectrum(part / level).square().sum(-1).unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
        for part in (target, removed)
    )
    weights = least + (1 - least) * left / (left + gone + EPS)
    return weights / weights.mean((1, 2), keepdim=True)


def squared_error(estimate: Tensor, target: Tensor) -> Tensor:
    """L_time as published (Wu et al. 2021; Tu et al. 2025): the mean squared error of the waveform."""
    return (estimate - target).square().mean(-1)


def stft_error(estimate: Tensor, target: Tensor) -> Tensor:
    """L_stft as published (Wu et al. 2021; Tu et al. 2025): mean | |Y'|_1 - |Y|_1 |, |Z|_1 = |Re Z| + |Im Z|.

    Over whole frames of 512 samples under a Hamming window, 256 apart; what does not fill a frame at the end
    is left out, and signals shorter than a frame are filled with silence.
    """
    window = torch.hamming_window(512, device=target.device)

    def magnitudes(samples: Tensor) -> Tensor:
        samples = F.pad(samples.float(), (0, max(0, 512 - samples.shape[-1])))
        spectrum = torch.stft(samples, 512, 256, window=window, center=False, return_complex=True)
        return torch.view_as_real(spectrum).abs().sum(-1)

    return (magnitudes(estimate) - magnitudes(target)).abs().mean((1, 2))


def multi_resolution_stft_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Multi-resolution STFT loss of Yamamoto, Song and Kim 2020, equations 5 to 7.

    The mean over three resolutions of the spectral convergence | |Y| - |Y'| |_F / | |Y| |_F and the mean
    | log |Y| - log |Y'| |, of signals that are first divided by the target's RMS.
    """
    level = _rms(target).unsqueeze(-1)
    total = torch.zeros(len(target), device=target.device)
    for n_fft, hop_length, length in RESOLUTIONS:
        window = torch.hann_window(length, device=target.device)

        def magnitudes(
            samples: Tensor, n_fft: int = n_fft, hop: int = hop_length, window: Tensor = window
        ) -> Tensor:
            spectrum = torch.stft(
                samples.float(),
                n_fft,
                hop,
                len(window),
                window,
                center=True,
                pad_mode="constant",
                return_complex=True,
            )
            return torch.view_as_real(spectrum).square().sum(-1).clamp(min=1e-7).sqrt()

        ours, theirs = magnitudes(estimate / level), magnitudes(target / level)
        distance = (theirs - ours).square().sum((1, 2)).add(EPS).sqrt()
        convergence = distance / theirs.square().sum((1, 2)).sqrt()
        total = total + convergence + (theirs.log() - ours.log()).abs().mean((1, 2))
    return total / len(RESOLUTIONS)


def _spectrum(samples: Tensor) -> Tensor:
    window = torch.hann_window(512, device=samples.device)
    spectrum = torch.stft(
        samples.float(), 512, 256, window=window, center=True, pad_mode="constant", return_complex=True
    )
    return torch.view_as_real(spectrum) / 16.0  # a full-scale sine's bin comes out as 8


def _rms(samples: Tensor) -> Tensor:
    return samples.square().mean(-1).add(EPS).sqrt()
