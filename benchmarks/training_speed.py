"""How long a training step takes, against the plain network: ratios of a paired run.

    python benchmarks/training_speed.py [--repeats 7]

CPU time of one thread, ways taken in turn, medians; each in a process of its own, ours with memory kept as
`miase train` has it. `dcunet10_ctstm` at 48 kHz, 3072/768: a pass without gradient, and one with it and its
way back. Writes benchmarks/results/training_speed.json.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from plain import PlainDCUNet
from speed import PUBLISHED, machine, show
from turns import by_turns, ratios

from miase.config import ModelConfig
from miase.losses import weighted_sdr
from miase.models import build_model
from miase.parallel import keep_memory

RESULTS = Path(__file__).parent / "results" / "training_speed.json"
WAYS = ("plain", "module", "bfloat16")
SETTLING = 4  # steps in which memory that is kept finds its place


def main() -> None:
    """Parse the command, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    times = by_turns(prepared, WAYS, arguments.repeats, SETTLING)
    results = {"machine": machine(), "training step": ratios(times, "module")}
    show("training step", results["training step"])
    arguments.results.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def prepared(way: str) -> Callable[[], object]:
    """A pass without gradient, and one with it and its way back, on 2 x 165 000 samples."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_model(ModelConfig("dcunet10_ctstm", **PUBLISHED))
    noisy = 0.1 * torch.randn(2, 165_000)
    network = PlainDCUNet(model) if way == "plain" else model
    if way != "plain":
        keep_memory()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "bfloat16"):
            model.eval()
            with torch.no_grad():
                target = network(noisy)
            model.train()
            estimate = network(noisy)
        model.zero_grad()
        weighted_sdr(noisy, estimate, target).mean().backward()

    return step


if __name__ == "__main__":
    main()
