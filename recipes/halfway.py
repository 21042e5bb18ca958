"""Targets for a network's refinement: the recordings that seem cleanest, half-way to their estimates.

    python recipes/halfway.py NOISY ESTIMATES OUT [--snr-db 14] [--share 0.5] [--speech-share 0]

NOISY is a folder of recordings, ESTIMATES what `miase enhance NOISY -o ESTIMATES` made of them. A recording
whose energy of speech over noise seems to be more than --snr-db is written to OUT with --share of its noise
taken away. The noise that stays is not tied to the speech, and what the network took of the speech comes half
back: the two errors are each half as large as in the recording, and in the estimate. With --speech-share more
of the noise goes where the estimate leaves less of the power around a bin than that, up to all of it. No
clean speech is seen. docs/experiments.md, 12 and 29.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from miase.audio import load
from miase.first_pass import part_way
from miase.sounds import find_sounds
from miase.writing import SoundWriter


def main() -> None:
    """Parse the command, write the targets, say how many there are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("noisy", type=Path)
    parser.add_argument("estimates", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--snr-db", type=float, default=14.0, help="least estimated SNR of a recording")
    parser.add_argument("--share", type=float, default=0.5, help="of the noise that is taken away")
    parser.add_argument("--speech-share", type=float, default=0.0, help="see miase.first_pass.part_way")
    arguments = parser.parse_args()
    paths = find_sounds(arguments.noisy)
    n_written = 0
    for path in tqdm(paths, unit="file"):
        relative = path.relative_to(arguments.noisy)
        noisy, sample_rate = load(path)
        estimate, _ = load(arguments.estimates / relative)
        noise = noisy - estimate
        if estimated_snr_db(estimate, noise) > arguments.snr_db:
            parts = torch.from_numpy(noisy), torch.from_numpy(estimate)
            target = part_way(*parts, arguments.share, arguments.speech_share, sample_rate).numpy()
            with SoundWriter(arguments.out / relative, sample_rate, len(noisy), overwrite=True) as writer:
                writer.write(target)
            n_written += 1
    print(f"{n_written} of {len(paths)} recordings, in {arguments.out}")


def estimated_snr_db(estimate: np.ndarray, noise: np.ndarray) -> float:
    """Energy of the estimate over that of what was removed."""
    return float(10 * np.log10((np.square(estimate).sum() + 1e-12) / (np.square(noise).sum() + 1e-12)))


def estimated_snr_db_of(name: Path, noisy: Path, estimates: Path) -> float:
    """Likewise, of the recording that has this name in both folders."""
    recording, estimate = (load(folder / name)[0] for folder in (noisy, estimates))
    return estimated_snr_db(estimate, recording - estimate)


if __name__ == "__main__":
    main()
