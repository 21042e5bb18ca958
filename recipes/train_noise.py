"""A folder of links to the noise recordings of the train split of others.

python recipes/train_noise.py OUT NOISE...
"""

import sys
from pathlib import Path

from halves import link

from miase.sources import choose_noise


def main(out: Path, *folders: Path) -> None:
    """Link each file below the name of its folder; the folders of the classes are kept."""
    for folder in folders:
        for recordings in choose_noise((folder.resolve(),), "train", by_class=False).values():
            for file in (file for files in recordings.values() for file in files):
                link(file.path, out / folder.name / file.path.relative_to(folder.resolve()))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
