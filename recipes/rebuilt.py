"""The weights of a model in a network of other settings.

    python recipes/rebuilt.py START OUT [--mask-exponent 0.9] [--n-fft 640 --hop-length 320] ...

A network that learns from its own estimates learns to take away the speech that these lack, too, and so with
each round a little more: its mask's magnitude to a power below 1 gives some of it back (docs/experiments.md,
32). Weights serve with frames of other lengths, too (34), and with longer windows of the transformer, which
then hears more of the recording at once (40).
"""

import argparse
from pathlib import Path

from miase.checkpoint import load_pretrained, save_pretrained
from miase.models.rebuilt import rebuilt
from miase.registry import resolve


def main() -> None:
    """Parse the command, write the model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("start", help="name or folder of a model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--mask-exponent", type=float)
    parser.add_argument("--n-fft", type=int)
    parser.add_argument("--hop-length", type=int)
    parser.add_argument("--window-frames", type=int)
    arguments = vars(parser.parse_args())
    start, out = arguments.pop("start"), arguments.pop("out")
    settings = {name: value for name, value in arguments.items() if value is not None}
    save_pretrained(rebuilt(load_pretrained(resolve(start)), **settings), out)


if __name__ == "__main__":
    main()
