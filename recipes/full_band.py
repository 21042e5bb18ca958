"""A model at three times the rate of another, which does in the lower third of its band what that one does.

    python recipes/full_band.py START OUT [--times 3]

Frames of as many seconds have three times as many frequencies, and the layers, which go along frequency as
along time, take them as they are. Where the sound ends with the other model's band, the mean power over its
frequencies is a third, which the first layer's weights make up for. What to do above has to be learned.
"""

import argparse
from pathlib import Path

from rebuilt import rebuilt

from miase.checkpoint import load_pretrained, save_pretrained
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
    times: int = arguments.times
    start = load_pretrained(resolve(arguments.start))
    rates = ("sample_rate", "n_fft", "hop_length")
    wide = rebuilt(start, **{name: times * getattr(start.config, name) for name in rates})
    first = wide.encoder[0].conv
    first.weight_real.data /= times**0.5
    first.weight_imag.data /= times**0.5
    save_pretrained(wide, arguments.out)


if __name__ == "__main__":
    main()
