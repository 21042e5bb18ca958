"""Package the model of a training run: weights in 16 bits and a card, below src/miase/weights/.

    python recipes/package.py RUN NAME CARD REPORT.json ...

CARD is a text with {placeholders}; the reports of `miase evaluate` are its table.
"""

import json
import platform
import sys
from pathlib import Path

import torch
from scores_table import table

import miase
from miase.checkpoint import WEIGHTS_NAME, load_pretrained, save_pretrained, sha256, written_whole
from miase.config_file import load_toml

WEIGHTS = Path(__file__).parents[1] / "src" / "miase" / "weights"


def main(run: Path, name: str, card: Path, *reports: Path) -> None:
    """Write the packaged model."""
    folder = WEIGHTS / name
    model = load_pretrained(run / "model")
    save_pretrained(model, folder, half=True)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = [row for row in map(json.loads, lines) if row["split"] == "train"][-1]
    text = card.read_text(encoding="utf-8").format(
        name=name,
        steps=last["step"],
        minutes=round(last["seconds"] / 60),
        seed=load_toml(run / "config.toml").training.seed,
        parameters=sum(p.numel() for p in model.parameters()),
        sha256=sha256(folder / WEIGHTS_NAME),
        kilobytes=round((folder / WEIGHTS_NAME).stat().st_size / 1000),
        versions=f"miase {miase.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        table=table(list(reports)),
    )
    with written_whole(folder / "README.md") as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run, name, card, *reports = sys.argv[1:]
    main(Path(run), name, Path(card), *map(Path, reports))
