"""The networks by name."""

from collections.abc import Mapping

from miase.config import ModelConfig
from miase.errors import ConfigError
from miase.models.dcunet import Architecture, DCUNet, Layer
from miase.models.transformer import ComplexBottleneck, RealBottleneck

__all__ = ["MODELS", "Architecture", "DCUNet", "Layer", "build_model"]

_STRIDES_10 = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 1))
_SQUARE = (3, 3)


def _ten_layers(*channels: int) -> tuple[Layer, ...]:
    return tuple(Layer(c, _SQUARE, stride) for c, stride in zip(channels, _STRIDES_10, strict=True))


# Strides of 8 frames in all instead of 16; the last layer, which no longer skips, hears as far as before.
_FINE_LAYERS = (
    Layer(32, _SQUARE, (2, 2)),
    Layer(64, _SQUARE, (2, 2)),
    Layer(64, _SQUARE, (2, 2)),
    Layer(64, _SQUARE, (2, 1)),
    Layer(64, (3, 5), (2, 1)),
)

_TWENTY_LAYERS = (
    Layer(32, (7, 1), (1, 1)),
    Layer(32, (1, 7), (1, 1)),
    Layer(64, (7, 5), (2, 2)),
    Layer(64, (7, 5), (2, 1)),
    Layer(64, (5, 3), (2, 2)),
    Layer(64, (5, 3), (2, 1)),
    Layer(64, (5, 3), (2, 2)),
    Layer(64, (5, 3), (2, 1)),
    Layer(64, (5, 3), (2, 2)),
    Layer(90, (5, 3), (2, 1)),
)

MODELS: Mapping[str, Architecture] = {
    "dcunet10": Architecture(_ten_layers(45, 90, 90, 90, 90), None),
    "dcunet10_rtstm": Architecture(_ten_layers(32, 64, 64, 64, 64), RealBottleneck),
    "dcunet10_ctstm": Architecture(_ten_layers(32, 64, 64, 64, 64), ComplexBottleneck),
    "dcunet10_ctstm_fine": Architecture(_FINE_LAYERS, ComplexBottleneck),
    "dcunet20": Architecture(_TWENTY_LAYERS, None),
}


def build_model(config: ModelConfig) -> DCUNet:
    """A network with fresh weights.

    Raises:
        ConfigError: no network has this name.
    """
    if config.name not in MODELS:
        raise ConfigError(f"unknown network {config.name!r}; the networks are {', '.join(MODELS)}")
    return DCUNet(MODELS[config.name], config)
