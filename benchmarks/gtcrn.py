"""GTCRN, which learned from clean speech, on the files that ours are judged on.

    python benchmarks/gtcrn.py CHECKOUT CORPUS ...

CHECKOUT: of the repository Xiaobin-Rong/gtcrn (MIT), with gtcrn.py and checkpoints/; it needs einops. CORPUS:
a folder that `miase corpus` wrote, at 16 kHz; with :SECONDS at its end, what comes before is heard but not
judged. Prints means and writes benchmarks/results/gtcrn.json.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from miase.audio import load
from miase.manifest import read_manifest
from miase.metrics import score
from miase.sounds import Samples

RESULTS = Path(__file__).parent / "results" / "gtcrn.json"
METRICS = ("pesq_wb", "stoi", "si_sdr")
WEIGHTS = {"gtcrn-dns3": "model_trained_on_dns3.tar", "gtcrn-vctk": "model_trained_on_vctk.tar"}
N_FFT, HOP_LENGTH = 512, 256


def main(checkout: Path, *corpora: str) -> None:
    """Judge both weights on each corpus."""
    torch.set_num_threads(1)
    sys.path.insert(0, str(checkout))
    network = importlib.import_module("gtcrn").GTCRN
    models = {}
    for name, weights in WEIGHTS.items():
        models[name] = network().eval()
        state = torch.load(checkout / "checkpoints" / weights, map_location="cpu", weights_only=True)
        models[name].load_state_dict(state["model"])
    found = {}
    for corpus in corpora:
        folder, _, lead_in = corpus.partition(":")
        found["/".join(Path(folder).parts[-2:])] = judge(models, Path(folder), float(lead_in or 0))
    RESULTS.write_text(json.dumps({"torch": torch.__version__, "means": found}, indent=1) + "\n")


def judge(models: dict[str, Any], folder: Path, lead_in: float) -> dict[str, Any]:
    """The means of each model, and of the noisy recordings, over a corpus."""
    scores: dict[str, list[list[float]]] = {}
    entries = read_manifest(folder)
    for entry in entries:
        noisy, sample_rate = load(folder / entry.noisy)
        clean, _ = load(folder / str(entry.clean))
        start = round(lead_in * sample_rate)
        estimates = {"noisy": noisy[0]} | {name: run(model, noisy[0]) for name, model in models.items()}
        for name, estimate in estimates.items():
            values = score(estimate[start:], clean[0, start:], sample_rate, METRICS)
            scores.setdefault(name, []).append([values[metric] for metric in METRICS])
    means = {
        name: dict(zip(METRICS, np.mean(rows, axis=0).round(4).tolist(), strict=True))
        for name, rows in scores.items()
    }
    print(folder, len(entries), means, flush=True)
    return {"files": len(entries)} | means


def run(model: Any, noisy: Samples) -> Samples:
    """(time,) -> (time,), with frames as the repository has them."""
    window = torch.hann_window(N_FFT).sqrt()
    spectrum = torch.stft(torch.from_numpy(noisy), N_FFT, HOP_LENGTH, window=window, return_complex=True)
    with torch.no_grad():
        masked = model(torch.view_as_real(spectrum)[None])[0]
    complex_masked = torch.view_as_complex(masked.contiguous())
    estimate: Samples = torch.istft(
        complex_masked, N_FFT, HOP_LENGTH, window=window, length=len(noisy)
    ).numpy()
    return estimate


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
