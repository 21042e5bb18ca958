"""Means, intervals and paired differences."""

import numpy as np
import pytest
from scipy import stats

from miase.summary import compare, summarise


def test_mean_and_deviation_leave_out_what_is_not_finite_and_count_it():
    summary = summarise([1.0, np.nan, 3.0, np.inf, -np.inf, np.nan])
    assert (summary.n, summary.n_undefined, summary.n_infinite) == (2, 2, 2)
    assert summary.mean == 2
    assert summary.std == pytest.approx(np.sqrt(2))


def test_the_interval_is_that_of_scipy_up_to_the_resamples():
    values = np.random.default_rng(0).gamma(2, 3, 60)
    summary = summarise(values)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    assert summary.low == pytest.approx(theirs.confidence_interval.low, abs=0.1)
    assert summary.high == pytest.approx(theirs.confidence_interval.high, abs=0.1)
    assert summary.low < summary.mean < summary.high


def test_the_interval_depends_on_the_seed_alone():
    values = np.random.default_rng(0).standard_normal(9)
    assert summarise(values, seed=3) == summarise(list(values), seed=3)
    assert summarise(values, seed=3) != summarise(values, seed=4)


@pytest.mark.parametrize("values", [[], [np.nan], [2.0], [np.inf, 1.0]])
def test_few_values_have_no_interval(values):
    summary = summarise(values)
    assert np.isnan([summary.std, summary.low, summary.high]).all()


def test_differences_are_paired_and_know_the_direction():
    ours, theirs = [1.0, 5.0, 3.0, np.nan, np.inf], [2.0, 3.0, 3.0, 1.0, np.inf]
    higher, lower = compare(ours, theirs, True), compare(ours, theirs, False)
    assert higher.summary.n == 3
    assert higher.summary.mean == lower.summary.mean == pytest.approx(1 / 3)
    assert (higher.n_better, higher.n_worse) == (1, 1) == (lower.n_worse, lower.n_better)
