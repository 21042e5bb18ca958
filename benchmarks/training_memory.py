"""What a training step takes of memory for a second of sound, with and without activation checkpointing.

    python benchmarks/training_memory.py

`dcunet10_ctstm` at 48 kHz, 3072/768, a pass forth and back over 2 x 165 000 samples, each way in a process of
its own; the growth of its largest resident size. Writes benchmarks/results/training_memory.json.
"""

import json
import subprocess
import sys
from pathlib import Path

from speed import PUBLISHED, machine

RESULTS = Path(__file__).parent / "results" / "training_memory.json"
STEP = """
import json, resource, sys, time, torch
from miase.config import ModelConfig
from miase.losses import weighted_sdr
from miase.models import build_model

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

torch.set_num_threads(1)
torch.manual_seed(0)
options = json.loads(sys.argv[1])
model = build_model(ModelConfig("dcunet10_ctstm", **options["model"])).train()
model.activation_checkpointing = options["activation_checkpointing"]
noisy = 0.1 * torch.randn(2, 165_000)
before, start = peak(), time.process_time()
weighted_sdr(noisy, model(noisy), 0.5 * noisy).mean().backward()
print(json.dumps([peak() - before, time.process_time() - start]))
"""


def main() -> None:
    """Measure both ways, print, write."""
    seconds = 2 * 165_000 / PUBLISHED["sample_rate"]
    results: dict = {"machine": machine()}
    for way, on in (("plain", False), ("activation_checkpointing", True)):
        options = json.dumps({"model": PUBLISHED, "activation_checkpointing": on})
        run = subprocess.run([sys.executable, "-c", STEP, options], check=True, capture_output=True)
        mb, cpu_seconds = json.loads(run.stdout)
        results[way] = {"mb_for_a_second": mb / seconds, "cpu_seconds": cpu_seconds}
        print(f"{way}: {mb / seconds:.0f} MB for a second of sound, {cpu_seconds:.2f} s of CPU time")
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
