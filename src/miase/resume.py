"""The checkpoints of a training run, from which a run that was stopped or killed goes on."""

from pathlib import Path

import torch

from miase.checkpoint import load_state, save_state
from miase.errors import TrainingError, WeightsError
from miase.learner import Learner, Progress
from miase.models import DCUNet

N_KEPT = 2  # checkpoints


class Checkpoints:
    """The folder of a run's checkpoints, the newest ``N_KEPT`` of them.

    Args:
        folder: made when the first one is saved.
        fingerprint: of the recordings; a run goes on with those it began with.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint

    def save(self, learner: Learner) -> None:
        """Save where the learner stands, unless that is saved already or the beginning."""
        step = learner.progress.step
        path = self.folder / f"step-{step:08d}.pt"
        if step and not path.exists():
            save_state(learner.state() | {"recordings": self.fingerprint}, path)
            for old in saved_steps(self.folder)[:-N_KEPT]:
                old.unlink()

    def restore(
        self, model: DCUNet, average: DCUNet, best: DCUNet, optimizer: torch.optim.Optimizer
    ) -> Progress:
        """Load the last checkpoint, if there is one; returns where it stands.

        Raises:
            TrainingError: the recordings are others.
            WeightsError: the checkpoint is damaged, or of another network.
        """
        saved = saved_steps(self.folder)
        if not saved:
            return Progress()
        last = saved[-1]
        state = load_state(last)
        try:
            if state["recordings"] != self.fingerprint:
                raise TrainingError(
                    "the recordings are not those the run began with; restore them or begin a new run"
                )
            model.load_state_dict(state["model"])
            average.load_state_dict(state["average"])
            best.load_state_dict(state["best"])
            optimizer.load_state_dict(state["optimizer"])
            return Progress(**state["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"{last} does not fit the network of these settings; resume with those the run began with"
            ) from error


def saved_steps(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    return sorted(folder.glob("step-*.pt"))
