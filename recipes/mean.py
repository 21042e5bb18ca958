"""The mean of the weights of two models, of which the second went on learning from the first.

python recipes/mean.py FIRST SECOND OUT
"""

import sys
from pathlib import Path

from miase.adapt import blended
from miase.checkpoint import load_pretrained, save_pretrained
from miase.registry import resolve


def main(first: str, second: str, out: str) -> None:
    """Write the model."""
    models = [load_pretrained(resolve(name)) for name in (first, second)]
    save_pretrained(blended(*models, 0.5), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
