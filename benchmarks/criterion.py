"""Does the measure that picks a checkpoint without clean speech pick a good one? Runs judged along their way.

    python benchmarks/criterion.py --noisy CORPUS --test CORPUS --noise DIR

Trains runs that go well and runs that go wrong, at a constant learning rate; at each validation the moving
average is judged by PESQ and SI-SDR on a test corpus with clean speech, which the runs never see. Writes
benchmarks/results/criterion.json, prints a table, and says which checkpoint each measure would have picked.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from miase.checkpoint import load_state, save_pretrained
from miase.config import DataConfig, ModelConfig, ObjectiveConfig, RunConfig, TrainingConfig
from miase.evaluate import Options, evaluate
from miase.models import build_model
from miase.stamp import portable
from miase.train import fit

ROOT = Path(__file__).parents[1]
MEASURES = ("quality", "consistency_db", "blind_sdr_db", "dnsmos_ovrl", "loss")


def runs_of(noise: str) -> dict[str, ObjectiveConfig]:
    """Runs that go well, and runs that lose speech: noise too loud, or the residual of a young network."""
    usual = ObjectiveConfig("iddp", (noise,), warmup_steps=100)
    return {
        "iddp": usual,
        "noise2clean": replace(usual, name="noise2clean"),
        "noisy_target": replace(usual, name="noisy_target"),
        "iddp, noise at -10 to 0 dB, no recordings as targets": replace(
            usual, snr_db=(-10.0, 0.0), target_share=0.0
        ),
        "iddp, residual alone": replace(usual, noise=("residual",), target_share=0.0),
    }


def main() -> None:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--noisy", type=Path, required=True, help="corpus to train on")
    parser.add_argument(
        "--test", type=Path, required=True, help="corpus to judge on: other speakers, other noise"
    )
    parser.add_argument("--noise", required=True, help="folder of noise that is added")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--only", nargs="*", help="names of runs")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "criterion.json")
    arguments = parser.parse_args()
    found = {}
    for name, objective in runs_of(arguments.noise).items():
        if not arguments.only or name in arguments.only:
            found[name] = judge_run(arguments, objective)
            print(f"\n{name}\n{as_text(found[name])}", flush=True)
    settings = {key: portable(str(value)) for key, value in vars(arguments).items() if value is not None}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps({"settings": settings, "runs": found}, indent=1) + "\n")


def judge_run(arguments: argparse.Namespace, objective: ObjectiveConfig) -> list[dict[str, float]]:
    """A row for each validation of a run: what it measured, and the scores of the average then."""
    model = ModelConfig(n_blocks=2)
    rows = []
    with tempfile.TemporaryDirectory(prefix="miase-criterion-") as name:
        run = Path(name) / "run"
        for steps in range(arguments.every, arguments.steps + 1, arguments.every):
            training = TrainingConfig(
                lr_schedule="constant",
                average_decay=0.98,
                max_steps=steps,
                valid_steps=arguments.every,
                patience=0,
                threads=1,
            )
            config = RunConfig(model, DataConfig(workers=0, valid_share=0.1), objective, training)
            fit(arguments.noisy, run, config, resume=steps > arguments.every, quiet=True)
            lines = (run / "metrics.jsonl").read_text().splitlines()
            measured = [row for row in map(json.loads, lines) if row["split"] == "valid"][-1]
            average = build_model(model)
            average.load_state_dict(load_state(run / f"checkpoints/step-{steps:08d}.pt")["average"])
            save_pretrained(average.eval(), Path(name) / "average")
            evaluation = evaluate(
                arguments.test,
                models=[str(Path(name) / "average")],
                options=Options(("pesq_wb", "si_sdr"), quiet=True),
            )
            scores = {
                metric: float(np.mean(evaluation.column("average", metric))) for metric in evaluation.metrics
            }
            rows.append(
                {"step": steps, **{key: measured[key] for key in MEASURES if key in measured}, **scores}
            )
    return rows


def as_text(rows: list[dict[str, float]]) -> str:
    """The rows, and what each measure would have picked; a loss is better when lower."""
    lines = ["  ".join(f"{name:>14}" for name in rows[0])]
    lines += ["  ".join(f"{value:14.4g}" for value in row.values()) for row in rows]
    best = max(row["pesq_wb"] for row in rows)
    for measure in MEASURES:
        if measure in rows[0]:
            sign = -1 if measure == "loss" else 1
            picked = max(rows, key=lambda row: sign * row[measure])
            lines.append(f"{measure} picks step {picked['step']}: PESQ {picked['pesq_wb'] - best:+.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
