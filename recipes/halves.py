"""Two folders of links to the noise recordings of the train split, half of the recordings each.

    python recipes/halves.py URBANSOUND8K OUT

OUT/heard is for mixing noisy recordings, OUT/added for what self-supervised objectives add: a user has
recordings of noise, but not those that are in the noisy recordings.
"""

import sys
from pathlib import Path

from miase.sources import choose_noise, stable_hash


def main(noise: Path, out: Path) -> None:
    """Link each file by the half of its recording; the folders of the classes are kept."""
    for noise_class, recordings in choose_noise((noise.resolve(),), "train", by_class=True).items():
        for source, files in recordings.items():
            half = "heard" if stable_hash("half", source) % 2 == 0 else "added"
            for file in files:
                link(file.path, out / half / noise_class / file.path.name)


def link(file: Path, name: Path) -> None:
    """A link to a file, and the folders above it; one that is there stays."""
    name.parent.mkdir(parents=True, exist_ok=True)
    if not name.is_symlink():
        name.symlink_to(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
