"""Enhance the bundled example with the packaged model, print scores and draw a picture.

python examples/demo.py [--out DIR]
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from miase.audio import load
from miase.cli import run
from miase.metrics import score

HERE = Path(__file__).parent
METRICS = ("pesq_wb", "stoi", "si_sdr")


def main() -> None:
    """Enhance, score and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"))
    out = parser.parse_args().out
    enhanced_path = out / "enhanced.flac"
    code = run(["enhance", str(HERE / "noisy.flac"), "-o", str(enhanced_path), "--overwrite", "-q"])
    if code:
        raise SystemExit(code)
    noisy, sample_rate = load(HERE / "noisy.flac")
    clean, _ = load(HERE / "clean.flac")
    enhanced, _ = load(enhanced_path)
    print(f"{'':10}{'PESQ-WB':>10}{'STOI':>10}{'SI-SDR':>12}")
    for name, estimate in (("noisy", noisy), ("enhanced", enhanced)):
        values = score(estimate[0], clean[0], sample_rate, METRICS)
        print(f"{name:10}{values['pesq_wb']:10.2f}{values['stoi']:10.3f}{values['si_sdr']:9.2f} dB")
    picture = out / "before_after.png"
    draw(noisy[0], enhanced[0], sample_rate, picture)
    print(f"sound: {enhanced_path}\npicture: {picture}")


def draw(noisy: np.ndarray, enhanced: np.ndarray, sample_rate: int, path: Path) -> None:
    """Spectrograms of both, one above the other, on one colour scale."""
    figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    for axis, samples, title in zip(axes, (noisy, enhanced), ("noisy", "enhanced"), strict=True):
        dithered = samples + 1e-6 * np.random.default_rng(0).standard_normal(samples.size)
        *_, image = axis.specgram(
            dithered, NFFT=512, Fs=sample_rate, noverlap=384, cmap="magma", vmin=-120, vmax=-40
        )
        axis.set(title=title, ylabel="frequency in Hz")
    axes[-1].set_xlabel("time in s")
    figure.colorbar(image, ax=axes, label="power density in dB/Hz")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
