"""Weights with their configuration on disk. Loading never runs code from a file."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from miase.config import ModelConfig
from miase.config_file import from_dict, to_dict
from miase.errors import ConfigError, WeightsError
from miase.models import DCUNet, build_model

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_pretrained(model: DCUNet, folder: Path, card: str = "", *, half: bool = False) -> None:
    """Write ``config.json``, ``model.safetensors`` and the card ``README.md``.

    Args:
        model: any network of ours.
        folder: made when missing.
        card: text of the card; none is written when it is empty.
        half: store the weights in 16 bits, which halves their size; the norms' statistics keep 32, as their
            range may be wider.
    """
    state = {
        name: (value.half() if half and value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    with written_whole(folder / WEIGHTS_NAME) as path:
        save_file(state, path)
    config = {"model": to_dict(model.config), "sha256": sha256(folder / WEIGHTS_NAME)}
    with written_whole(folder / CONFIG_NAME) as path:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if card:
        with written_whole(folder / CARD_NAME) as path:
            path.write_text(card, encoding="utf-8")


def read_config(folder: Path) -> tuple[ModelConfig, str]:
    """The network's configuration and the SHA-256 of its weights.

    Raises:
        WeightsError: the folder holds no readable ``config.json``.
    """
    try:
        values = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        return from_dict(ModelConfig, values["model"], f" of {folder / CONFIG_NAME}"), str(values["sha256"])
    except OSError as error:
        raise WeightsError(
            f"{folder} holds no model: {CONFIG_NAME} cannot be read ({error.strerror}); "
            f"name the model/ folder of a training run or a name from 'miase models list'"
        ) from error
    except KeyError as error:
        raise WeightsError(f"{folder / CONFIG_NAME} is damaged: {error} is missing") from error
    except (ValueError, TypeError, AttributeError, ConfigError) as error:
        raise WeightsError(f"{folder / CONFIG_NAME} is damaged: {error}") from error


def load_pretrained(folder: Path, *, verify: bool = True) -> DCUNet:
    """A network in evaluation mode from a folder that ``save_pretrained`` wrote.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
        verify: compare the SHA-256 of the weights with the one in ``config.json``.

    Raises:
        WeightsError: something is missing, damaged or does not fit.
    """
    config, expected = read_config(folder)
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise WeightsError(f"{path} is missing; copy the whole model folder again")
    try:
        if verify and sha256(path) != expected:
            raise WeightsError(
                f"{path} is damaged: its SHA-256 is not the one in {CONFIG_NAME}; copy the folder again"
            )
        model = build_model(config)
        state = {
            name: value.float() if value.is_floating_point() else value
            for name, value in load_file(path).items()
        }
        model.load_state_dict(state)
    except ConfigError as error:
        raise WeightsError(f"{folder / CONFIG_NAME} names an {error}") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged: {error}") from error
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not fit the network {config.name!r} that {CONFIG_NAME} names"
        ) from error
    return model.eval()


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write the state of a training run: tensors and plain values."""
    with written_whole(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Read the state of a training run; only tensors and plain values are accepted.

    Raises:
        WeightsError: the file is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise WeightsError(f"{path} is damaged; delete it to resume from the checkpoint before") from error
    return state


def read_card(folder: Path) -> str:
    """The text of a model's card.

    Raises:
        WeightsError: it has none.
    """
    try:
        return (folder / CARD_NAME).read_text(encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"{folder} holds no card ({CARD_NAME}: {error.strerror})") from error
