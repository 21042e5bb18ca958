"""A short table of reports of `miase evaluate`, and its place in the README.

python recipes/scores_table.py README.md REPORT.json ...
"""

import json
import sys
from pathlib import Path

METRICS = {
    "pesq_wb": ("PESQ-WB", 2),
    "stoi": ("STOI", 3),
    "si_sdr": ("SI-SDR in dB", 2),
    "high_band_snr": ("SNR above 8 kHz in dB", 2),
}
BEGIN, END = "<!-- scores:begin -->\n", "<!-- scores:end -->"


def table(reports: list[Path]) -> str:
    """Mean and 95 % interval of each system on each report's files, as Markdown; of metrics that all have."""
    if not reports:
        return "(not measured)"
    found = {path: json.loads(path.read_text(encoding="utf-8")) for path in reports}
    metrics = {
        name: how
        for name, how in METRICS.items()
        if all(name in report["stamp"]["metrics"] for report in found.values())
    }
    lines = [
        f"| recordings | system | {' | '.join(title for title, _ in metrics.values())} |",
        f"|---|---|{'---|' * len(metrics)}",
    ]
    stamps = []
    for path, report in found.items():
        for system, values in report["statistics"].items():
            cells = []
            for metric, (_, digits) in metrics.items():
                mean, low, high = (round(values[metric][key], digits) for key in ("mean", "low", "high"))
                cells.append(f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
            lines.append(f"| {path.stem} | {system} | {' | '.join(cells)} |")
        stamp = report["stamp"]
        stamps.append(
            f"{path.stem}: {stamp['files']['n']} files, {stamp['files']['seconds'] / 60:.1f} minutes"
        )
    packages = stamp["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "pesq", "pystoi"))
    made_with = f"miase {stamp['miase']}, {versions}, seed {stamp['seed']}"
    return "\n".join([*lines, "", f"Mean and 95 % interval; {'; '.join(stamps)}. {made_with}."])


def main(readme: Path, reports: list[Path]) -> None:
    """Put the table between the README's two marks."""
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = (
        "Speakers and noise recordings that the packaged model never met, at SNRs of 0 to 10 dB "
        "(`recipes/default_scores.sh`); `default@4` is `--shifts 4`:\n\n"
    )
    readme.write_text(f"{before}{BEGIN}{text}{table(reports)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
