"""Ten examples before and after, chosen by a rule, as pictures and figures in docs/listening.md.

    python recipes/listening.py REPORT.json CORPUS MODEL docs/listening.md

REPORT is of `miase evaluate --noisy CORPUS -m MODEL` with PESQ-WB, STOI and SI-SDR. In the order of what they
gain in PESQ-WB, the files are the three best, the four in the middle and the three worst. What is between the
marks of the page is replaced, the remarks around it stay.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

from miase import Enhancer
from miase.audio import load

mpl.use("Agg")
import matplotlib.pyplot as plt

BEGIN, END = "<!-- examples:begin -->\n", "<!-- examples:end -->"
QUIET_DB = -35.0  # of a frame against the loudest: nobody speaks
FRAME = 512


def main(report: Path, corpus: Path, model: str, page: Path) -> None:
    """Choose, draw, write."""
    values = gains(json.loads(report.read_text(encoding="utf-8")), model)
    order = sorted(values, key=lambda name: values[name][1]["pesq_wb"] - values[name][0]["pesq_wb"])
    middle = len(order) // 2
    chosen = {"best": order[:-4:-1], "middle": order[middle - 2 : middle + 2], "worst": order[:3]}
    enhancer = Enhancer.from_pretrained(model, device="cpu")
    pictures = page.with_suffix("")
    pictures.mkdir(exist_ok=True)
    lines = [
        "| | noise | PESQ-WB | STOI | SI-SDR, dB | level where nobody speaks, dB |",
        "|---|---|---|---|---|---|",
    ]
    shown = []
    for place, names in chosen.items():
        for i, name in enumerate(names, 1):
            noisy, sample_rate = load(corpus / "noisy" / name)
            clean, _ = load(corpus / "clean" / name)
            sounds = {
                "noisy": noisy[0],
                "estimate": enhancer.enhance(noisy, sample_rate)[0],
                "clean": clean[0],
            }
            before, after, group = values[name]
            cells = [
                f"{before[metric]:.{digits}f} to {after[metric]:.{digits}f}"
                for metric, digits in (("pesq_wb", 2), ("stoi", 3), ("si_sdr", 1))
            ]
            pauses = pause_change_db(sounds)
            cells.append("no pause" if pauses is None else f"{pauses:+.0f}")
            lines.append(f"| {place} {i} | {group} | {' | '.join(cells)} |")
            draw(sounds, sample_rate, f"{place} {i}: {group}", pictures / f"{place}_{i}.png")
            shown.append(f"![{place} {i}: noisy, estimate and clean]({pictures.name}/{place}_{i}.png)")
    block = "\n".join([*lines, "", f"Model `{model}`, {len(order)} files.", "", "\n\n".join(shown)])
    before_block, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(f"{before_block}{BEGIN}{block}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def gains(report: dict, model: str) -> dict[str, tuple[dict, dict, str]]:
    """Name of a file -> values before and after, and its noise."""
    values = {(row["file"], row["system"]): row["values"] for row in report["files"]}
    groups = {row["file"]: row["group"] for row in report["files"]}
    return {name: (values[name, "noisy"], values[name, model], group) for name, group in groups.items()}


def pause_change_db(sounds: dict[str, np.ndarray]) -> float | None:
    """Level of the estimate over that of the recording where the clean speech is quiet."""
    frames = {
        name: np.square(x[: len(x) // FRAME * FRAME].reshape(-1, FRAME)).sum(1) for name, x in sounds.items()
    }
    quiet = frames["clean"] < frames["clean"].max() * 10 ** (QUIET_DB / 10)
    if not quiet.any():
        return None
    return float(10 * np.log10(frames["estimate"][quiet].sum() / frames["noisy"][quiet].sum()))


def draw(sounds: dict[str, np.ndarray], sample_rate: int, title: str, path: Path) -> None:
    """Spectrograms of the three sounds, on one scale."""
    floor = 1e-6 * np.random.default_rng(0).standard_normal(max(map(len, sounds.values())))
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.2), sharey=True, layout="constrained")
    for axis, (name, x) in zip(axes, sounds.items(), strict=True):
        axis.specgram(
            x + floor[: len(x)],
            NFFT=FRAME,
            Fs=sample_rate,
            noverlap=FRAME * 3 // 4,
            vmin=-130,
            vmax=-40,
            cmap="magma",
        )
        axis.set_title(f"{title}, {name}" if name == "noisy" else name, fontsize=9)
        axis.set_xlabel("s")
    axes[0].set_ylabel("Hz")
    figure.savefig(path, dpi=60)
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
