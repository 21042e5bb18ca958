"""Links to the takes of each utterance that seem to hold the least noise.

    python recipes/cleanest_takes.py NOISY ESTIMATES OUT [--within CORPUS] [--takes 1] [--most 0] ...

NOISY is a folder of recordings as `miase corpus mix` writes them, or a folder of several such folders: takes
of an utterance have one name, but for "-copy2", in folders with the name of the speaker. ESTIMATES is what
`miase enhance NOISY -o ESTIMATES` made of them. Of each utterance the --takes with the highest energy of
estimate over noise are linked, those below --snr-db left out; with --most, of each speaker no more than so
many utterances; with --within, only of what lies in folders of this name. No clean speech is seen.
docs/experiments.md, 39.
"""

import argparse
import re
from collections import defaultdict
from pathlib import Path

from halfway import estimated_snr_db_of
from halves import link

from miase.sounds import find_sounds


def main() -> None:
    """Parse the command, choose, link, say how many there are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("noisy", "estimates", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--within", help="name of a folder; nothing outside such folders is taken")
    parser.add_argument("--takes", type=int, default=1, help="of an utterance, at most")
    parser.add_argument("--most", type=int, default=0, help="utterances of a speaker; 0 for all")
    parser.add_argument("--snr-db", type=float, default=10.5, help="least estimated SNR of a take")
    arguments = parser.parse_args()
    takes: dict[str, dict[str, list[tuple[float, Path]]]] = defaultdict(lambda: defaultdict(list))
    for path in find_sounds(arguments.noisy):
        name = path.relative_to(arguments.noisy)
        if arguments.within and arguments.within not in name.parts[:-1]:
            continue
        snr_db = estimated_snr_db_of(name, arguments.noisy, arguments.estimates)
        if snr_db > arguments.snr_db:
            utterance = re.sub(r"-copy\d+$", "", path.stem)
            takes[path.parent.name][utterance].append((snr_db, path))
    n_linked = 0
    for utterances in takes.values():
        cleanest_first = sorted(utterances.values(), key=max, reverse=True)
        for of_utterance in cleanest_first[: arguments.most or None]:
            for _, path in sorted(of_utterance, reverse=True)[: arguments.takes]:
                link(path.resolve(), arguments.out / path.relative_to(arguments.noisy))
                n_linked += 1
    print(f"{n_linked} takes of {len(takes)} speakers, in {arguments.out}")


if __name__ == "__main__":
    main()
