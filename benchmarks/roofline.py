"""What a network must compute and move for a second of sound, and how fast this machine could do that."""

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from miase.config import ModelConfig
from miase.models import MODELS

WIDTH = 32  # of the transformers


@dataclass(frozen=True)
class Part:
    """A part of a network.

    Attributes:
        name: which.
        macs: multiply-adds of real numbers for a second of sound.
        n_bytes: what it reads and writes for a second of sound, weights not counted.
    """

    name: str
    macs: float
    n_bytes: float


def parts_of(config: ModelConfig) -> list[Part]:
    """The convolutions and the bottleneck of a network, for one second of sound."""
    architecture = MODELS[config.name]
    frames, n_freq = config.sample_rate / config.hop_length, config.n_fft // 2 + 1
    sizes, channels = [(n_freq, frames)], [2]
    for layer in architecture.encoder:
        freq, time_ = sizes[-1]
        sizes.append((-(-freq // layer.stride[0]), time_ / layer.stride[1]))
        channels.append(2 * layer.channels)
    values = [freq * time_ * width for (freq, time_), width in zip(sizes, channels, strict=True)]
    positions = [freq * time_ for freq, time_ in sizes]
    parts = []
    for i, layer in enumerate(architecture.encoder):
        taps = layer.kernel[0] * layer.kernel[1]
        macs = channels[i] * channels[i + 1] * taps * positions[i + 1]
        parts.append(Part(f"encoder {i + 1}", macs, 4 * (values[i] + values[i + 1])))
    if architecture.bottleneck is not None:
        groups = 2 if "ctstm" in config.name else 1
        per_layer = WIDTH * (4 * WIDTH + 2 * 6 * WIDTH + 2 * WIDTH)  # projections, both GRUs, the way back
        per_position = 2 * config.n_blocks * per_layer + channels[-1] * WIDTH
        macs = 2 * groups * positions[-1] * per_position
        moved = 2 * groups * positions[-1] * 2 * config.n_blocks * 4 * 20 * WIDTH
        parts.append(Part("bottleneck", macs, moved))
    last = len(architecture.encoder)
    for i in range(last, 0, -1):
        layer = architecture.encoder[i - 1]
        given = channels[i] * (1 if i == last else 2)
        macs = given * channels[i - 1] * layer.kernel[0] * layer.kernel[1] * positions[i]
        parts.append(Part(f"decoder {last - i + 1}", macs, 4 * (given * positions[i] + values[i - 1])))
    return parts


def measure_ceiling() -> dict[str, float]:
    """Multiply-adds and bytes a second that this machine reaches, with the threads that torch has now."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    product = 2048**3 / _best(lambda: a @ b)
    x = torch.randn(1, 256, 64, 64).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        convolution = 256 * 256 * 9 * 62 * 62 / _best(lambda: F.conv2d(x, weight))
    source = torch.randn(1 << 26)
    target = torch.empty_like(source)
    copied = 2 * 4 * source.numel() / _best(lambda: target.copy_(source))
    return {
        "matrix_product_macs": product,
        "convolution_macs": convolution,
        "macs": max(product, convolution),
        "bytes": copied,
    }


def floor_seconds(parts: list[Part], ceiling: dict[str, float]) -> float:
    """Seconds that a second of sound takes at least, each part as fast as arithmetic or memory allows."""
    return sum(max(part.macs / ceiling["macs"], part.n_bytes / ceiling["bytes"]) for part in parts)


def _best(function, repeats: int = 7) -> float:
    function()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)
