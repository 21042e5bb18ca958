"""What `evaluate -m` takes: a name or folder becomes a system, a function of noisy samples.

A model's name may end with @ and a number, passes over the sound as `EnhanceConfig.shifts` asks for, and with
@ and what becomes of the band above it, as `EnhanceConfig.high_band` has it: default@hear@4.
A system maps noisy samples (channel, time) and their rate in Hz to an estimate of the same shape. It is one
of our models, a classical method, or a tool of others that is installed.
"""

from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import cast

import numpy as np

from miase.checkpoint import load_pretrained, read_config
from miase.classical import CLASSICAL
from miase.config import HIGH_BANDS, EnhanceConfig, HighBand
from miase.enhance import Enhancer
from miase.errors import EvaluationError, WeightsError
from miase.peers import PEERS, System
from miase.registry import available, resolve
from miase.sounds import Samples


def describe_system(name: str) -> dict[str, str]:
    """What a report says of a system, so that another can tell whether theirs is the same.

    Args:
        name: a packaged model or a folder of one, with @N for N shifts and @hear for the band above it; a
            classical method; or a tool of others.

    Raises:
        WeightsError: there is no system of that name, or its folder holds no readable model.
        EvaluationError: it needs a package that is not installed.
        ConfigError: there are not so many shifts.
    """
    if name in CLASSICAL:
        return {"kind": "classical", "source": CLASSICAL[name].source}
    if name in PEERS:
        peer = PEERS[name]
        peer.require()
        return {
            "kind": "peer",
            "package": f"{peer.package} {version(peer.package)}",
            "settings": peer.settings,
        }
    model, how = _model_and_how(name)
    try:
        config, digest = read_config(resolve(model))
    except WeightsError as error:
        if Path(model).is_dir():
            raise
        known = ", ".join((*available(), *CLASSICAL, *PEERS))
        raise WeightsError(
            f"unknown system {name!r}; there are {known}; or name the folder of a model"
        ) from error
    return {
        "kind": "model",
        "network": config.name,
        "sample_rate": f"{config.sample_rate} Hz",
        "weights_sha256": digest,
    } | {key: str(value) for key, value in asdict(how).items() if value != getattr(EnhanceConfig(), key)}


def load_system(name: str, device: str = "cpu") -> System:
    """The system of a name that `describe_system` knows.

    Args:
        name: as there.
        device: for our models: auto, cpu, cuda or another device that torch knows.
    """
    if name in CLASSICAL:
        return CLASSICAL[name].enhance
    if name in PEERS:
        return PEERS[name].load()
    model, config = _model_and_how(name)
    enhancer = Enhancer(load_pretrained(resolve(model)), device)
    return lambda noisy, sample_rate: enhancer.enhance(noisy, sample_rate, config)


def check_estimate(estimate: Samples, noisy: Samples, name: str) -> Samples:
    """The estimate as float32; raises EvaluationError when its shape is not that of the noisy samples."""
    estimate = np.asarray(estimate, np.float32)
    if estimate.shape != noisy.shape:
        raise EvaluationError(f"{name} made {estimate.shape} of {noisy.shape}; a system must keep the shape")
    return estimate


def _model_and_how(name: str) -> tuple[str, EnhanceConfig]:
    """default@hear@4 -> default, its high band heard and 4 shifts; a folder that is there keeps its name."""
    how = EnhanceConfig()
    while not Path(name).is_dir():
        model, mark, what = name.rpartition("@")
        if mark and what.isdecimal():
            how = replace(how, shifts=int(what))
        elif mark and what in HIGH_BANDS:
            how = replace(how, high_band=cast("HighBand", what))
        else:
            break
        name = model
    return name, how
