"""How long a training step takes, against the plain network: ratios of a paired run.

    python benchmarks/training_speed.py [--repeats 7]

CPU time of one thread, ways taken in turn, medians. `dcunet10_ctstm` at 48 kHz, 3072/768: a pass without
gradient, and one with it and its way back. Writes benchmarks/results/training_speed.json.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from plain import PlainDCUNet
from speed import PUBLISHED, compare, machine, show
from torch import Tensor

from miase.config import ModelConfig
from miase.losses import weighted_sdr
from miase.models import build_model
from miase.models.inference import estimate_once

RESULTS = Path(__file__).parent / "results" / "training_speed.json"


def main() -> None:
    """Parse the command, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ways = training_ways(ModelConfig("dcunet10_ctstm", **PUBLISHED))
    for way in ways.values():  # what only the first time takes
        way()
    results = {"machine": machine(), "training step": compare(ways, arguments.repeats)}
    show("training step", results["training step"])
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def training_ways(config: ModelConfig) -> dict[str, Callable[[], object]]:
    """A pass without gradient, and one with it and its way back, on 2 x 165 000 samples."""
    model = build_model(config)
    plain = PlainDCUNet(model)
    noisy = 0.1 * torch.randn(2, 165_000)

    def step(network: torch.nn.Module, first_pass: Callable[[Tensor], Tensor], rounded: bool = False) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            model.eval()
            with torch.no_grad():
                target = first_pass(noisy)
            model.train()
            estimate = network(noisy)
        model.zero_grad()
        weighted_sdr(noisy, estimate, target).mean().backward()

    return {
        "plain": lambda: step(plain, plain),
        "module": lambda: step(model, partial(estimate_once, model)),
        "bfloat16": lambda: step(model, partial(estimate_once, model), rounded=True),
    }


if __name__ == "__main__":
    main()
