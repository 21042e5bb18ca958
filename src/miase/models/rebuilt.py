"""The weights of a network in one of other settings, without any training."""

import dataclasses
from typing import Any

from miase.models import DCUNet, build_model


def rebuilt(model: DCUNet, **settings: Any) -> DCUNet:
    """The weights of a model in a network that differs from its own in these settings.

    Raises:
        ConfigError: there is no such network.
    """
    network = build_model(dataclasses.replace(model.config, **settings))
    network.load_state_dict(model.state_dict())
    return network


def widened(model: DCUNet, times: int) -> DCUNet:
    """A model at a multiple of its rate, which does in the lowest part of its band what ``model`` does.

    Frames of as many seconds have ``times`` as many frequencies, and the layers, which go along frequency as
    along time, take them as they are. Where the sound ends with the narrower band, the mean power over the
    frequencies is a share of 1 / ``times``, which the first layer's weights make up for.

    Args:
        model: any network.
        times: the new rate over the old one.
    """
    rates = ("sample_rate", "n_fft", "hop_length")
    wide = rebuilt(model, **{name: times * getattr(model.config, name) for name in rates})
    for name, value in wide.encoder[0].named_parameters():
        if name.startswith("conv.weight"):
            value.data /= times**0.5
    return wide
