"""Package the model of a training run: weights in 16 bits and a card, below src/miase/weights/.

    python recipes/package.py RUN NAME CARD TABLE

CARD is a text with {placeholders}, TABLE a Markdown report of `miase evaluate` whose statistics go into it.
"""

import json
import platform
import sys
from pathlib import Path

import torch

import miase
from miase.checkpoint import WEIGHTS_NAME, load_pretrained, save_pretrained, sha256, written_whole
from miase.config import load_toml

WEIGHTS = Path(__file__).parents[1] / "src" / "miase" / "weights"
METRICS = ("si_sdr", "pesq_wb", "stoi")


def statistics(report: str) -> str:
    """The rows of a report's first table that the card shows."""
    rows = [line for line in report.splitlines() if line.startswith("|")]
    kept = [row for row in rows if row.split("|")[1].strip() in METRICS]
    return "\n".join([*rows[:2], *kept])


def main(run: Path, name: str, card: Path, *tables: Path) -> None:
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
        table="\n\n".join(
            f"{path.stem}:\n\n{statistics(path.read_text(encoding='utf-8'))}" for path in tables
        ),
    )
    with written_whole(folder / "README.md") as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run, name, card, *tables = sys.argv[1:]
    main(Path(run), name, Path(card), *map(Path, tables))
