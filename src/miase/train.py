"""The verb ``train``: fit a network to a folder of noisy recordings.

The loop knows neither losses nor networks; it draws batches, asks the objective for a loss, and once in a
while validates, logs and saves. A run that was killed goes on from its last checkpoint as if nothing had
happened.
"""

import copy
import json
import math
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric, seed_everything
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from tqdm import tqdm

import miase
from miase.checkpoint import (
    CARD_NAME,
    WEIGHTS_NAME,
    load_state,
    save_pretrained,
    save_state,
    sha256,
    written_whole,
)
from miase.config import RunConfig, TrainingConfig, dump_toml
from miase.corpus import discover
from miase.dataset import (
    VALID_EPOCH,
    Examples,
    NoiseSource,
    batches,
    clean_partners,
    find_recordings,
    n_steps_of_epoch,
    split_recordings,
)
from miase.errors import ConfigError, TrainingError, WeightsError
from miase.models import DCUNet, build_model
from miase.objectives import OBJECTIVES, Networks, Objective

WARMUP_STEPS = 20  # of the learning rate: Adam's first estimates of the gradient's scale are rough
N_VALID = 16  # excerpts of a validation
VALIDATION_SECONDS = 60.0  # least time between two of them: an epoch of a small folder takes seconds
COLLAPSED_DB = -30.0  # output over input energy; speech in noise at 0 dB leaves -3 dB
N_KEPT = 2  # checkpoints


@dataclass
class Progress:
    """Where a run stands; saved with each checkpoint. The seconds are those of the clock on the wall."""

    step: int = 0
    seconds: float = 0.0


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
    noisy_dir: Path, out: Path, config: RunConfig, *, resume: bool = False, quiet: bool = False
) -> TrainResult:
    """Train a network and write ``out/config.toml``, ``checkpoints/``, ``metrics.jsonl`` and ``model/``.

    Args:
        noisy_dir: any folder of sound files, or one made by ``miase corpus``.
        out: the run's folder.
        config: all settings; one of ``max_steps`` and ``max_minutes`` must be set.
        resume: go on from the last checkpoint in ``out``.
        quiet: show no progress.

    Raises:
        ConfigError: a setting cannot be used, as an unknown objective or a device that is not there.
        TrainingError: the run cannot start or resume, or it diverged or collapsed.
        CorpusError: the folder cannot serve this objective.
    """
    settings = config.training
    objective = _objective(config)
    if settings.max_steps == 0 and settings.max_minutes == 0:
        raise ConfigError("the run has no end; give --max-steps or --max-minutes")
    checkpoints = out / "checkpoints"
    if _saved(checkpoints) and not resume:
        raise TrainingError(
            f"{out} holds a run already; add --resume to go on with it, or name another folder"
        )
    if settings.threads:
        torch.set_num_threads(settings.threads)
    seed_everything(settings.seed, verbose=False)
    fabric = _fabric(settings)
    recordings = find_recordings(discover(noisy_dir), noisy_dir)
    training, validation = split_recordings(recordings, config.data.valid_share)
    noise = NoiseSource(config.objective.noise, config.model.sample_rate, training)
    clean_of = clean_partners(noisy_dir) if "clean" in objective.needs else None

    def examples(infos: list[Any]) -> Examples:
        return Examples(
            infos, objective.needs, config.data, config.model.sample_rate, settings.seed, noise, clean_of
        )

    model = build_model(config.model)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    progress = Progress()
    if resume:
        progress = _restore(checkpoints, model, average, optimizer, recordings.fingerprint())
    out.mkdir(parents=True, exist_ok=True)
    with written_whole(out / "config.toml") as path:
        path.write_text(dump_toml(config), encoding="utf-8")
    net, optim = fabric.setup(model, optimizer)
    average.to(fabric.device)
    run = _Run(config, objective, fabric, net, average, optim, progress)
    train_examples = examples(training)
    # Where a recording of the validation cannot be read, one of the others takes its place.
    valid_examples = examples(validation + training)
    valid_batches = list(_validation_batches(valid_examples, len(validation), config)) if validation else []
    steps_per_epoch = n_steps_of_epoch(len(train_examples), config.data.batch_size)

    def save() -> None:
        path = checkpoints / f"step-{run.progress.step:08d}.pt"
        if run.progress.step and not path.exists():
            save_state(run.state() | {"recordings": recordings.fingerprint()}, path)
            for old in _saved(checkpoints)[:-N_KEPT]:
                old.unlink()

    def validate() -> None:
        if valid_batches:
            log.write(run.validate(valid_batches), "valid", run.progress)

    bar = tqdm(
        total=settings.max_steps or None,
        initial=progress.step,
        disable=quiet,
        unit="step",
        dynamic_ncols=True,
    )
    last_saved = last_validated = time.monotonic()
    with closing(_Log(out, progress.step)) as log, bar, _interruptible() as interrupted:
        while not run.is_over() and not interrupted():
            epoch, step_of_epoch = divmod(run.progress.step, steps_per_epoch)
            epoch_batches = batches(
                train_examples,
                config.data.batch_size,
                settings.seed,
                epoch,
                step_of_epoch,
                config.data.workers,
            )
            for batch in epoch_batches:
                parts = run.step(batch)
                log.write(parts, "train", run.progress)
                bar.update()
                bar.set_postfix(loss=f"{parts['loss']:.3f}")
                if run.is_over() or interrupted():
                    break
                if time.monotonic() - last_saved > 60 * settings.checkpoint_minutes:
                    save()
                    last_saved = time.monotonic()
            save()
            last_saved = time.monotonic()
            if run.is_over() or interrupted() or last_saved - last_validated > VALIDATION_SECONDS:
                validate()
                last_validated = time.monotonic()
    model_dir = out / "model"
    save_pretrained(average, model_dir)
    card = _card(config, model_dir, run.progress, len(recordings.infos), recordings.seconds)
    with written_whole(model_dir / CARD_NAME) as path:
        path.write_text(card, encoding="utf-8")
    damaged = {*train_examples.damaged_files(), *valid_examples.damaged_files()}
    failures = tuple(f"{file} is damaged; other recordings took its place" for file in sorted(damaged))
    return TrainResult(model_dir, run.progress.step, run.is_over(), recordings.failures + failures)


class _Run:
    """The networks, the optimizer and where they stand."""

    def __init__(
        self,
        config: RunConfig,
        objective: Objective,
        fabric: Fabric,
        model: Any,
        average: DCUNet,
        optimizer: Any,
        progress: Progress,
    ) -> None:
        self.config = config
        self.objective = objective
        self.fabric = fabric
        self.model = model
        self.average = average
        self.optimizer = optimizer
        self.progress = progress
        # Time that was spent before a resume counts as if it had just passed.
        self.began = time.monotonic() - progress.seconds

    def step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One step of the optimizer; returns the parts of the loss."""
        settings, step = self.config.training, self.progress.step
        objective = self.objective
        # Without a source of noise but the residual, the warm-up would teach the network to do nothing.
        has_noise = set(self.config.objective.noise) != {"residual"}
        if self.config.objective.name == "iddp" and has_noise and step < self.config.objective.warmup_steps:
            objective = OBJECTIVES["noisy_target"]
        self.model.train()
        lr = settings.lr * self._lr_factor()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        prior = self.average if self.config.objective.prior == "average" else self.model
        generator = torch.Generator().manual_seed((settings.seed << 32) + step)
        batch = {name: value.to(self.fabric.device) for name, value in batch.items()}
        parts = objective.compute(Networks(self.model, prior), batch, self.config.objective, generator)
        self.fabric.backward(parts["loss"])
        norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False
        )
        values = {name: float(value.detach()) for name, value in parts.items()}
        values |= {"lr": lr, "grad_norm": math.nan if norm is None else float(norm)}
        if not math.isfinite(values["loss"] + values["grad_norm"]):
            raise TrainingError(
                f"the loss is {values['loss']} and the norm of its gradient {values['grad_norm']} "
                f"at step {step}; go on from the last checkpoint with --resume and a lower --lr"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.progress.step += 1
        self._update_average()
        self.progress.seconds = time.monotonic() - self.began
        return values

    def is_over(self) -> bool:
        """Whether a limit of the run is reached."""
        settings = self.config.training
        over_steps = 0 < settings.max_steps <= self.progress.step
        return over_steps or 0 < 60 * settings.max_minutes <= self.progress.seconds

    def validate(self, valid_batches: list[dict[str, Tensor]]) -> dict[str, float]:
        """Loss and health of the averaged model on excerpts it does not learn from; no clean speech is used.

        Raises:
            TrainingError: the model gives silence.
        """
        totals: dict[str, float] = {}
        for i, batch in enumerate(valid_batches):
            batch = {name: value.to(self.fabric.device) for name, value in batch.items()}
            generator = torch.Generator().manual_seed(i)
            with torch.no_grad():
                networks = Networks(self.average, self.average)
                parts = self.objective.compute(networks, batch, self.config.objective, generator)
                parts |= health(batch["noisy"], self.average(batch["noisy"]))
            for name, value in parts.items():
                totals[name] = totals.get(name, 0.0) + float(value) / len(valid_batches)
        if totals["energy_db"] < COLLAPSED_DB:
            raise TrainingError(
                f"the model collapsed: its output is {totals['energy_db']:.0f} dB against the recordings; "
                f"use the checkpoint before, a lower --lr, or a larger --fidelity-weight"
            )
        return totals

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs; randomness follows from seed and step."""
        return {
            "model": self.model.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.optimizer.state_dict(),
            "step": self.progress.step,
            "seconds": self.progress.seconds,
        }

    def _lr_factor(self) -> float:
        settings, step = self.config.training, self.progress.step
        if settings.max_steps:
            done = step / settings.max_steps
        else:
            done = self.progress.seconds / (60 * settings.max_minutes)
        rise = min(1.0, (step + 1) / WARMUP_STEPS)
        fall = min(1.0, (1 - min(done, 1.0)) / settings.lr_decay) if settings.lr_decay else 1.0
        return rise * max(fall, 0.01)

    def _update_average(self) -> None:
        step = self.progress.step
        decay = min(self.config.training.average_decay, step / (step + 10))
        current = self.model.module.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])


def health(noisy: Tensor, estimate: Tensor) -> dict[str, Tensor]:
    """How far the estimate is from silence and from doing nothing; (batch, time) each.

    ``energy_db`` is the energy of the output over that of the input, ``removed_db`` the energy of what was
    removed over that of the input; both in dB, means over the batch. Silence has energy_db far below 0 and
    removed_db 0; the identity has energy_db 0 and removed_db far below 0.
    """
    energy = noisy.square().sum(-1) + 1e-12
    kept = 10 * torch.log10(estimate.square().sum(-1) / energy + 1e-12)
    removed = 10 * torch.log10((noisy - estimate).square().sum(-1) / energy + 1e-12)
    return {"energy_db": kept.mean(), "removed_db": removed.mean()}


class _Log:
    """``metrics.jsonl``, and TensorBoard when it is installed."""

    def __init__(self, out: Path, step: int) -> None:
        path = out / "metrics.jsonl"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            with written_whole(path) as temporary:
                kept = [line + "\n" for line in lines if _step_of(line) <= step]
                temporary.write_text("".join(kept), encoding="utf-8")
        self.file = path.open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board: Any = SummaryWriter(str(out / "tensorboard"), purge_step=step)
        except ImportError:
            self.board = None

    def write(self, values: dict[str, float], split: str, progress: Progress) -> None:
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        line = {"step": progress.step, "split": split, "seconds": round(progress.seconds, 2)} | rounded
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{split}/{name}", value, progress.step)

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()


def _step_of(line: str) -> float:
    """The step of a line of ``metrics.jsonl``; infinite for one that a crash cut short."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf


def _objective(config: RunConfig) -> Objective:
    name = config.objective.name
    if name not in OBJECTIVES:
        raise ConfigError(f"unknown objective {name!r}; the objectives are {', '.join(OBJECTIVES)}")
    if name == "noisy_target" and set(config.objective.noise) == {"residual"}:
        raise ConfigError(
            "noisy_target makes one pass and has no residual; give --noise white or a noise folder"
        )
    return OBJECTIVES[name]


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


def _saved(checkpoints: Path) -> list[Path]:
    return sorted(checkpoints.glob("step-*.pt"))


def _restore(
    checkpoints: Path, model: DCUNet, average: DCUNet, optimizer: torch.optim.Optimizer, fingerprint: str
) -> Progress:
    saved = _saved(checkpoints)
    if not saved:
        return Progress()
    state = load_state(saved[-1])
    try:
        if state["recordings"] != fingerprint:
            raise TrainingError(
                "the recordings are not those the run began with; restore them or begin a new run"
            )
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        return Progress(state["step"], state["seconds"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{saved[-1]} does not fit the network of these settings; resume with those the run began with"
        ) from error


def _validation_batches(
    examples: Examples, n_recordings: int, config: RunConfig
) -> Iterator[dict[str, Tensor]]:
    """Always the same excerpts: about N_VALID of them, spread over the validation recordings."""
    size = config.data.batch_size
    for first in range(0, N_VALID, size):
        items = [examples[(VALID_EPOCH, p, p % n_recordings)] for p in range(first, first + size)]
        yield {name: torch.stack([item[name] for item in items]) for name in items[0]}


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


def _card(config: RunConfig, model_dir: Path, progress: Progress, n_recordings: int, seconds: float) -> str:
    return f"""# {config.model.name}, trained with `{config.objective.name}`

A speech enhancement model of miase {miase.__version__}.

- **Works at** {config.model.sample_rate} Hz, STFT {config.model.n_fft}/{config.model.hop_length} samples.
- **Learned from** {n_recordings} noisy recordings, {seconds / 3600:.2f} h, by {progress.step} steps of
  {config.data.batch_size} x {config.data.excerpt_seconds:g} s in {progress.seconds / 60:.0f} minutes; added
  noise: {", ".join(config.objective.noise)}; seed {config.training.seed}.
- **Clean speech used**: {"yes" if "clean" in OBJECTIVES[config.objective.name].needs else "none"}.
- **Licence**: that of the recordings; state it here before you pass the weights on.
- **SHA-256** of `{WEIGHTS_NAME}`: `{sha256(model_dir / WEIGHTS_NAME)}`
- **Made with** torch {torch.__version__}, Python {platform.python_version()} on {platform.machine()}.

All settings stand in `config.toml` of the run.
"""
