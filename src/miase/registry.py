"""Named weights that come with the package, and how a name or folder becomes a model."""

from importlib.resources import files
from pathlib import Path

from miase.errors import WeightsError

DEFAULT = "default"
_WEIGHTS = Path(str(files("miase"))) / "weights"


def available() -> list[str]:
    """Names of the packaged models, the default first."""
    names = [path.parent.name for path in _WEIGHTS.glob("*/config.json")]
    return sorted(names, key=lambda name: (name != DEFAULT, name))


def resolve(name_or_folder: str | Path) -> Path:
    """The folder of a packaged model, of a model on disk, or of the model of a training run.

    Raises:
        WeightsError: there is neither such a name nor such a folder.
    """
    if str(name_or_folder) in available():
        return _WEIGHTS / str(name_or_folder)
    folder = Path(name_or_folder)
    if not folder.is_dir():
        raise WeightsError(
            f"unknown model {str(name_or_folder)!r}; give the name of a packaged model "
            f"({', '.join(available()) or 'there is none'}) or a folder that holds config.json and "
            f"model.safetensors"
        )
    inner = folder / "model"
    return inner if (inner / "config.json").is_file() else folder
