"""A trained U-Net for inference: norms folded into the convolutions, frames as they come, nothing done twice.

`FusedNetwork` holds the weights; each `MaskStream` of it takes the frames of one signal in pieces of any size
and gives the masks that `DCUNet` would give for the whole signal. Every layer keeps the few frames that its
next output needs, so a long signal costs what its frames cost, in constant memory.

Frames stand first, channels last: (frame, freq, channel), which the convolutions take as they are.
"""

import copy

import torch
from torch import Tensor

from miase.models.complex import ComplexBlock
from miase.models.dcunet import DCUNet
from miase.models.folding import fold
from miase.models.grouped import GroupedBottleneck
from miase.models.layers import (
    Convolution,
    Layer,
    MaskOut,
    Pieces,
    Transposed,
    Windows,
    forked,
    noted,
    through,
)

_PIECE = 1 << 17  # values of a spectrum that are best given at once; measured by benchmarks/speed.py
# glibc gives back, and must ask for again, what is larger than the largest block that was freed so far, which
# counts up to 32 MiB: one such block, never written to, saves a tenth of the time.
_LARGEST_KEPT = 33_500_000


class FusedNetwork:
    """The weights of a network in evaluation mode, prepared once; later changes to it are not seen.

    Args:
        model: any network of ours.
        dtype: of the convolutions and what lies between them; the bottleneck stays in float32, whose norms
            and recurrences bfloat16 would harm for little time.
    """

    def __init__(self, model: DCUNet, dtype: torch.dtype = torch.float32) -> None:
        torch.empty(_LARGEST_KEPT, dtype=torch.uint8)
        with torch.inference_mode():
            self.encoder = [fold(block, 0, dtype) for block in _complex_blocks(model.encoder)]
            # Channels that skip connections bring to each layer of the decoder.
            self.skipped = [0, *(layer.n_channels for layer in self.encoder[-2::-1])]
            blocks = zip(_complex_blocks(model.decoder), self.skipped, strict=False)
            self.decoder = [fold(block, n_skipped // 2, dtype) for block, n_skipped in blocks]
            self.mask_out = fold(model.mask_out, self.skipped[-1] // 2, dtype)
            self.bottleneck = GroupedBottleneck(model.bottleneck) if model.bottleneck is not None else None
        self.n_freq = model.config.n_fft // 2 + 1
        self.frame_stride = model.frame_stride
        self.window = model.config.window_frames // model.frame_stride
        # Frames that are best given at once, of which each layer takes so many that they stay in the caches.
        self.piece = max(2, round(_PIECE / (self.n_freq * self.frame_stride))) * self.frame_stride

    def stream(self, n_windows: int = 1) -> "MaskStream":
        """A new signal, of which the bottleneck takes ``n_windows`` windows at once."""
        return MaskStream(self, n_windows)

    @property
    def streamable(self) -> bool:
        """Whether outputs are complete before the signal ends."""
        return self.bottleneck is None or self.window > 0

    def last_needed(self, frame: int, n_windows: int = 1) -> int:
        """The last frame that must be there before the output of `frame` is given."""
        for weights in (self.mask_out, *self.decoder[::-1]):
            frame = (frame + weights.padding[0]) // weights.stride[0]
        if self.bottleneck is not None:
            window = n_windows * self.window
            frame = (frame // window + 1) * window - 1
        for weights in self.encoder[::-1]:
            frame = frame * weights.stride[0] - weights.padding[0] + weights.kernel[0] - 1
        return frame


def _complex_blocks(blocks: torch.nn.ModuleList) -> list[ComplexBlock]:
    return [block for block in blocks if isinstance(block, ComplexBlock)]


class MaskStream:
    """The network on one signal; see `FusedNetwork.stream`."""

    def __init__(self, network: FusedNetwork, n_windows: int = 1) -> None:
        n_freq, n_channels = [network.n_freq], [2]
        for weights in network.encoder:
            n_freq.append(-(-n_freq[-1] // weights.stride[1]))
            n_channels.append(weights.n_channels)
        self._encoder = [Convolution(*row) for row in zip(network.encoder, n_freq, n_channels, strict=False)]
        self._bottleneck = (
            Windows(network.bottleneck, network.window, n_windows, n_freq[-1], network.encoder[-1])
            if network.bottleneck is not None
            else None
        )
        n_freq.reverse()
        n_channels = [n_channels[-1], *(weights.n_channels for weights in network.decoder)]
        rows = zip(network.decoder, n_freq, n_freq[1:], n_channels, network.skipped, strict=False)
        last = network.mask_out, n_freq[-2], n_freq[-1], n_channels[-1], network.skipped[-1]
        self._decoder: list[Layer] = [*(Transposed(*row) for row in rows), MaskOut(*last)]

    def feed(self, frames: Tensor, *, last: bool = False) -> Tensor:
        """Take the next frames and give the outputs that are complete.

        Args:
            frames: features, (frame, freq, 2); there may be none.
            last: the signal ends with them; nothing may follow.

        Returns:
            The network's output before it is bounded, (2, frame, freq), with no, fewer or more frames.
        """
        with torch.inference_mode():
            pieces: Pieces = iter([((frames,), True)])
            for i, convolution in enumerate(self._encoder):
                pieces = through(convolution, pieces, convolution.waiting, activate=i > 0, last=last)
                if i < len(self._encoder) - 1:
                    pieces = noted(pieces, self._decoder[-1 - i].waiting)
            activate = True
            if (bottleneck := self._bottleneck) is not None:
                pieces = through(bottleneck, pieces, bottleneck.waiting, activate=activate, last=last)
                activate = False
            for layer, mirrored in zip(self._decoder, reversed(self._encoder), strict=True):
                pieces = through(layer, pieces, mirrored.waiting, activate=activate, last=last)
                activate = True
            return torch.cat([output for (output,), _ in pieces], dim=1)

    def fork(self) -> "MaskStream":
        """The same state for another course of the signal."""
        other = copy.copy(self)
        other._encoder = [forked(layer) for layer in self._encoder]
        other._decoder = [forked(layer) for layer in self._decoder]
        other._bottleneck = forked(self._bottleneck) if self._bottleneck is not None else None
        return other
