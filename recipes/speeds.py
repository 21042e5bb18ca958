"""Recordings at other speeds, as other voices would have them, beside those that are there.

python recipes/speeds.py FOLDER SPEED ...

Each sound file of FOLDER gets a neighbour for each SPEED, named STEM-SPEED; 1.1 is higher and shorter.
"""

import sys
from pathlib import Path

from miase.audio import load
from miase.resampling import resample
from miase.sounds import find_sounds
from miase.writing import save


def main(folder: Path, speeds: list[float]) -> None:
    """Write the neighbours."""
    for path in find_sounds(folder):
        samples, sample_rate = load(path)
        for speed in speeds:
            faster = resample(samples, round(speed * sample_rate), sample_rate)
            save(path.with_stem(f"{path.stem}-{speed:g}"), faster, sample_rate)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [float(speed) for speed in sys.argv[2:]])
