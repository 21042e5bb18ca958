"""What is said of a column of values: mean, standard deviation, bootstrap interval, paired differences.

Only finite values enter: an undefined one (NaN) and an infinite one (the SNR of a perfect estimate) are
    counted
beside the mean instead of spoiling it.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

N_RESAMPLES = 1000
CONFIDENCE = 0.95

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """A column of values in short.

    Attributes:
        n: finite values, the ones that the rest is made of.
        n_undefined: values that are NaN.
        n_infinite: values that are infinite.
        mean: of the finite values; NaN if there is none.
        std: their sample standard deviation (n - 1 in the denominator); NaN for fewer than two.
        low: lower end of the 95 % bootstrap interval of the mean; NaN for fewer than two.
        high: upper end.
    """

    n: int
    n_undefined: int
    n_infinite: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One system less another, file by file.

    Attributes:
        summary: of the differences of the files on which both values are finite.
        n_better: files on which the first system has the better value.
        n_worse: files on which it has the worse one.
    """

    summary: Summary
    n_better: int
    n_worse: int


def summarise(values: npt.ArrayLike, seed: int = 0) -> Summary:
    """Mean, spread and the percentile bootstrap interval of the mean.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3, with 1000 resamples of the
    files. The resamples depend on the seed and the number of values only, so columns of one length share
    theirs.

    Args:
        values: one for each file, shape (file,), NaN and infinite where there is none.
        seed: of the resamples.
    """
    column = np.asarray(values, np.float64)
    finite = column[np.isfinite(column)]
    n = len(finite)
    low = high = std = np.nan
    if n >= 2:
        std = float(np.std(finite, ddof=1))
        tail = 50 * (1 - CONFIDENCE)
        low, high = np.percentile(_resampled_means(finite, seed), [tail, 100 - tail])
    n_undefined = int(np.isnan(column).sum())
    mean = float(np.mean(finite)) if n else np.nan
    return Summary(n, n_undefined, len(column) - n - n_undefined, mean, std, float(low), float(high))


def compare(
    values: npt.ArrayLike, baseline: npt.ArrayLike, higher_is_better: bool, seed: int = 0
) -> Difference:
    """The paired difference ``values - baseline``, both of shape (file,)."""
    ours, theirs = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity is no number, and not counted
        difference = ours - theirs
    gain = difference if higher_is_better else -difference
    return Difference(summarise(difference, seed), int((gain > 0).sum()), int((gain < 0).sum()))


def _resampled_means(values: Array, seed: int) -> Array:
    return np.asarray(values[_draws(len(values), seed)].mean(axis=1))


@functools.lru_cache(maxsize=4)
def _draws(n: int, seed: int) -> npt.NDArray[np.int32]:
    """Files of each resample, shape (resample, file)."""
    return np.random.default_rng((seed, n)).integers(n, size=(N_RESAMPLES, n), dtype=np.int32)
