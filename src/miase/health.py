"""How a network fares while it learns, measured on noisy recordings alone."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from miase.metrics import DNSMOS, METRICS, installed, score
from miase.objectives import scale_to_snr

RATED = DNSMOS[:3]  # speech, background, overall
RATED_SECONDS = 9.01  # of one rating
PROBE_SNR_DB = 5.0  # of the noise that is added to an estimate to see whether it comes out again


def health(network: Callable[[Tensor], Tensor], noisy: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """How far the estimates are from silence and from doing nothing, and how well they agree with themselves.

    Args:
        network: (batch, time) -> (batch, time).
        noisy: recordings, (batch, time).
        noise: other noise, (batch, time).

    Returns:
        Means over the batch, in dB. ``energy_db``: energy of the estimate f(x) over that of the recording x;
        silence has a value far below 0. ``removed_db``: energy of x - f(x) over that of x; doing nothing has
        a value far below 0, silence 0. ``consistency_db``: SI-SDR of f(f(x) + n) against f(x), less that of
        f(x) + n, with n at 5 dB: how much of the noise n comes out of the estimate again; doing nothing has
        0. ``blind_sdr_db``: energy of x over that of f(x + n) - (x - n), the mean error over the batch.
        Where n is like the noise of x, what is left of both in x - n tells nothing of what is in x + n, so
        that this error is that against the clean speech plus a constant (Pang et al. 2021, "Recorrupted-to-
        recorrupted", equation 5): it sees lost speech and noise that stayed alike, without clean speech.
    """
    estimate = network(noisy)
    energy = noisy.square().sum(-1) + 1e-12
    kept = 10 * torch.log10(estimate.square().sum(-1) / energy + 1e-12)
    removed = 10 * torch.log10((noisy - estimate).square().sum(-1) / energy + 1e-12)
    snr_db = torch.full_like(energy, PROBE_SNR_DB)
    added = scale_to_snr(noisy, noise, snr_db)
    error = (network(noisy + added) - (noisy - added)).square().sum(-1) / energy
    noisier = estimate + scale_to_snr(estimate, noise, snr_db)
    gain = si_sdr(network(noisier), estimate) - si_sdr(noisier, estimate)
    return {
        "energy_db": kept.mean(),
        "removed_db": removed.mean(),
        "consistency_db": gain.mean(),
        "blind_sdr_db": -10 * torch.log10(error.mean()),
    }


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant SDR (Le Roux et al. 2019, equation 3) in dB, (batch, time) -> (batch,).

    Kept between -60 and 60 dB, so that a silent item stays finite.
    """
    power = target.square().sum(-1) + 1e-12
    scaled = ((estimate * target).sum(-1) / power).unsqueeze(-1) * target
    ratio = (scaled.square().sum(-1) + 1e-12) / ((estimate - scaled).square().sum(-1) + 1e-12)
    return (10 * torch.log10(ratio)).clamp(-60, 60)


def rate(estimate: Tensor, sample_rate: int) -> dict[str, float]:
    """DNSMOS SIG, BAK and OVRL of estimates, (batch, time), as one clip; empty without the extra `eval`.

    The clip is repeated or cut to the length of one rating, since ratings take more time than the network.
    """
    if not installed(METRICS[RATED[0]]):
        return {}
    clip = np.resize(estimate.float().cpu().numpy(), math.ceil(RATED_SECONDS * sample_rate))
    return dict(score(clip, None, sample_rate, RATED))


def quality(values: Mapping[str, float]) -> float:
    """One number by which the best of a run's validations is told, without clean speech; higher is better.

    It is ``blind_sdr_db``. Consistency alone rises, too, while a network loses speech: docs/experiments.md.
    """
    return values["blind_sdr_db"]
