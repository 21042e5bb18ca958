"""What every metric has in common: the checks before it, its own sample rate, and what it answers when
undefined.

A metric is a function `metric(estimate, reference, sample_rate) -> Values` of one-dimensional signals. The
decorator `metric` wraps the bare equation so that wrong inputs raise, both signals arrive as float64 at the
rate at which the metric is defined, and a clip on which the equation has no answer gives NaN together with
the reason.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from miase.errors import EvaluationError
from miase.resampling import resample

Signal = npt.NDArray[np.float64]

INSTALL = 'pip install "miase[eval]"'


class Values(dict[str, float]):
    """Metric values by name, NaN where undefined.

    Attributes:
        reasons: for each name whose value is NaN, a sentence that says why.
    """

    def __init__(self, values: Mapping[str, float], reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(values)
        self.reasons: dict[str, str] = dict(reasons or {})


class UndefinedError(Exception):
    """The metric has no value on this clip; the message is the reason. It never leaves `miase.metrics`."""


MetricFunction = Callable[[npt.ArrayLike, Any, int], Values]
Equation = Callable[[Signal, Any, int], Mapping[str, float]]


def metric(
    *names: str, rate: int | None = None, needs_reference: bool = True
) -> Callable[[Equation], MetricFunction]:
    """Makes a metric of an equation.

    Args:
        names: the names of the values that the equation returns.
        rate: sample rate in Hz at which the metric is defined; both signals are resampled to it. None keeps
            theirs.
        needs_reference: False for a metric that hears the estimate alone; the equation then gets None.

    Returns:
        A decorator. The decorated function takes estimate (time,), reference (time,) or, if not needed,
        anything, and sample_rate in Hz; it raises EvaluationError for signals that are not one-dimensional or
        not of one length.
    """

    def decorate(equation: Equation) -> MetricFunction:
        @functools.wraps(equation)
        def function(estimate: npt.ArrayLike, reference: Any, sample_rate: int) -> Values:
            estimate, reference = check_pair(estimate, reference if needs_reference else None, sample_rate)
            if needs_reference and reference is None:
                raise EvaluationError(f"{names[0]} compares with a reference, but none was given.")
            try:
                _require_sound(estimate, reference)
                target = sample_rate if rate is None else rate
                if target != sample_rate:
                    estimate = _resample(estimate, sample_rate, target)
                    reference = None if reference is None else _resample(reference, sample_rate, target)
                values = equation(estimate, reference, target)
                return values if isinstance(values, Values) else Values(values)
            except UndefinedError as reason:
                return Values(dict.fromkeys(names, float("nan")), dict.fromkeys(names, str(reason)))

        return function

    return decorate


def check_pair(
    estimate: npt.ArrayLike, reference: npt.ArrayLike | None, sample_rate: int
) -> tuple[Signal, Signal | None]:
    """Converts a pair to float64; raises EvaluationError if the two cannot be compared sample by sample."""
    if sample_rate <= 0:
        raise EvaluationError(f"The sample rate is {sample_rate} Hz; it must be positive.")
    estimate = np.asarray(estimate, np.float64)
    if estimate.ndim != 1:
        raise EvaluationError(
            f"The estimate has shape {estimate.shape}; a metric takes one channel of shape (time,)."
        )
    if reference is None:
        return estimate, None
    reference = np.asarray(reference, np.float64)
    if reference.shape != estimate.shape:
        raise EvaluationError(
            f"The estimate has shape {estimate.shape}, the reference {reference.shape}; both must be (time,) "
            "and of one length. Nothing is padded or cut, since either would change the values."
        )
    return estimate, reference


def _resample(signal: Signal, source_rate: int, target_rate: int) -> Signal:
    return resample(signal.astype(np.float32), source_rate, target_rate).astype(np.float64)


def _require_sound(estimate: Signal, reference: Signal | None) -> None:
    for role, signal in (("estimate", estimate), ("reference", reference)):
        if signal is None:
            continue
        if not signal.size:
            raise UndefinedError(f"the {role} has no samples")
        if not np.isfinite(signal).all():
            raise UndefinedError(f"the {role} has samples that are not finite numbers")
    if reference is not None and not reference.any():
        raise UndefinedError("the reference is silent")


def require_package(name: str) -> Any:
    """Imports a package of the extra `eval`; raises EvaluationError with the install line without it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EvaluationError(f"This metric needs the package {name!r}: {INSTALL}") from error
