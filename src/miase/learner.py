"""What learns: a network, its running average and the optimizer, step by step, and where they stand."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from miase.config import RunConfig
from miase.errors import TrainingError
from miase.health import health, quality, rate
from miase.models import DCUNet
from miase.objectives import OBJECTIVES, Draws, Networks, Objective, wiener_estimate
from miase.parallel import Autocast
from miase.schedule import lr_factor

COLLAPSED_DB = -30.0  # output over input energy; speech in noise at 0 dB leaves -3 dB
TELLING_DB = 0.1  # of quality; docs/experiments.md, 12

Batch = dict[str, Tensor]


@dataclass
class Progress:
    """Where a run stands; saved with each checkpoint. The seconds are those of the clock on the wall.

    Attributes:
        step: steps done.
        seconds: time spent.
        cpu_seconds: time that the CPU spent on it in this process.
        best_step: step of the validation whose model is kept.
        best_quality: the best so far, see `miase.health.quality`.
        stale: validations since then.
        chosen: numbers of the recordings to learn from, once they are chosen; all before.
        chosen_at: step at which they were chosen last.
    """

    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    best_step: int = 0
    best_quality: float = -math.inf
    stale: int = 0
    chosen: list[int] = field(default_factory=list)
    chosen_at: int = -1


class Learner:
    """The networks, the optimizer and where they stand.

    Args:
        config: all settings.
        objective: what to learn from; ``config.objective`` holds what it fixes.
        fabric: devices, precision and processes.
        network: the network itself.
        model: what Fabric made of it, which is called to learn.
        average: the moving average of the network.
        best: the average as it was at the last validation within ``TELLING_DB`` of the best; equal to
            ``average`` before the first.
        optimizer: as Fabric gave it.
        progress: where they stand.
        epoch_steps: steps of an epoch.
    """

    def __init__(
        self,
        config: RunConfig,
        objective: Objective,
        fabric: Fabric,
        network: DCUNet,
        model: Any,
        average: DCUNet,
        best: DCUNet,
        optimizer: Any,
        progress: Progress,
        epoch_steps: int,
    ) -> None:
        self.config = config
        self.objective = objective
        self.fabric = fabric
        self.network = network
        self.model = model
        self.average = average
        self.best = best
        self.optimizer = optimizer
        self.progress = progress
        self.epoch_steps = epoch_steps
        self.networks = Networks(model, self._prior(), config.model.sample_rate)
        # Time that was spent before a resume counts as if it had just passed.
        self.began = time.monotonic() - progress.seconds
        self.cpu_began = time.process_time() - progress.cpu_seconds

    def step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer; returns the parts of the loss.

        Args:
            batch: this process's share, all that is accumulated at once; (batch, time) each.

        Raises:
            TrainingError: the loss is no number.
        """
        settings, step = self.config.training, self.progress.step
        self.model.train()
        lr = settings.lr * lr_factor(settings, step, self.progress.seconds, step // self.epoch_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        values: dict[str, float] = {}
        for number, part in enumerate(_split(batch, settings.accumulate)):
            draws = self._draws((settings.seed << 32) + step, number)
            with self.fabric.no_backward_sync(self.model, enabled=number < settings.accumulate - 1):
                parts = self._objective_now().compute(
                    self.networks, self._moved(part), self.config.objective, draws
                )
                self.fabric.backward(parts["loss"] / settings.accumulate)
            for name, value in parts.items():
                share: Any = self.fabric.all_reduce(value.detach(), reduce_op="mean")
                values[name] = values.get(name, 0.0) + float(share) / settings.accumulate
        norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False
        )
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
        self.progress.cpu_seconds = time.process_time() - self.cpu_began
        return values

    def is_to_choose(self) -> bool:
        """Whether it is time to choose the recordings to learn from.

        At the beginning, after a quarter of the warm-up, and after all of it: each time more is known of the
        speech.
        """
        if self.config.objective.cleanest_share == 1:
            return False
        warmup_steps = self.config.objective.warmup_steps if self._warms_up() else 0
        due = max(step for step in (0, warmup_steps // 4, warmup_steps) if step <= self.progress.step)
        return self.progress.chosen_at < due

    def is_over(self) -> bool:
        """Whether a limit of the run is reached, or nothing better came for too long."""
        settings, progress = self.config.training, self.progress
        over_steps = 0 < settings.max_steps <= progress.step
        stale = 0 < settings.patience <= progress.stale
        return over_steps or stale or 0 < 60 * settings.max_minutes <= progress.seconds

    def validate(self, valid_batches: list[Batch]) -> dict[str, float]:
        """Loss and health of the average on excerpts it does not learn from, and keep it if none was better.

        No clean speech is used, but for the loss of an objective that learns from it.

        Raises:
            TrainingError: the model gives silence.
        """
        totals: dict[str, float] = {}
        networks = Networks(self.average, self.average, self.config.model.sample_rate)
        for i, batch in enumerate(map(self._moved, valid_batches)):
            with torch.no_grad():
                parts = self.objective.compute(networks, batch, self.config.objective, Draws(i))
                parts |= health(self.average, batch["noisy"], batch["noise"])
            found = {name: float(value) for name, value in parts.items()}
            found |= rate(self.estimate(batch["noisy"]), self.config.model.sample_rate)
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + value / len(valid_batches)
        if totals["energy_db"] < COLLAPSED_DB:
            raise TrainingError(
                f"the model collapsed: its output is {totals['energy_db']:.0f} dB against the recordings; "
                f"use the checkpoint before, a lower --lr, or a larger --fidelity-weight"
            )
        totals["quality"] = quality(totals)
        self._keep_if_best(totals["quality"])
        return totals

    def estimate(self, noisy: Tensor) -> Tensor:
        """What the average makes of recordings, (batch, time)."""
        with torch.no_grad():
            estimate: Tensor = self.average(noisy.to(self.fabric.device))
        return estimate

    def heard(self, noisy: Tensor) -> Tensor:
        """What is known of the speech in recordings, (batch, time), to choose those to learn from.

        Until the average has learned something, a Wiener filter knows more.
        """
        if self.progress.step == 0 and not self.config.training.start:
            return wiener_estimate(noisy, self.config.model.sample_rate)
        return self.estimate(noisy)

    def kept(self) -> DCUNet:
        """The model that a run leaves: see ``best``; the average where there was no validation."""
        return self.best if self.progress.best_step else self.average

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs; randomness follows from seed and step."""
        return {
            "model": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best.state_dict(),
            "optimizer": self.optimizer.optimizer.state_dict(),
            "progress": vars(self.progress),
        }

    def _prior(self) -> Any:
        """The network of the first pass, whose weights follow those of the run."""
        if self.config.objective.prior != "average":
            return self.model
        forward: Any = torch.compile(self.average) if self.config.training.compile else self.average
        return Autocast(self.fabric, forward).eval()

    def _objective_now(self) -> Objective:
        """The objective, or what it warms up with."""
        settings = self.config.objective
        if self._warms_up() and self.progress.step < settings.warmup_steps:
            return OBJECTIVES[settings.warmup]
        return self.objective

    def _warms_up(self) -> bool:
        settings = self.config.objective
        # Without a source of noise but the residual, a warm-up that has none would teach the network to do
        # nothing; a run that starts from a model needs none.
        has_noise = set(settings.noise) != {"residual"} or OBJECTIVES[settings.warmup].has_residual
        return self.objective.warms_up and has_noise and not self.config.training.start

    def _draws(self, seed: int, number: int) -> Draws:
        n_parts = self.config.training.accumulate
        return Draws(seed, self.fabric.global_rank * n_parts + number, self.fabric.world_size * n_parts)

    def _moved(self, batch: Batch) -> Batch:
        return {name: value.to(self.fabric.device) for name, value in batch.items()}

    def _keep_if_best(self, found: float) -> None:
        progress = self.progress
        progress.stale += 1
        if found > progress.best_quality:
            progress.best_quality, progress.stale = found, 0
        # What differs by less is alike to the measure, and the later of two has learned for longer.
        if found > progress.best_quality - TELLING_DB:
            progress.best_step = progress.step
            self.best.load_state_dict(self.average.state_dict())

    def _update_average(self) -> None:
        step = self.progress.step
        decay = self.config.training.average_decay
        if not self.config.training.start:  # random weights must not linger in the average
            decay = min(decay, step / (step + 10))
        current = self.network.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])


def _split(batch: Batch, n_parts: int) -> list[Batch]:
    size = len(next(iter(batch.values()))) // n_parts
    return [{name: value[i * size : (i + 1) * size] for name, value in batch.items()} for i in range(n_parts)]
