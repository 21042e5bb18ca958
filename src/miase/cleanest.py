"""Which recordings hold so little noise that an estimate of their speech is worth learning from."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from miase.dataset import Examples
from miase.errors import AudioError
from miase.pauses import FRAME_SECONDS, smooth_power
from miase.sounds import Samples

SECONDS = 4.0  # of a recording that are listened to
MOST = 2000  # recordings that are listened to: more would take minutes
LEAST = 32  # recordings to learn from
STEADY_DB = 3.0  # white noise spreads over 1 dB, the noise of streets over 4 to 17


def cleanest_recordings(examples: Examples, estimate: Callable[[Tensor], Tensor], share: float) -> list[int]:
    """The recordings to learn from, by their numbers in ``examples``: of those in steady noise the cleanest.

    In noise that comes and goes, those seem to be clean whose noise passed for speech: all of them stay.

    Args:
        examples: excerpts of the recordings. Their seed says which to listen to, where there are more than
            ``MOST``; the others stay where most noise is not steady.
        estimate: the model or a filter, (batch, time) -> (batch, time).
        share: of the recordings in steady noise that are wanted.

    Returns:
        Sorted; ``LEAST`` of them, or all where there are fewer.
    """
    n = len(examples)
    if n <= LEAST:
        return list(range(n))
    order = np.random.default_rng((examples.seed, n)).permutation(n)
    heard, others = order[:MOST], order[MOST:]
    snr_db = np.array([_snr_of(examples, int(index), estimate) for index in heard])
    steady = ~np.isnan(snr_db)
    stay = [*heard[~steady], *(others if steady.sum() <= len(heard) / 2 else ())]
    n_wanted = max(math.ceil(share * steady.sum()), LEAST - len(stay))
    cleanest = heard[steady][np.argsort(-snr_db[steady], kind="stable")[:n_wanted]]
    return sorted(int(index) for index in (*stay, *cleanest))


def steady_snr(noisy: Samples, estimate: Samples, sample_rate: int) -> float:
    """SNR of noisy speech by an estimate of the speech, 10 log10(|y|^2 / |x - y|^2), where it can be told.

    That is where what the estimate y took away is steady: the 10 % and the 90 % quantile of its power over
    100 ms are less than ``STEADY_DB`` apart. Else some of the noise may be left in the estimate.

    Args:
        noisy: recording x, (time,).
        estimate: of its speech, y, (time,).
        sample_rate: in Hz.

    Returns:
        dB; NaN where it cannot be told.
    """
    removed = smooth_power(noisy - estimate, round(FRAME_SECONDS * sample_rate))
    if len(removed) == 0:
        return math.nan
    quiet, loud = np.quantile(removed, (0.1, 0.9))
    if not 0 < loud < quiet * 10 ** (STEADY_DB / 10):
        return math.nan
    return float(10 * np.log10(np.square(estimate).mean() / np.square(noisy - estimate).mean() + 1e-12))


def _snr_of(examples: Examples, index: int, estimate: Callable[[Tensor], Tensor]) -> float:
    try:
        noisy = examples.stretch(index, SECONDS)
    except AudioError:
        return -math.inf  # it is the last to be chosen
    found = estimate(torch.from_numpy(noisy).unsqueeze(0)).squeeze(0)
    return steady_snr(noisy, found.cpu().numpy(), examples.sample_rate)
