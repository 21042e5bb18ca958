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
from torch import Tensor
from tqdm import tqdm

from miase.card import write_card
from miase.checkpoint import load_pretrained, read_config, save_pretrained, written_whole
from miase.cleanest import cleanest_recordings
from miase.config import ModelConfig, RunConfig, TrainingConfig
from miase.config_file import dump_toml, to_dict
from miase.dataset import VALID_EPOCH, Examples, Recordings, batches, n_steps_of_epoch
from miase.errors import ConfigError, TrainingError
from miase.examples import TrainingData, open_examples
from miase.learner import Learner, Progress
from miase.models import build_model
from miase.objectives import Objective, find_objective, needs_of
from miase.parallel import agreed, leave, make_fabric, share_norms
from miase.registry import resolve
from miase.resume import Checkpoints, saved_steps
from miase.training_log import TrainingLog

CHECKPOINTS_NAME = "checkpoints"
N_VALID = 16  # excerpts of a validation
VALID_BATCH = 4  # of them at once, whatever the batches of the training
N_HEARD = 2  # of them can be heard in TensorBoard


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        model_dir: the averaged model, ready for ``miase enhance -m``.
        step: steps done, those before a resume included.
        cpu_seconds: time that the CPU spent on them.
        finished: False when the run was interrupted.
        failures: a line for each recording that could not be read.
    """

    model_dir: Path
    step: int
    cpu_seconds: float
    finished: bool
    failures: tuple[str, ...]


def fit(
    noisy_dir: Path | None,
    out: Path,
    config: RunConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    recordings: Recordings | None = None,
) -> TrainResult:
    """Train a network and write ``out/config.toml``, ``checkpoints/``, ``metrics.jsonl`` and ``model/``.

    Args:
        noisy_dir: any folder of sound files, or one made by ``miase corpus``; None to mix noisy recordings
            while training, as ``config.mix`` says.
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
    objective, fixed = find_objective(config.objective)
    config = replace(config, objective=fixed)
    _check_start(settings, out, resume)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    seed_everything(settings.seed, verbose=False)
    fabric = make_fabric(settings)
    data = open_examples(noisy_dir, config, needs_of(objective), recordings)
    checkpoints = Checkpoints(out / CHECKPOINTS_NAME, data.fingerprint)
    batch_size = config.data.batch_size * settings.accumulate * fabric.world_size
    epoch_steps = n_steps_of_epoch(len(data.train), batch_size)
    learner = _learner(config, objective, fabric, checkpoints if resume else None, epoch_steps)
    progress = learner.progress
    leads = fabric.is_global_zero  # one of the processes writes
    if leads:
        with written_whole(out / "config.toml") as path:
            path.write_text(dump_toml(config), encoding="utf-8")
    valid_batches = _validation_batches(data)
    choosable = data.train if isinstance(data.train, Examples) else None  # mixtures are new each time
    with (
        closing(TrainingLog(out if leads else None, progress.step)) as log,
        _bar(settings.max_steps, progress.step, quiet or not leads) as bar,
        _interruptible() as interrupted,
    ):

        def ends() -> bool:
            return agreed(fabric, learner.is_over() or interrupted())

        def save() -> None:
            if leads:
                checkpoints.save(learner)

        def validate() -> None:
            log.write(learner.validate(valid_batches), "valid", progress)
            if log.board is not None:
                first = valid_batches[0]["noisy"][:N_HEARD]
                log.hear(first, learner.estimate(first), config.model.sample_rate, progress)

        def choose(recordings: Examples) -> None:
            share = config.objective.cleanest_share
            chosen = cleanest_recordings(recordings, learner.heard, share) if leads else []
            progress.chosen, progress.chosen_at = fabric.broadcast(chosen), progress.step

        last_saved = time.monotonic()
        while not ends():
            if choosable is not None and learner.is_to_choose():
                choose(choosable)
            epoch, first_step = divmod(progress.step, epoch_steps)
            part = (fabric.global_rank, fabric.world_size)
            for batch in batches(
                data.train,
                batch_size,
                settings.seed,
                epoch,
                first_step,
                config.data.workers,
                part,
                progress.chosen,
            ):
                parts = learner.step(batch)
                log.write(parts, "train", progress)
                bar.update()
                bar.set_postfix(loss=f"{parts['loss']:.3f}")
                if valid_batches and progress.step % settings.valid_steps == 0:
                    validate()
                if ends() or (choosable is not None and learner.is_to_choose()):
                    break
                if time.monotonic() - last_saved > 60 * settings.checkpoint_minutes:
                    save()
                    last_saved = time.monotonic()
            # Where a run is interrupted it does not validate: resumed, it must go on like an undisturbed one.
            if valid_batches and learner.is_over() and progress.step % settings.valid_steps:
                validate()
            save()
            last_saved = time.monotonic()
    model_dir = out / "model"
    if leads:
        save_pretrained(learner.kept(), model_dir)
        write_card(model_dir, config, progress, data.summary)
    leave(fabric)
    failures = data.failures + data.damaged()
    return TrainResult(model_dir, progress.step, progress.cpu_seconds, learner.is_over(), failures)


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


def _learner(
    config: RunConfig,
    objective: Objective,
    fabric: Fabric,
    checkpoints: Checkpoints | None,
    epoch_steps: int,
) -> Learner:
    """Give the learner at its beginning, or where the last checkpoint stands.

    A run that starts from a model takes its weights for the average, too: it moves away from them slowly.
    """
    start = config.training.start
    network = load_pretrained(resolve(start)) if start else build_model(config.model)
    network.norms_are_frozen = config.training.freeze_norms
    network.activation_checkpointing = config.training.activation_checkpointing
    average = copy.deepcopy(network).eval().requires_grad_(False)
    best = copy.deepcopy(average)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.training.lr)
    progress = checkpoints.restore(network, average, best, optimizer) if checkpoints else Progress()
    if fabric.world_size > 1:
        share_norms(network)
    callable_: Any = torch.compile(network) if config.training.compile else network
    model, optim = fabric.setup(callable_, optimizer)
    average.to(fabric.device)
    best.to(fabric.device)
    return Learner(config, objective, fabric, network, model, average, best, optim, progress, epoch_steps)


def _validation_batches(data: TrainingData) -> list[dict[str, Tensor]]:
    """Always the same excerpts, N_VALID of them, spread over the validation recordings."""
    valid_batches = []
    for first in range(0, N_VALID if data.n_valid else 0, VALID_BATCH):
        positions = range(first, first + VALID_BATCH)
        items = [data.valid[(VALID_EPOCH, p, p % data.n_valid)] for p in positions]
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
