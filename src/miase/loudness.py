"""Loudness as the ear has it, and how an estimate disturbs it: a loss after PESQ (ITU-T P.862).

Powers are in units of a sound pressure level of 0 dB, bands have equal widths in Bark.
"""

from functools import lru_cache
from math import asinh, sinh

import torch
from torch import Tensor

N_BANDS = 49
TOP_HZ = 8000.0
SPEECH_DB = 79.0  # sound pressure level at which the target is heard
AUDIBLE_POWER = 1e5  # of a frame that counts as speech
LARGEST_DISTURBANCE = 45.0  # of a frame
ASYMMETRY = (3.0, 12.0)  # below the first, what is added counts as nothing more; above the second, no more


def loudness_error(estimate: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """How an estimate disturbs a listener who expects the target, with 0 for perfect, about 3 for noise.

    The disturbance of ITU-T P.862 (PESQ), section 10.2, as a loss like that of Martin-Donas et al. 2018,
    equations 3 to 12. Powers of 32 ms frames in 49 bands, the target's with the estimate's mean response and
    the estimate's with the target's level in each frame, give specific loudness by Zwicker's law. Its
    difference, less a quarter of the smaller one, is the disturbance: D of a frame is its root mean square
    over bands, and DA its mean over bands, weighted by what the estimate adds to the power of 1.2. The loss
    is the mean over frames of 0.1 D + 0.0309 DA, in points of PESQ. Signals are divided by the target's
    level. Formulas stand for P.862's tables (Schroeder et al. 1979, Terhardt 1979), and its alignment in
    time, its filter and its norms over time are left out.

    What it does not see, an estimate's level and a slow change of its response, other losses must hold.

    Args:
        estimate: the network's output, (batch, time).
        target: what it should be, (batch, time).
        sample_rate: of both, in Hz.

    Returns:
        (batch,).
    """
    level = target.square().mean(-1, keepdim=True).add(1e-8).sqrt() * 10 ** (-SPEECH_DB / 20)
    ours, theirs = _band_powers(estimate / level, sample_rate), _band_powers(target / level, sample_rate)
    is_speech = theirs.sum(-1, keepdim=True) > AUDIBLE_POWER
    response = _ratio((ours * is_speech).sum(1, keepdim=True), (theirs * is_speech).sum(1, keepdim=True), 1e3)
    theirs = theirs * response.clamp(0.01, 100)
    ours = ours * _ratio(theirs.sum(-1, keepdim=True), ours.sum(-1, keepdim=True), 5e3).clamp(3e-4, 5)
    our_loudness, their_loudness = _loudness(ours, sample_rate), _loudness(theirs, sample_rate)
    masked = 0.25 * torch.minimum(our_loudness, their_loudness)
    disturbance = ((our_loudness - their_loudness).abs() - masked).clamp(min=0)
    asymmetry = _ratio(ours, theirs, 50).detach() ** 1.2
    asymmetry = torch.where(asymmetry < ASYMMETRY[0], 0.0, asymmetry.clamp(max=ASYMMETRY[1]))
    n_bark = _top_bark(sample_rate)
    importance = ((theirs.sum(-1).detach() + 1e5) / 1e7) ** -0.04 * n_bark**2 / N_BANDS
    symmetric = (disturbance.square().mean(-1) + 1e-6).sqrt() * importance
    asymmetric = (disturbance * asymmetry).mean(-1) * importance
    symmetric, asymmetric = (part.clamp(max=LARGEST_DISTURBANCE) for part in (symmetric, asymmetric))
    return 0.1 * symmetric.mean(-1) + 0.0309 * asymmetric.mean(-1)


def _ratio(a: Tensor, b: Tensor, floor: float) -> Tensor:
    return (a + floor) / (b + floor)


def _band_powers(samples: Tensor, sample_rate: int) -> Tensor:
    """(batch, time) -> (batch, frame, band); a sine's power is half its amplitude squared."""
    n_fft = sample_rate * 32 // 1000
    window = torch.hann_window(n_fft, device=samples.device)
    spectrum = torch.stft(
        samples.float(),
        n_fft,
        n_fft // 2,
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)
    return power @ _bands(sample_rate, n_fft).to(power.device) / (0.1875 * n_fft**2)  # 0.375 N: the window's


def _loudness(power: Tensor, sample_rate: int) -> Tensor:
    """Zwicker's specific loudness, P.862 equation 14: 0 below the threshold of hearing."""
    threshold, exponent = (values.to(power.device) for values in _hearing(sample_rate))
    scale = 0.19 * (threshold / 0.5) ** exponent  # a tone of 1 kHz at 40 dB is about one sone
    return scale * ((0.5 + 0.5 * power / threshold).clamp(min=1.0) ** exponent - 1)


def _top_bark(sample_rate: int) -> float:
    """The upper end of the last band, in Bark."""
    return 6 * asinh(min(TOP_HZ, sample_rate / 2) / 600)


def _edges(sample_rate: int) -> Tensor:
    """The ends of the bands, in Hz, (N_BANDS + 1,)."""
    top = _top_bark(sample_rate)
    return torch.tensor([600 * sinh(top * i / N_BANDS / 6) for i in range(N_BANDS + 1)])


@lru_cache
def _bands(sample_rate: int, n_fft: int) -> Tensor:
    """The share of each bin, as wide as the bins are apart, that lies in each band; (bin, band)."""
    step = sample_rate / n_fft
    low = ((torch.arange(n_fft // 2 + 1) - 0.5) * step).unsqueeze(1)
    edges = _edges(sample_rate)
    return (torch.minimum(low + step, edges[1:]) - torch.maximum(low, edges[:-1])).clamp(min=0) / step


@lru_cache
def _hearing(sample_rate: int) -> tuple[Tensor, Tensor]:
    """Of each band, the threshold of hearing as a power, and the exponent of loudness."""
    edges = _edges(sample_rate)
    khz = (edges[1:] + edges[:-1]) / 2000
    threshold_db = 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    bark = 6 * torch.asinh(khz / 0.6)
    exponent = 0.23 * torch.where(bark < 4, (6 / (bark + 2)).clamp(max=2) ** 0.15, 1.0)
    return 10 ** (threshold_db.clamp(max=40) / 10), exponent
