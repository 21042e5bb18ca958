"""What the first pass of denoising twice hands on: how far it goes, and what of a batch is learned from."""

import torch
import torch.nn.functional as F
from torch import Tensor

FRAME_SECONDS, HOPS = 0.032, 4
AROUND = (33, 9)  # bins and frames around one: 1 kHz and 72 ms, as far as a speech sound reaches
EPS = 1e-12


def part_way(
    noisy: Tensor, estimate: Tensor, share: float, speech_share: float, sample_rate: int = 16000
) -> Tensor:
    """The first pass, a part of the way from a recording to its estimate: y1 = x + s (f(x) - x).

    What an estimate loses of the speech, 1 - s of it comes back, and as much of the noise. So where there is
    only noise all of the way is better. In each bin s = 1 - (1 - share) min(1, p / speech_share), with
    p = P_y / (P_y + P_r) the powers of the estimate and of what it removed, each the mean over ``AROUND``.

    Args:
        noisy: recordings x, (batch, time).
        estimate: of their speech, f(x), (batch, time).
        share: how far to go where there is speech, from 0 to 1.
        speech_share: p from which on all is speech; 0 goes ``share`` of the way everywhere.
        sample_rate: in Hz.

    Returns:
        y1, (batch, time).
    """
    if share == 1 or speech_share == 0:
        return noisy.lerp(estimate, share)
    hop_length = round(FRAME_SECONDS * sample_rate) // HOPS
    n_fft = HOPS * hop_length
    window = torch.hann_window(n_fft, device=noisy.device)

    def spectrum(samples: Tensor) -> Tensor:
        return torch.stft(
            samples.float(), n_fft, hop_length, window=window, pad_mode="constant", return_complex=True
        )

    removed = spectrum(noisy - estimate)
    left, gone = (_around(part.abs().square()) for part in (spectrum(estimate), removed))
    speech = (left / (left + gone + EPS) / speech_share).clamp(max=1)
    given_back = torch.istft(
        (1 - share) * speech * removed, n_fft, hop_length, window=window, length=noisy.shape[-1]
    )
    return estimate + given_back


def cleanest_neighbours(noisy: Tensor, first: Tensor, of: int) -> Tensor:
    """For each item of a batch, the number of the cleanest of the ``of`` neighbours that it is one of.

    The SNR is that of the first pass over what it removed. Within neighbours, so that a batch is the same
    whole or in parts.

    Args:
        noisy: recordings x, (batch, time).
        first: their first pass y1, (batch, time).
        of: how many neighbours belong together.

    Returns:
        Numbers of items, (batch,).
    """
    snr = first.square().mean(-1) / ((noisy - first).square().mean(-1) + EPS)
    item = torch.arange(len(snr), device=snr.device)
    group = (item // of * of).unsqueeze(-1) + torch.arange(of, device=snr.device)
    group = group.clamp(max=len(snr) - 1)
    return group.gather(-1, snr[group].argmax(-1, keepdim=True)).squeeze(-1)


def _around(power: Tensor) -> Tensor:
    """Means over the bins and frames around each, those that there are; (batch, freq, frame) -> the same."""
    n_bins, n_frames = AROUND  # one axis after the other: the same means, in a third of the time
    bins = F.avg_pool2d(
        power.unsqueeze(1), (n_bins, 1), stride=1, padding=(n_bins // 2, 0), count_include_pad=False
    )
    return F.avg_pool2d(
        bins, (1, n_frames), stride=1, padding=(0, n_frames // 2), count_include_pad=False
    ).squeeze(1)
