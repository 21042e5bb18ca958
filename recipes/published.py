"""A recipe for any row of the published tables, from the small table published.toml.

    python recipes/published.py --list
    python recipes/published.py white iddp dcunet10_ctstm --rate 48000 > white_iddp.toml
    miase train white/train -o run --config white_iddp.toml

    python recipes/published.py --plan CORPORA --rate 16000 > plan.toml
    miase compare plan.toml -o comparison

recipes/published_corpora.sh makes the corpora; --noise names the folder of noise recordings, one folder a
class, that denoising twice adds. Only what differs from miase's own settings is written.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli_w

from miase.config_file import read_toml

TABLE = read_toml(Path(__file__).with_name("published.toml"))


def rows() -> Iterator[tuple[str, str, str, int]]:
    """Every (noise, objective, network, rate)."""
    rates = [int(rate) for rate in TABLE["rates"]]
    yield from itertools.product(TABLE["noises"], TABLE["objectives"], TABLE["networks"], rates)


def added(noise: str, folder: str) -> list[str]:
    """Sources of the noise that a self-supervised objective adds; mixed draws from all classes."""
    if noise == "white":
        return list(TABLE["added"]["white"])
    name = "" if noise == "mixed" else noise
    return [source.format(NOISE=folder, noise=name).rstrip("/") for source in TABLE["added"]["others"]]


def recipe(noise: str, objective: str, network: str, rate: int, folder: str) -> dict[str, Any]:
    """The settings of one row, as `miase train --config` reads them."""
    settings = TABLE["rates"][str(rate)]
    return {
        "model": {"name": network} | settings["model"],
        "data": settings["data"],
        "objective": {"name": objective, "noise": added(noise, folder)},
        "training": TABLE["training"],
    }


def plan(corpora: str, rate: int, folder: str) -> dict[str, Any]:
    """All rows at one rate as a plan of `miase compare`; CORPORA/NOISE/train and CORPORA/NOISE/test."""
    tables = {
        noise: {
            "noisy": f"{corpora}/{noise}/train",
            "test": f"{corpora}/{noise}/test",
            "noise": added(noise, folder),
        }
        for noise in TABLE["noises"]
    }
    shared = {key: TABLE[key] for key in ("objectives", "networks", "training")}
    return shared | TABLE["rates"][str(rate)] | {"corpora": tables}


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("row", nargs="*", metavar="NOISE OBJECTIVE NETWORK", help="see --list")
    parser.add_argument("--rate", type=int, default=16000, choices=[int(rate) for rate in TABLE["rates"]])
    parser.add_argument("--noise", default="noise", help="folder of noise recordings, one folder a class")
    parser.add_argument("--plan", metavar="CORPORA", help="print a plan of all rows at the rate")
    parser.add_argument("--list", action="store_true", help="print all rows")
    arguments = parser.parse_args()
    if arguments.list:
        for row in rows():
            print(*row)
    elif arguments.plan:
        print(tomli_w.dumps(plan(arguments.plan, arguments.rate, arguments.noise)), end="")
    elif (*arguments.row, arguments.rate) in set(rows()):
        print(tomli_w.dumps(recipe(*arguments.row, arguments.rate, arguments.noise)), end="")
    else:
        sys.exit(f"there is no row {' '.join(arguments.row) or '(none)'}; --list shows all")


if __name__ == "__main__":
    main()
