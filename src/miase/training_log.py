"""The log of a training run: ``metrics.jsonl``, and TensorBoard when it is installed."""

import json
import math
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from miase.checkpoint import written_whole
from miase.learner import Progress

RANGE_DB = 80.0  # of the spectrograms


class TrainingLog:
    """Appends to the log in ``out``; lines behind ``step``, which a resume does again, are dropped.

    Args:
        out: the run's folder; None writes nothing.
        step: where the run begins or goes on.
    """

    def __init__(self, out: Path | None, step: int) -> None:
        self.file: TextIO | None = None
        self.board: Any = None
        if out is None:
            return
        path = out / "metrics.jsonl"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            with written_whole(path) as temporary:
                kept = [line + "\n" for line in lines if _step_of(line) <= step]
                temporary.write_text("".join(kept), encoding="utf-8")
        self.file = path.open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=step)
        except ImportError:
            pass

    def write(self, values: dict[str, float], split: str, progress: Progress) -> None:
        """Add a line of values; ``split`` is train or valid."""
        if self.file is None:
            return
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        line = {"step": progress.step, "split": split, "seconds": round(progress.seconds, 2)} | rounded
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{split}/{name}", value, progress.step)

    def hear(self, noisy: Tensor, estimate: Tensor, sample_rate: int, progress: Progress) -> None:
        """Add sounds and spectrograms to TensorBoard: recordings and their estimates, (batch, time)."""
        if self.board is None:
            return
        for number, pair in enumerate(zip(noisy.cpu(), estimate.cpu(), strict=True)):
            peak = pair[0].abs().max().clamp(min=1e-9)
            for kind, samples in zip(("noisy", "estimate"), pair, strict=True):
                name = f"{kind}/{number}"
                self.board.add_audio(name, (samples / peak).clamp(-1, 1), progress.step, sample_rate)
                self.board.add_image(name, spectrogram(samples / peak), progress.step, dataformats="HW")

    def close(self) -> None:
        """Close the files."""
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            self.board.close()


def spectrogram(samples: Tensor) -> Tensor:
    """Levels of (time,) as a picture, (freq, frame), high frequencies above, 0 at -80 dB and 1 at 0 dB."""
    window = torch.hann_window(512)
    spectrum = torch.stft(
        samples, 512, 128, window=window, center=True, pad_mode="constant", return_complex=True
    )
    level = 20 * torch.log10(2 * spectrum.abs() / window.sum() + 1e-9)
    return (level / RANGE_DB + 1).clamp(0, 1).flip(0)


def _step_of(line: str) -> float:
    """The step of a line of ``metrics.jsonl``; infinite for one that a crash cut short."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf
