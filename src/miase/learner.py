"""What learns: a network, its running average and the optimizer, step by step, and where they stand."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from miase.config import RunConfig
from miase.errors import TrainingError
from miase.models import DCUNet
from miase.objectives import OBJECTIVES, Networks, Objective

WARMUP_STEPS = 20  # of the learning rate: Adam's first estimates of the gradient's scale are rough
COLLAPSED_DB = -30.0  # output over input energy; speech in noise at 0 dB leaves -3 dB


@dataclass
class Progress:
    """Where a run stands; saved with each checkpoint. The seconds are those of the clock on the wall."""

    step: int = 0
    seconds: float = 0.0


class Learner:
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
        # Without a source of noise but the residual, the warm-up would teach the network to do nothing; a
        # run that starts from a model needs none.
        warms_up = set(self.config.objective.noise) != {"residual"} and not settings.start
        if self.config.objective.name == "iddp" and warms_up and step < self.config.objective.warmup_steps:
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
        decay = self.config.training.average_decay
        if not self.config.training.start:  # random weights must not linger in the average
            decay = min(decay, step / (step + 10))
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
