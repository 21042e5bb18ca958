"""What a request asks for: the fields of its form, checked."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from miase.config import EnhanceConfig
from miase.errors import ConfigError
from miase.service.uploads import RefusedError
from miase.writing import FORMATS

MOST_SHIFTS = 8  # each of which costs as much as the first
FIELDS = ("model", "strength", "atten_lim", "high_band", "shifts", "format", "preview_seconds")


@dataclass(frozen=True)
class Order:
    """What is to be made of a sound.

    Attributes:
        model: name of the model.
        config: how to enhance.
        file_format: suffix of the result without its dot; None keeps that of the upload.
        preview_seconds: of the sound, from its start, that are enhanced; 0 for all.
    """

    model: str
    config: EnhanceConfig
    file_format: str | None
    preview_seconds: float


def read_order(fields: Mapping[str, str], models: Sequence[str]) -> Order:
    """The order in the fields of a form; a field that is empty counts as one that was not sent.

    Args:
        fields: name -> value.
        models: names that may be asked for, the default first.

    Raises:
        RefusedError: a field is unknown, or its value not allowed (422).
    """
    for name in fields:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the fields are file, {', '.join(FIELDS)}"
            raise RefusedError(422, f"unknown field {name[:40]!r}; {hint}")
    given = {name: value for name, value in fields.items() if value}
    model = given.get("model", models[0])
    if model not in models:
        raise RefusedError(422, f"there is no model {model[:60]!r}; there are {', '.join(models)}")
    file_format = given.get("format", "").lower().removeprefix(".") or None
    if file_format is not None and file_format not in FORMATS:
        raise RefusedError(422, f"format is {file_format[:20]!r}; it must be one of {', '.join(FORMATS)}")
    preview_seconds = _number(given, "preview_seconds") or 0.0
    if not 0 <= preview_seconds < math.inf:
        raise RefusedError(422, f"preview_seconds is {preview_seconds:g}; it must be 0 (all) or more")
    strength = _number(given, "strength")
    config = make_config(
        EnhanceConfig().strength if strength is None else strength,
        _number(given, "atten_lim"),
        given.get("high_band", EnhanceConfig().high_band),
        _shifts(given),
    )
    return Order(model, config, file_format, preview_seconds)


def make_config(strength: float, atten_lim: float | None, high_band: str, shifts: int) -> EnhanceConfig:
    """How to enhance; raises RefusedError (422) where a value is not allowed."""
    try:
        return EnhanceConfig(strength, atten_lim, high_band, shifts)  # type: ignore[arg-type]
    except ConfigError as error:
        raise RefusedError(422, str(error)) from None


def _shifts(fields: Mapping[str, str]) -> int:
    shifts = _number(fields, "shifts")
    if shifts is None:
        return EnhanceConfig().shifts
    if not (shifts.is_integer() and 1 <= shifts <= MOST_SHIFTS):
        raise RefusedError(422, f"shifts is {shifts:g}; it must be a whole number from 1 to {MOST_SHIFTS}")
    return int(shifts)


def _number(fields: Mapping[str, str], name: str) -> float | None:
    if name not in fields:
        return None
    try:
        value = float(fields[name])
    except ValueError:
        raise RefusedError(422, f"{name} is {fields[name][:40]!r}; it must be a number") from None
    if math.isnan(value):
        raise RefusedError(422, f"{name} is not a number; give one")
    return value
