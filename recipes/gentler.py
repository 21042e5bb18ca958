"""A model that takes less away where it is in doubt: its mask's magnitude to a power below 1.

    python recipes/gentler.py START OUT EXPONENT

A network that learns from its own estimates learns to take away the speech that these lack, too, and so with
each round a little more. docs/experiments.md, 32.
"""

import dataclasses
import sys
from pathlib import Path

from miase.checkpoint import load_pretrained, save_pretrained
from miase.models import build_model
from miase.registry import resolve


def main(start: str, out: str, exponent: str) -> None:
    """Write the model."""
    model = load_pretrained(resolve(start))
    gentler = build_model(dataclasses.replace(model.config, mask_exponent=float(exponent)))
    gentler.load_state_dict(model.state_dict())
    save_pretrained(gentler, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
