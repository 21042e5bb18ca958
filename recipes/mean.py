"""The mean of the weights of two models, of which the second went on learning from the first.

python recipes/mean.py FIRST SECOND OUT [SHARE]

SHARE of the way from the first to the second, 0.5 unless it is given.
"""

import sys
from pathlib import Path

from miase.adapt import blended
from miase.checkpoint import load_pretrained, save_pretrained
from miase.registry import resolve


def main(first: str, second: str, out: str, share: str = "0.5") -> None:
    """Write the model."""
    models = [load_pretrained(resolve(name)) for name in (first, second)]
    save_pretrained(blended(*models, float(share)), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
