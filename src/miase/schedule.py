"""The learning rate over the course of a run, as a factor of its highest value."""

import math

from miase.config import TrainingConfig

RISE_STEPS = 20  # Adam's first estimates of the gradient's scale are rough
LEAST = 0.01  # of the highest learning rate, which the run ends with
EPOCH_FACTOR = 0.95  # of the exponential schedule (Tu et al. 2025)


def lr_factor(settings: TrainingConfig, step: int, seconds: float, epoch: int) -> float:
    """Factor of ``settings.lr`` for a step.

    Args:
        settings: the schedule, and the limits of the run that it follows.
        step: steps done.
        seconds: time spent.
        epoch: epochs done.
    """
    rise = min(1.0, (step + 1) / RISE_STEPS)
    if settings.lr_schedule == "constant":
        return rise
    if settings.lr_schedule == "exponential":
        return rise * max(EPOCH_FACTOR**epoch, LEAST)
    done = step / settings.max_steps if settings.max_steps else seconds / (60 * settings.max_minutes)
    left = min(1.0, (1 - min(done, 1.0)) / settings.lr_decay) if settings.lr_decay else 1.0
    if settings.lr_schedule == "cosine":
        left = 0.5 - 0.5 * math.cos(math.pi * left)
    return rise * max(left, LEAST)
