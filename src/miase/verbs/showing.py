"""Verbs that show what is there: `doctor` and `models`."""

import sys


def doctor() -> int:
    """Show versions, devices, codecs and weights."""
    from miase.doctor import examine

    healthy = True
    for check in examine():
        healthy = healthy and check.ok
        print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<16}  {check.found}")
    return 0 if healthy else 1


def models_list() -> int:
    """List the packaged models."""
    from miase.checkpoint import read_config
    from miase.errors import WeightsError
    from miase.registry import available, resolve

    failed = False
    for name in available():
        try:
            config, _ = read_config(resolve(name))
            print(f"{name:<16}  {config.name:<16}  {config.sample_rate} Hz")
        except WeightsError as error:
            failed = True
            print(f"miase: {error}", file=sys.stderr)
    return 1 if failed else 0


def models_info(name: str) -> int:
    """Show a model's card.

    Parameters
    ----------
    name: str
        a packaged model, or the folder of one.
    """
    from miase.checkpoint import read_card
    from miase.registry import resolve

    print(read_card(resolve(name)))
    return 0


def models_verify() -> int:
    """Compare the weights of the packaged models with their SHA-256."""
    from miase.checkpoint import load_pretrained
    from miase.errors import WeightsError
    from miase.registry import available, resolve

    failed = False
    for name in available():
        try:
            load_pretrained(resolve(name))
            print(f"ok    {name}")
        except WeightsError as error:
            failed = True
            print(f"FAIL  {name}: {error}")
    return 1 if failed else 0
