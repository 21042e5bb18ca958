"""A model at three times the rate of another, which does in the lower third of its band what that one does.

    python recipes/full_band.py START OUT [--times 3]

The weights are the same, in a network of more frequencies (`miase.models.rebuilt.widened`); `miase enhance
--high-band hear` hears by them, too, what lies above the band of any model.
"""

import argparse
from pathlib import Path

from miase.checkpoint import load_pretrained, save_pretrained
from miase.models.rebuilt import widened
from miase.registry import resolve


def main() -> None:
    """Parse the command, write the model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("start", help="name or folder of a model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--times", type=int, default=3, help="the new rate over the old one")
    arguments = parser.parse_args()
    save_pretrained(widened(load_pretrained(resolve(arguments.start)), arguments.times), arguments.out)


if __name__ == "__main__":
    main()
