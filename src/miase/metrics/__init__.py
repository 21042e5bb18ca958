"""Objective measures of speech quality: the table `METRICS`, and `score`, which computes them on one clip."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass

import numpy.typing as npt

from miase.errors import EvaluationError
from miase.metrics.composite import composite, llr, wss
from miase.metrics.contract import MetricFunction, Values, check_pair
from miase.metrics.dnsmos import dnsmos_p808, dnsmos_p835
from miase.metrics.perceptual import PESQ_RATE, STOI_RATE, estoi, pesq_nb, pesq_wb, stoi
from miase.metrics.signal import high_band_snr, lsd, segmental_snr, si_sdr, snr


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics.

    Attributes:
        name: of the value; also the key in `METRICS`.
        function: computes it, and maybe others with it: `function(estimate, reference, sample_rate)[name]`.
        higher_is_better: the direction.
        sample_rate: in Hz, at which the metric is defined and to which it resamples; None: the clip's own.
        needs_reference: False if it hears the estimate alone.
        package: which it needs beyond numpy, from `pip install "miase[eval]"`.
        unit: of the value.
        source: where it is defined, in one line, and which variant this is.
    """

    name: str
    function: MetricFunction
    higher_is_better: bool
    sample_rate: int | None
    needs_reference: bool
    package: str | None
    unit: str
    source: str


_ROWS = (
    Metric("snr", snr, True, None, True, None, "dB", "10 log10(sum s^2 / sum (s - e)^2) over the clip"),
    Metric("segmental_snr", segmental_snr, True, 16_000, True, None, "dB",
           "Hansen and Pellom 1998; frames of 30 ms every 7.5 ms, each limited to [-10, 35] dB"),
    Metric("high_band_snr", high_band_snr, True, None, True, None, "dB",
           "as snr, of what lies above 8 kHz; for clips of a rate above 16 kHz"),
    Metric("si_sdr", si_sdr, True, None, True, None, "dB", "Le Roux et al. 2019; means removed"),
    Metric("lsd", lsd, False, 16_000, True, None, "dB",
           "Gray and Markel 1976; Hann frames of 32 ms every 8 ms, floor at -100 dB"),
    Metric("pesq_wb", pesq_wb, True, PESQ_RATE, True, "pesq", "MOS-LQO", "ITU-T P.862.2, package pesq"),
    Metric("pesq_nb", pesq_nb, True, PESQ_RATE, True, "pesq", "MOS-LQO",
           "ITU-T P.862 with P.862.1, on signals of 16 kHz, package pesq"),
    Metric("stoi", stoi, True, STOI_RATE, True, "pystoi", "", "Taal et al. 2011, package pystoi"),
    Metric("estoi", estoi, True, STOI_RATE, True, "pystoi", "", "Jensen and Taal 2016, package pystoi"),
    Metric("llr", llr, False, 16_000, True, None, "",
           "Hu and Loizou 2008; order 16, lowest 95 % of the frames, a frame's value not limited"),
    Metric("wss", wss, False, 16_000, True, None, "dB^2", "Klatt 1982; 25 bands, lowest 95 % of the frames"),
    Metric("csig", composite, True, 16_000, True, "pesq", "MOS", "Hu and Loizou 2008, with pesq_wb"),
    Metric("cbak", composite, True, 16_000, True, "pesq", "MOS", "Hu and Loizou 2008, with pesq_wb"),
    Metric("covl", composite, True, 16_000, True, "pesq", "MOS", "Hu and Loizou 2008, with pesq_wb"),
    Metric("dnsmos_sig", dnsmos_p835, True, 16_000, False, "speechmos", "MOS",
           "Reddy et al. 2022, ITU-T P.835"),
    Metric("dnsmos_bak", dnsmos_p835, True, 16_000, False, "speechmos", "MOS",
           "Reddy et al. 2022, ITU-T P.835"),
    Metric("dnsmos_ovrl", dnsmos_p835, True, 16_000, False, "speechmos", "MOS",
           "Reddy et al. 2022, ITU-T P.835"),
    Metric("dnsmos_p808", dnsmos_p808, True, 16_000, False, "speechmos", "MOS",
           "Reddy et al. 2021, ITU-T P.808"),
)  # fmt: skip

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}

DNSMOS = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808")
"""The metrics that need no reference, for which `dnsmos` stands."""


def score(
    estimate: npt.ArrayLike,
    reference: npt.ArrayLike | None,
    sample_rate: int,
    names: Iterable[str] | None = None,
) -> Values:
    """Computes several metrics on one channel of one clip.

    Args:
        estimate: the samples to judge, shape (time,).
        reference: the clean samples, shape (time,), or None if there are none.
        sample_rate: of both, in Hz. Each metric resamples them to its own rate.
        names: keys of `METRICS`; None takes all, without a reference all that need none.

    Returns:
        One value for each name, in the order asked, as a dict. Where a metric is undefined the value is NaN
        and the dict's attribute `reasons` says why under the same name; no name is ever left out.

    Raises:
        EvaluationError: an unknown name, signals that are not one-dimensional or differ in length, no
            reference for a metric that needs one, or a package that is not installed.
    """
    if names is None:
        asked = [row.name for row in _ROWS if reference is not None or not row.needs_reference]
    else:
        asked = list(names)
    for name in asked:
        if name not in METRICS:
            raise EvaluationError(f"There is no metric {name!r}; available are {', '.join(METRICS)}.")
    check_pair(estimate, reference, sample_rate)
    found = Values({})
    # The composite first: it gives pesq_wb, llr and wss along with its own values.
    for name in sorted(asked, key=lambda name: METRICS[name].function is not composite):
        if name not in found:
            values = METRICS[name].function(estimate, reference, sample_rate)
            found.update(values)
            found.reasons.update(values.reasons)
    reasons = {name: found.reasons[name] for name in asked if name in found.reasons}
    return Values({name: found[name] for name in asked}, reasons)


def installed(row: Metric) -> bool:
    """Whether the packages that a metric needs are there."""
    needed = ("onnxruntime", "speechmos") if row.package == "speechmos" else (row.package,)
    return all(name is None or importlib.util.find_spec(name) is not None for name in needed)


__all__ = ["DNSMOS", "METRICS", "Metric", "Values", "installed", "score"]
