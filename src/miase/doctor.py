"""The verb ``doctor``: what a bug report needs to know, and whether all that ``enhance`` needs is there."""

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterator
from typing import NamedTuple

import soundfile
import torch

import miase
from miase.checkpoint import load_pretrained
from miase.errors import WeightsError
from miase.parallel import quicker_precision
from miase.registry import DEFAULT, available, resolve

PACKAGES = ("numpy", "soundfile", "soxr", "safetensors", "lightning-fabric", "cyclopts")
EXTRAS = ("pesq", "pystoi", "onnxruntime", "pyroomacoustics", "tensorboard", "fastapi", "uvicorn")


class Check(NamedTuple):
    """Something looked at; ``ok`` is False only for what ``enhance`` cannot do without."""

    name: str
    ok: bool
    found: str


def examine() -> Iterator[Check]:
    """Look at versions, devices, codecs and weights."""
    yield Check("miase", True, miase.__version__)
    yield Check(
        "python", sys.version_info >= (3, 10), f"{platform.python_version()} on {platform.platform()}"
    )
    yield Check("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")
    for name in PACKAGES:
        version = _version(name)
        yield Check(name, version is not None, version or "missing; reinstall miase")
    for name in EXTRAS:
        yield Check(name, True, _version(name) or "not installed (optional)")
    cuda = torch.cuda.is_available()
    yield Check("cuda", True, torch.cuda.get_device_name() if cuda else "none; the CPU is used")
    formats = sorted(
        set(soundfile.available_formats()) & {"WAV", "FLAC", "OGG", "MP3", "AIFF", "W64", "RF64"}
    )
    yield Check(
        "sound formats", "FLAC" in formats, f"{' '.join(formats)} ({soundfile.__libsndfile_version__})"
    )
    yield Check(
        "ffmpeg", True, shutil.which("ffmpeg") or "not installed (only m4a, mp4, webm and the like need it)"
    )
    for name in available():
        try:
            model = load_pretrained(resolve(name))
            yield Check(f"model {name}", True, f"{model.config.name}, {model.sample_rate} Hz")
            if name == DEFAULT:
                precision = quicker_precision(model, model.sample_rate)
                yield Check("precision", True, f"{precision} is the quicker one on this CPU")
        except WeightsError as error:
            yield Check(f"model {name}", False, str(error))
    if not available():
        yield Check("models", False, "none; reinstall miase")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
