"""Speech enhancement that learns from noisy recordings alone."""

from typing import TYPE_CHECKING, Any

from miase.errors import (
    AudioError,
    ConfigError,
    CorpusError,
    EvaluationError,
    MiaseError,
    TrainingError,
    WeightsError,
)

if TYPE_CHECKING:
    from miase.config import EnhanceConfig
    from miase.enhance import Enhancer

__version__ = "0.1.0"

__all__ = [
    "AudioError",
    "ConfigError",
    "CorpusError",
    "EnhanceConfig",
    "Enhancer",
    "EvaluationError",
    "MiaseError",
    "TrainingError",
    "WeightsError",
]


def __getattr__(name: str) -> Any:
    # Imported when first used: torch takes seconds, and `miase --help` does not need it.
    if name == "Enhancer":
        from miase.enhance import Enhancer

        return Enhancer
    if name == "EnhanceConfig":
        from miase.config import EnhanceConfig

        return EnhanceConfig
    raise AttributeError(f"module 'miase' has no attribute {name!r}")
