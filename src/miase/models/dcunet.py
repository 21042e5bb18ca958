"""The deep complex U-Net (Choi et al. 2019) with a choice of bottlenecks, as one class."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from miase.config import ModelConfig
from miase.models.complex import (
    ComplexBlock,
    ComplexConv2d,
    ComplexConvTranspose2d,
    concatenated,
    eager_cpu,
)
from miase.models.convolution import Pair
from miase.models.grouped import GroupedBottleneck
from miase.models.masking import bounded_mask, masked, power_of
from miase.models.transformer import ComplexBottleneck, RealBottleneck, in_windows
from miase.stft import Stft


class Layer(NamedTuple):
    """One layer of the encoder: complex channels that it gives, kernel and stride along (freq, frame)."""

    channels: int
    kernel: Pair
    stride: Pair


class Architecture(NamedTuple):
    """What tells one U-Net from another: its encoder, which the decoder mirrors, and its bottleneck."""

    encoder: tuple[Layer, ...]
    bottleneck: type[RealBottleneck] | type[ComplexBottleneck] | None

    @property
    def frame_stride(self) -> int:
        """Frames after which the network does the same again."""
        return math.prod(layer.stride[1] for layer in self.encoder)


class DCUNet(nn.Module):
    """Noisy waveform in, enhanced waveform out: STFT, complex U-Net, bounded complex mask, inverse STFT.

    The network sees the spectrum divided by its own level, a power mean over ``config.level_seconds`` around
    each frame, and with magnitudes raised to ``config.compression``; the mask multiplies the spectrum itself.
    So the estimate scales with the input and has no delay.
    """

    def __init__(self, architecture: Architecture, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.norms_are_frozen = False
        self.activation_checkpointing = False
        self.stft = Stft(config.n_fft, config.hop_length)
        layers = architecture.encoder
        channels = [1, *(layer.channels for layer in layers)]
        self.encoder = nn.ModuleList(
            ComplexBlock(
                ComplexConv2d(channels[i], layer.channels, layer.kernel, layer.stride), layer.channels
            )
            for i, layer in enumerate(layers)
        )
        self.bottleneck = (
            architecture.bottleneck(channels[-1], config.n_blocks) if architecture.bottleneck else None
        )
        self.decoder = nn.ModuleList()
        for i in range(len(layers) - 1, 0, -1):
            skipped = 0 if i == len(layers) - 1 else channels[i + 1]
            conv = ComplexConvTranspose2d(
                channels[i + 1] + skipped, channels[i], layers[i].kernel, layers[i].stride
            )
            self.decoder.append(ComplexBlock(conv, channels[i]))
        self.mask_out = ComplexConvTranspose2d(2 * channels[1], 1, layers[0].kernel, layers[0].stride)
        # The untrained mask is close to tanh(1), so training by denoising twice starts from the recording
        # itself.
        nn.init.zeros_(self.mask_out.bias)
        self.mask_out.bias.data[0] = 1.0
        self.frame_stride = architecture.frame_stride

    def train(self, mode: bool = True) -> "DCUNet":
        """Training or evaluation mode; with ``norms_are_frozen`` the batch norms stay in the latter."""
        super().train(mode)
        if self.norms_are_frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, noisy: Tensor) -> Tensor:
        """(batch, time) -> (batch, time), for any time of one sample up."""
        spectrum = self.stft.analyse(noisy)
        estimate = masked(self._output(spectrum), spectrum, self.config.mask_exponent)
        return self.stft.synthesise(estimate, noisy.shape[-1])

    def mask(self, spectrum: Tensor) -> Tensor:
        """Complex ratio mask, (batch, freq, frame, 2) -> (batch, freq, frame, 2)."""
        output = self._output(spectrum).float().permute(0, 3, 2, 1)
        return bounded_mask(output, self.config.mask_exponent)

    def _output(self, spectrum: Tensor) -> Tensor:
        """What the mask is made of, (batch, freq, frame, 2) -> (batch, 2, frame, freq)."""
        x = self.features(spectrum).permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)
        sizes, skipped = [], []
        for block in self.encoder:
            sizes.append((x.shape[2], x.shape[3]))
            x = self._through(block, x)
            skipped.append(x)
        if self.bottleneck is not None:
            bottleneck = partial(self._through, self._bottleneck)
            x = in_windows(bottleneck, x.transpose(2, 3), self.config.window_frames // self.frame_stride)
            x = x.transpose(2, 3)
            x = x.contiguous(memory_format=torch.channels_last)  # which makes the decoder's layers faster
        skipped.pop()  # the bottleneck had it
        for i, block in enumerate(self.decoder):
            x = self._through(block, concatenated(x, skipped.pop()) if i else x, sizes.pop())
        result: Tensor = self.mask_out(x, sizes.pop(), *skipped)
        return result

    def _bottleneck(self, x: Tensor) -> Tensor:
        """The bottleneck, on a CPU with its parts side by side, and in float32, in which they are faster."""
        assert self.bottleneck is not None
        if not eager_cpu(x):
            y: Tensor = self.bottleneck(x)
            return y
        rounded = torch.is_autocast_enabled("cpu")
        with torch.autocast("cpu", enabled=False):
            rows = x.float().permute(0, 3, 2, 1)
            grouped = GroupedBottleneck(self.bottleneck, rounded=rounded)
            parts = grouped(rows.view(*rows.shape[:-1], -1, 2).movedim(-1, 0))
            return parts.movedim(0, -1).flatten(-2).permute(0, 3, 2, 1)

    def _through(self, block: Callable[..., Tensor], x: Tensor, *size: Pair) -> Tensor:
        """A block's output; ``activation_checkpointing`` computes its inside anew on the way back."""
        if self.activation_checkpointing and torch.is_grad_enabled():

            def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
                return nullcontext(), _with_still_statistics(block)

            result: Tensor = checkpoint(
                block, x, *size, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
            )
            return result
        y: Tensor = block(x, *size)
        return y

    def features(self, spectrum: Tensor) -> Tensor:
        """The spectrum as the network sees it: its level taken out, its magnitudes compressed."""
        power = power_of(spectrum)
        reach = self.level_reach
        level = F.avg_pool1d(
            power.mean(1, keepdim=True), 2 * reach + 1, stride=1, padding=reach, count_include_pad=False
        )
        return spectrum * self.level_gain(power, level).unsqueeze(-1)

    @property
    def level_reach(self) -> int:
        """Frames on each side of a frame over which its level is measured."""
        return round(self.config.level_seconds / 2 * self.config.sample_rate / self.config.hop_length)

    def level_gain(self, power: Tensor, level: Tensor) -> Tensor:
        """What takes the level out of a spectrum and compresses it; ``level`` is broadcast over ``power``."""
        level = level + 1e-12
        if self.config.compression == 1:
            return level.rsqrt()
        exponent = (self.config.compression - 1) / 2
        return (power / level + 1e-6) ** exponent * level.rsqrt()


@contextmanager
def _with_still_statistics(block: Callable[..., Tensor]) -> Iterator[None]:
    """Within it, batch norms that learn leave their running statistics as they are.

    A momentum of 0 does so, rather than having none: the way back must find the tensors of the first time.
    """
    modules = block.modules() if isinstance(block, nn.Module) else ()
    norms = [m for m in modules if isinstance(m, nn.BatchNorm2d) and m.training]
    before = [(norm.momentum, copy.deepcopy(norm.num_batches_tracked)) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, n_batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, n_batches
