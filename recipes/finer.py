"""The network dcunet10_ctstm_fine, begun with the weights of a dcunet10_ctstm as a mean of its shifts.

    python recipes/finer.py START OUT

Where the fourth layer of START skips every second frame, that of OUT skips none, so that what comes after it
gets both of the courses that START would take with a sound that came 8 frames later. The fifth layer's
kernel keeps its reach by zeros between its taps, and the mirrored layer of the decoder, halved, gives the
mean of both. The transformer attends over both at once. docs/experiments.md, 31.
"""

import argparse
import dataclasses
from pathlib import Path

from torch import Tensor

from miase.checkpoint import load_pretrained, save_pretrained
from miase.models import build_model
from miase.registry import resolve

FIFTH, MIRRORED_FIFTH, MIRRORED_FOURTH = "encoder.4.conv.", "decoder.0.conv.", "decoder.1.conv."


def main() -> None:
    """Parse the command, write the model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("start", help="name or folder of a model")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    start = load_pretrained(resolve(arguments.start))
    fine = build_model(dataclasses.replace(start.config, name="dcunet10_ctstm_fine"))
    fine.load_state_dict({name: finer(name, value) for name, value in start.state_dict().items()})
    save_pretrained(fine, arguments.out)


def finer(name: str, value: Tensor) -> Tensor:
    """What the parameter ``name`` of value ``value`` becomes."""
    if not name.endswith(("weight_real", "weight_imag")):
        return value
    if name.startswith((FIFTH, MIRRORED_FIFTH)):
        spread = value.new_zeros(*value.shape[:-1], 2 * value.shape[-1] - 1)
        spread[..., ::2] = value
        return spread
    return value / 2 if name.startswith(MIRRORED_FOURTH) else value


if __name__ == "__main__":
    main()
