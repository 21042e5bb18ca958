"""How far the SNR that `miase audit` estimates lies from the true one, on folders that `miase corpus` made.

python benchmarks/audit_snr.py CORPUS...
"""

import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from miase.audio import load
from miase.judge import RATE
from miase.manifest import read_manifest
from miase.pauses import estimated_snr


def main(folders: list[Path]) -> None:
    """Print a row of Markdown for each corpus and one for all of them."""
    rows = [
        (folder.name, item.snr_db, estimated_snr(load(folder / item.noisy, RATE)[0][0], RATE))
        for folder in folders
        for item in read_manifest(folder)
    ]
    print("| corpus | files | rank correlation | bias in dB | standard deviation in dB |")
    print("|---|---|---|---|---|")
    for name in (*dict.fromkeys(name for name, _, _ in rows), "all"):
        true, estimated = np.array([row[1:] for row in rows if name in (row[0], "all")]).T
        error = estimated - true
        rank = spearmanr(true, estimated).statistic
        print(f"| {name} | {len(true)} | {rank:.2f} | {error.mean():+.1f} | {error.std(ddof=1):.1f} |")


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
