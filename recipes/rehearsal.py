"""Recordings that come with the package, for `miase adapt` to mix the noise of others with.

    python recipes/rehearsal.py NOISY ESTIMATES TARGETS OUT [--seconds 4]

NOISY, ESTIMATES and TARGETS are folders of a round of `recipes/refine.sh`. Of each folder of TARGETS, a
speaker, a sixteenth of the recordings, one at least: those whose noise is faintest by the model's own
estimate. From the middle of each come --seconds, as Opus: every eighth to OUT/valid, where the models
before and after are compared, the others to OUT/train. They are noisy recordings with most of their noise
taken away; no clean speech is among them.
"""

import argparse
import math
from collections import defaultdict
from pathlib import Path

import soundfile as sf
from halfway import estimated_snr_db_of

from miase.audio import load
from miase.sounds import find_sounds

SPLITS = ("train", "valid")


def main() -> None:
    """Parse the command, choose, write, say how much there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("noisy", "estimates", "targets", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each recording, at most")
    arguments = parser.parse_args()
    by_speaker: dict[Path, list[tuple[float, Path]]] = defaultdict(list)
    for path in find_sounds(arguments.targets):
        relative = path.relative_to(arguments.targets)
        snr_db = estimated_snr_db_of(relative, arguments.noisy, arguments.estimates)
        by_speaker[path.parent].append((snr_db, path))
    for split in SPLITS:
        (arguments.out / split).mkdir(parents=True, exist_ok=True)
    seconds = 0.0
    chosen = [
        path
        for of_speaker in by_speaker.values()
        for _, path in sorted(of_speaker, reverse=True)[: math.ceil(len(of_speaker) / 16)]
    ]
    for number, path in enumerate(sorted(chosen)):
        samples, sample_rate = load(path)
        n = min(samples.shape[-1], round(arguments.seconds * sample_rate))
        start = (samples.shape[-1] - n) // 2
        excerpt = samples[0, start : start + n]
        path = arguments.out / SPLITS[number % 8 == 0] / f"{number:03d}.ogg"
        sf.write(path, excerpt, sample_rate, format="OGG", subtype="OPUS")
        seconds += n / sample_rate
    print(f"{len(chosen)} recordings, {seconds:.0f} s, in {arguments.out}")


if __name__ == "__main__":
    main()
