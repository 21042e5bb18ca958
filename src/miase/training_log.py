"""The log of a training run: ``metrics.jsonl``, and TensorBoard when it is installed."""

import json
import math
from pathlib import Path
from typing import Any

from miase.checkpoint import written_whole
from miase.learner import Progress


class TrainingLog:
    """Appends to the log in ``out``; lines behind ``step``, which a resume does again, are dropped.

    Args:
        out: the run's folder.
        step: where the run begins or goes on.
    """

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
        """Add a line of values; ``split`` is train or valid."""
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        line = {"step": progress.step, "split": split, "seconds": round(progress.seconds, 2)} | rounded
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{split}/{name}", value, progress.step)

    def close(self) -> None:
        """Close the files."""
        self.file.close()
        if self.board is not None:
            self.board.close()


def _step_of(line: str) -> float:
    """The step of a line of ``metrics.jsonl``; infinite for one that a crash cut short."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf
