"""The verb ``train``: fit a network to a folder of noisy recordings.

The loop knows neither losses nor networks; it draws batches, has the learner take a step, and once in a
while validates, logs and saves. A run that was killed goes on from its last checkpoint as if nothing had
happened.
"""

import copy
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric, seed_everything
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from tqdm import tqdm

from miase.card import write_card
from miase.checkpoint import load_pretrained, read_config, save_pretrained, written_whole
from miase.config import ModelConfig, RunConfig, TrainingConfig, dump_toml, to_dict
from miase.dataset import (
    VALID_EPOCH,
    Examples,
    NoiseSource,
    Recordings,
    batches,
    clean_partners,
    find_recordings,
    n_steps_of_epoch,
    split_recordings,
)
from miase.errors import ConfigError, TrainingError
from miase.learner import Learner, Progress
from miase.manifest import discover
from miase.models import build_model
from miase.objectives import OBJECTIVES, Objective
from miase.registry import resolve
from miase.resume import Checkpoints, saved_steps
from miase.sounds import AudioInfo
from miase.training_log import TrainingLog

CHECKPOINTS_NAME = "checkpoints"
N_VALID = 16  # excerpts of a validation
VALIDATION_SECONDS = 60.0  # least time between two of them: an epoch of a small folder takes seconds


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        model_dir: the averaged model, ready for ``miase enhance -m``.
        step: steps done, those before a resume included.
        finished: False when the run was interrupted.
        failures: a line for each recording that could not be read.
    """

    model_dir: Path
    step: int
    finished: bool
    failures: tuple[str, ...]


def fit(
    noisy_dir: Path,
    out: Path,
    config: RunConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    recordings: Recordings | None = None,
) -> TrainResult:
    """Train a network and write ``out/config.toml``, ``checkpoints/``, ``metrics.jsonl`` and ``model/``.

    Args:
        noisy_dir: any folder of sound files, or one made by ``miase corpus``.
        out: the run's folder.
        config: all settings; one of ``max_steps`` and ``max_minutes`` must be set.
        resume: go on from the last checkpoint in ``out``.
        quiet: show no progress.
        recordings: those of the folder to learn from; by default all.

    Raises:
        ConfigError: a setting cannot be used, as an unknown objective or a device that is not there.
        TrainingError: the run cannot start or resume, or it diverged or collapsed.
        CorpusError: the folder cannot serve this objective.
    """
    config = _with_network_of_start(config)
    settings = config.training
    objective = _objective(config)
    _check_start(settings, out, resume)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    seed_everything(settings.seed, verbose=False)
    fabric = _fabric(settings)
    recordings = recordings or find_recordings(discover(noisy_dir), noisy_dir)
    examples, valid_examples, n_valid = _examples(recordings, noisy_dir, objective, config)
    checkpoints = Checkpoints(out / CHECKPOINTS_NAME, recordings.fingerprint())
    learner = _learner(config, objective, fabric, checkpoints if resume else None)
    progress = learner.progress
    with written_whole(out / "config.toml") as path:
        path.write_text(dump_toml(config), encoding="utf-8")
    valid_batches = _validation_batches(valid_examples, n_valid, config)
    last_saved = last_validated = time.monotonic()
    with (
        closing(TrainingLog(out, progress.step)) as log,
        _bar(settings.max_steps, progress.step, quiet) as bar,
        _interruptible() as interrupted,
    ):
        while not (learner.is_over() or interrupted()):
            for batch in _rest_of_epoch(examples, progress.step, config):
                parts = learner.step(batch)
                log.write(parts, "train", progress)
                bar.update()
                bar.set_postfix(loss=f"{parts['loss']:.3f}")
                if learner.is_over() or interrupted():
                    break
                if time.monotonic() - last_saved > 60 * settings.checkpoint_minutes:
                    checkpoints.save(learner)
                    last_saved = time.monotonic()
            checkpoints.save(learner)
            last_saved = time.monotonic()
            if learner.is_over() or interrupted() or last_saved - last_validated > VALIDATION_SECONDS:
                if valid_batches:
                    log.write(learner.validate(valid_batches), "valid", progress)
                last_validated = time.monotonic()
    model_dir = out / "model"
    save_pretrained(learner.average, model_dir)
    write_card(model_dir, config, progress, recordings)
    damaged = {*examples.damaged_files(), *valid_examples.damaged_files()}
    failures = tuple(f"{file} is damaged; other recordings took its place" for file in sorted(damaged))
    return TrainResult(model_dir, progress.step, learner.is_over(), recordings.failures + failures)


def _objective(config: RunConfig) -> Objective:
    name = config.objective.name
    if name not in OBJECTIVES:
        raise ConfigError(f"unknown objective {name!r}; the objectives are {', '.join(OBJECTIVES)}")
    if name == "noisy_target" and set(config.objective.noise) == {"residual"}:
        raise ConfigError(
            "noisy_target makes one pass and has no residual; give --noise white or a noise folder"
        )
    return OBJECTIVES[name]


def _with_network_of_start(config: RunConfig) -> RunConfig:
    """Take the network's settings from the model that the run starts from, if there is one."""
    start = config.training.start
    if not start:
        return config
    theirs, _ = read_config(resolve(start))
    ours, usual = to_dict(config.model), to_dict(ModelConfig())
    for name, value in to_dict(theirs).items():
        if ours[name] not in (value, usual[name]):
            raise ConfigError(
                f"{name} is {ours[name]!r}, and {value!r} in the model {start} that the run starts from; "
                f"leave it out"
            )
    return replace(config, model=theirs)


def _check_start(settings: TrainingConfig, out: Path, resume: bool) -> None:
    if settings.max_steps == 0 and settings.max_minutes == 0:
        raise ConfigError("the run has no end; give --max-steps or --max-minutes")
    if not resume and saved_steps(out / CHECKPOINTS_NAME):
        raise TrainingError(
            f"{out} holds a run already; add --resume to go on with it, or name another folder"
        )


def _fabric(settings: TrainingConfig) -> Fabric:
    kind, _, number = settings.device.partition(":")
    precision: Any = settings.precision
    if precision == "auto":
        fast = kind in ("auto", "cuda") and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        precision = "bf16-mixed" if fast else "32-true"
    try:
        return Fabric(accelerator=kind, devices=[int(number)] if number else 1, precision=precision)
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {settings.device!r} with precision {precision!r} is not to be had here ({reason}); "
            f"use auto for both"
        ) from error


def _examples(
    recordings: Recordings, noisy_dir: Path, objective: Objective, config: RunConfig
) -> tuple[Examples, Examples, int]:
    """Give the examples to learn from, those to validate with, and how many recordings are for validation."""
    training, validation = split_recordings(recordings, config.data.valid_share)
    sample_rate, seed = config.model.sample_rate, config.training.seed
    noise = NoiseSource(config.objective.noise, sample_rate, training)
    clean_of = clean_partners(noisy_dir) if "clean" in objective.needs else None

    def of(infos: list[AudioInfo]) -> Examples:
        return Examples(infos, objective.needs, config.data, sample_rate, seed, noise, clean_of)

    # Where a recording of the validation cannot be read, one of the others takes its place.
    return of(training), of(validation + training), len(validation)


def _learner(
    config: RunConfig, objective: Objective, fabric: Fabric, checkpoints: Checkpoints | None
) -> Learner:
    """Give the learner at its beginning, or where the last checkpoint stands.

    A run that starts from a model takes its weights for the average, too: it moves away from them slowly.
    """
    start = config.training.start
    model = load_pretrained(resolve(start)) if start else build_model(config.model)
    model.norms_are_frozen = config.training.freeze_norms
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.training.lr)
    progress = checkpoints.restore(model, average, optimizer) if checkpoints else Progress()
    net, optim = fabric.setup(model, optimizer)
    average.to(fabric.device)
    return Learner(config, objective, fabric, net, average, optim, progress)


def _rest_of_epoch(examples: Examples, step: int, config: RunConfig) -> Iterator[dict[str, Tensor]]:
    """The batches from ``step`` of the run to the end of the epoch it is in."""
    size = config.data.batch_size
    epoch, first = divmod(step, n_steps_of_epoch(len(examples), size))
    return batches(examples, size, config.training.seed, epoch, first, config.data.workers)


def _validation_batches(examples: Examples, n_recordings: int, config: RunConfig) -> list[dict[str, Tensor]]:
    """Always the same excerpts: about N_VALID of them, spread over the validation recordings."""
    valid_batches = []
    size = config.data.batch_size
    for first in range(0, N_VALID if n_recordings else 0, size):
        items = [examples[(VALID_EPOCH, p, p % n_recordings)] for p in range(first, first + size)]
        valid_batches.append({name: torch.stack([item[name] for item in items]) for name in items[0]})
    return valid_batches


def _bar(n_steps: int, step: int, quiet: bool) -> "tqdm[Any]":
    return tqdm(total=n_steps or None, initial=step, disable=quiet, unit="step", dynamic_ncols=True)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM end the loop after the step under way; a second one ends it at once."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
