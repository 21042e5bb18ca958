"""Settings of the networks, the data, the objectives and the training: frozen dataclasses, TOML in and out.

They are the one source of the command's flags, of the TOML file's keys and of what a checkpoint remembers.
Every value is checked when its dataclass is made.
"""

import dataclasses
import difflib
import math
import sys
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from cyclopts import Parameter

from miase.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _require(ok: bool, name: str, got: object, allowed: str) -> None:
    numbers = got if isinstance(got, tuple) else (got,)
    if not ok or any(isinstance(number, float) and math.isinf(number) for number in numbers):
        raise ConfigError(f"{name} is {got!r}; it must be {allowed}")


@dataclass(frozen=True)
class ModelConfig:
    """A network and the signal that it is made for.

    Attributes:
        name: network to train: dcunet10, dcunet10_rtstm, dcunet10_ctstm or dcunet20.
        sample_rate: rate of the sound that the network works at, in Hz.
        n_fft: length of an STFT frame, in samples.
        hop_length: distance between STFT frames, in samples.
        n_blocks: two-stage transformer blocks of the bottleneck.
        window_frames: STFT frames that the transformer sees at once; 0 means all of them, as published.
        level_seconds: span over which the level that is taken out of the network's input is measured.
        compression: exponent of the magnitudes that the network sees; 1 leaves them alone, as published.
    """

    name: Annotated[str, Parameter(name="--model")] = "dcunet10_ctstm"
    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    n_blocks: int = 6
    window_frames: int = 128
    level_seconds: float = 4.0
    compression: float = 1.0

    def __post_init__(self) -> None:
        _require(4000 <= self.sample_rate <= 192000, "sample_rate", self.sample_rate, "4000 to 192000 Hz")
        _require(self.n_fft >= 16 and self.n_fft % 2 == 0, "n_fft", self.n_fft, "an even number from 16 up")
        _require(
            0 < self.hop_length <= self.n_fft // 2,
            "hop_length",
            self.hop_length,
            "1 to half of n_fft samples",
        )
        _require(self.n_blocks >= 1, "n_blocks", self.n_blocks, "1 or more")
        _require(
            self.window_frames >= 0 and self.window_frames % 16 == 0,
            "window_frames",
            self.window_frames,
            "0 or a multiple of 16 frames",
        )
        _require(self.level_seconds > 0, "level_seconds", self.level_seconds, "above 0 s")
        _require(0 < self.compression <= 1, "compression", self.compression, "above 0 and at most 1")


@dataclass(frozen=True)
class DataConfig:
    """How excerpts are taken from a folder of recordings.

    Attributes:
        excerpt_seconds: length of a training excerpt.
        batch_size: excerpts in a step.
        valid_share: share of the recordings that is kept for validation.
        workers: processes that read ahead; 0 reads between the steps.
    """

    excerpt_seconds: float = 2.0
    batch_size: int = 4
    valid_share: float = 0.05
    workers: int = 1

    def __post_init__(self) -> None:
        _require(self.excerpt_seconds > 0, "excerpt_seconds", self.excerpt_seconds, "above 0 s")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        _require(0 <= self.valid_share < 1, "valid_share", self.valid_share, "from 0 to below 1")
        _require(self.workers >= 0, "workers", self.workers, "0 or more")


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the network learns from, and the parts of its loss.

    Attributes:
        name: what to learn from: iddp or noisy_target (noisy recordings alone), or noise2clean (a corpus with
            clean speech).
        noise: sources of the noise that is added: white, synthetic, pauses (quiet stretches of the
            recordings), residual (what the first pass removed) or folders of noise recordings. Each
            of several serves an equal share of the excerpts; repeat the flag for each.
        snr_db: lowest and highest signal-to-noise ratio at which noise is added, in dB.
        prior: network of the first pass: current, or average (its moving average).
        warmup_steps: steps at the beginning of iddp that learn by noisy_target; none when the residual is the
            only noise.
        target_share: share of a step's items whose target is the recording itself, as in noisy_target; it
            keeps speech that the first pass would lose.
        wsdr_weight: weight of the weighted SDR loss.
        time_weight: weight of the waveform's mean absolute error, relative to the target's level.
        spectrum_weight: weight of the compressed spectrum's error, relative to the target's level.
        fidelity_weight: weight of the distance between the first pass and the recording, with its gradient.
    """

    name: Annotated[str, Parameter(name="--objective")] = "iddp"
    noise: tuple[str, ...] = ("pauses", "pauses", "synthetic")
    snr_db: tuple[float, float] = (-5.0, 20.0)
    prior: str = "average"
    warmup_steps: int = 150
    target_share: float = 0.2
    wsdr_weight: float = 1.0
    time_weight: float = 1.0
    spectrum_weight: float = 2.0
    fidelity_weight: float = 0.0

    def __post_init__(self) -> None:
        _require(len(self.noise) > 0 and all(self.noise), "noise", self.noise, "one source or more")
        _require(self.snr_db[0] <= self.snr_db[1], "snr_db", self.snr_db, "the lower end first")
        _require(self.prior in ("current", "average"), "prior", self.prior, "current or average")
        _require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")
        _require(0 <= self.target_share <= 1, "target_share", self.target_share, "from 0 to 1")
        for weight in ("wsdr_weight", "time_weight", "spectrum_weight", "fidelity_weight"):
            _require(getattr(self, weight) >= 0, weight, getattr(self, weight), "0 or more")


@dataclass(frozen=True)
class TrainingConfig:
    """The course of a training run.

    Attributes:
        lr: highest learning rate of Adam.
        lr_decay: share of the run, at its end, in which the learning rate falls to a hundredth.
        average_decay: decay of the moving average of the weights, which is the model that is kept.
        clip_norm: largest norm of the gradient.
        max_steps: steps after which the run ends; 0 for no such limit. One of the two limits is needed.
        max_minutes: minutes after which the run ends; 0 for no such limit. With this limit alone, the
            learning rate follows the minutes.
        checkpoint_minutes: minutes between checkpoints, besides those at the end of each epoch.
        seed: seed of the weights, the excerpts and the noise.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto (bf16-mixed where the device is fast at it, else 32-true) or one of Fabric's
            precisions.
        threads: threads of the CPU; 0 leaves the choice to torch.
    """

    lr: float = 1e-3
    lr_decay: float = 0.4
    average_decay: float = 0.99
    clip_norm: float = 5.0
    max_steps: int = 0
    max_minutes: float = 0.0
    checkpoint_minutes: float = 2.0
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        _require(self.lr > 0, "lr", self.lr, "above 0")
        _require(0 <= self.lr_decay <= 1, "lr_decay", self.lr_decay, "from 0 to 1")
        _require(0 <= self.average_decay < 1, "average_decay", self.average_decay, "from 0 to below 1")
        _require(self.clip_norm > 0, "clip_norm", self.clip_norm, "above 0")
        _require(self.max_steps >= 0, "max_steps", self.max_steps, "0 or more")
        _require(self.max_minutes >= 0, "max_minutes", self.max_minutes, "0 or more")
        _require(self.checkpoint_minutes >= 0, "checkpoint_minutes", self.checkpoint_minutes, "0 or more")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to below 2**32")
        _require(self.threads >= 0, "threads", self.threads, "0 or more")


@dataclass(frozen=True)
class RunConfig:
    """All settings of a training run; one TOML table for each part."""

    model: Annotated[ModelConfig, Parameter(name="*")] = field(default_factory=ModelConfig)
    data: Annotated[DataConfig, Parameter(name="*")] = field(default_factory=DataConfig)
    objective: Annotated[ObjectiveConfig, Parameter(name="*")] = field(default_factory=ObjectiveConfig)
    training: Annotated[TrainingConfig, Parameter(name="*")] = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class EnhanceConfig:
    """How to enhance.

    Attributes:
        strength: share of the noise that is removed: 0 gives the input back, 1 the model's estimate.
        atten_lim: largest attenuation, in dB; by default there is no limit.
        high_band: what becomes of the sound above the model's band, for inputs of a higher rate: follow
            lowers it by as much as the model lowers the upper half of its own band; keep leaves it; drop
            removes it.
        segment: seconds enhanced at once by what takes whole signals only: ONNX models, and models whose
            transformer sees all frames at once (window_frames 0). Longer segments need more memory.
        overlap: seconds of context on each side of such a segment.
    """

    strength: float = 1.0
    atten_lim: Annotated[float | None, Parameter(name="--atten-lim")] = None
    high_band: Literal["follow", "keep", "drop"] = "follow"
    segment: float = 16.0
    overlap: float = 2.0

    def __post_init__(self) -> None:
        _require(0 <= self.strength <= 1, "strength", self.strength, "from 0 to 1")
        _require(self.atten_lim is None or self.atten_lim >= 0, "atten_lim", self.atten_lim, "0 dB or more")
        _require(
            self.high_band in ("follow", "keep", "drop"), "high_band", self.high_band, "follow, keep or drop"
        )
        _require(self.segment > 0, "segment", self.segment, "above 0 s")
        _require(self.overlap >= 0, "overlap", self.overlap, "0 s or more")

    @property
    def share_removed(self) -> float:
        """Share of the removed noise that stays removed, after ``strength`` and ``atten_lim``."""
        limit = 1.0 if self.atten_lim is None else 1 - 10 ** (-self.atten_lim / 20)
        return min(self.strength, limit)


Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries and lists, ready for TOML or JSON."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in ((f.name, getattr(config, f.name)) for f in dataclasses.fields(config))
        if not dataclasses.is_dataclass(value)
    } | {
        f.name: to_dict(getattr(config, f.name))
        for f in dataclasses.fields(config)
        if dataclasses.is_dataclass(getattr(config, f.name))
    }


def from_dict(kind: type[Config], values: dict[str, Any], where: str = "") -> Config:
    """The inverse of ``to_dict``.

    Args:
        kind: dataclass to make.
        values: its fields; missing ones take their defaults.
        where: what to call the source in messages.

    Raises:
        ConfigError: a key is unknown (the message names the nearest) or a value has the wrong type.
    """
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(hints)}"
            raise ConfigError(f"unknown key {key!r}{where}; {hint}")
        arguments[key] = _convert(hints[key], value, key, where)
    return kind(**arguments)


def _convert(hint: Any, value: Any, key: str, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{key}{where} is {value!r}; it must be a table")
        return from_dict(hint, value, f" in [{key}]{where}")
    origin = typing.get_origin(hint)
    if origin is tuple:
        kinds = typing.get_args(hint)
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key}{where} is {value!r}; it must be a list")
        if kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(value)
        if len(kinds) != len(value):
            raise ConfigError(f"{key}{where} is {value!r}; it must have {len(kinds)} values")
        return tuple(_convert(k, v, key, where) for k, v in zip(kinds, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{key}{where} is {value!r}; it must be of type {hint.__name__}")
    return value


def load_toml(path: Path) -> RunConfig:
    """Settings from a TOML file.

    Raises:
        ConfigError: the file is missing, is no TOML, or holds a key or value that is not allowed.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return from_dict(RunConfig, values, f" of {path}")


def dump_toml(config: RunConfig) -> str:
    """Settings as the text of a TOML file."""
    return tomli_w.dumps(to_dict(config))
