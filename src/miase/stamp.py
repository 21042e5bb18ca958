"""What a report says of its own making: systems, metric variants, versions, seed. No time, no machine."""

import importlib.metadata
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import miase
from miase.metrics import Metric
from miase.summary import CONFIDENCE, N_RESAMPLES
from miase.systems import describe_system

PACKAGES = ("numpy", "scipy", "torch", "soundfile", "soxr", "pesq", "pystoi", "onnxruntime", "speechmos")


def make_stamp(
    folders: Sequence[str], systems: Mapping[str, str], metrics: Sequence[Metric], seed: int, device: str
) -> dict[str, Any]:
    """All that is known before the files are read.

    Args:
        folders: names of the systems that are folders of estimates.
        systems: names of those that are run, and what `miase.systems` knows them as.
        metrics: rows of the columns.
        seed: of the bootstrap and of self_consistency.
        device: where our models run; another may change the last digits.

    Raises:
        WeightsError, EvaluationError: a system cannot be used.
    """
    described: dict[str, Any] = {"noisy": {"kind": "the recording itself"}}
    described |= {name: {"kind": "folder of estimates"} for name in folders}
    described |= {name: describe_system(source) for name, source in systems.items()}
    return {
        "miase": miase.__version__,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "seed": seed,
        "bootstrap": f"{N_RESAMPLES} resamples of the files, {100 * CONFIDENCE:.0f} % percentile interval",
        "device": device,
        "systems": described,
        "metrics": {row.name: _variant(row) for row in metrics},
    }


def _variant(row: Metric) -> str:
    rate = "at the file's rate" if row.sample_rate is None else f"at {row.sample_rate} Hz"
    better = (
        "" if row.name == "energy_kept" else f", {'higher' if row.higher_is_better else 'lower'} is better"
    )
    return f"{row.source}; {rate}{better}{f'; in {row.unit}' if row.unit else ''}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def portable(argument: str) -> str:
    """A path as seen from here, so that a table names no folder of one machine; other arguments unchanged."""
    if not Path(argument).is_absolute():
        return argument
    try:
        return os.path.relpath(argument)
    except ValueError:  # on another drive
        return Path(argument).name


def command_line(verb: str, flags: Mapping[str, object]) -> str:
    """The command that makes a report again, to be typed in this folder.

    Args:
        verb: of `miase`.
        flags: their values by name; what is None, zero or empty is left out.
    """
    words = ["miase", verb]
    for name, value in flags.items():
        if value:
            values = value if isinstance(value, tuple) else (value,)
            words += [name, *(portable(str(one)) for one in values)]
    return shlex.join(words)
