"""The two-stage transformer, real and complex (Wang, He and Zhu 2021; Tu et al. 2025).

It attends along frequency within each frame, then along time within each frequency, several times over.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miase.models.complex import imag_part, interleave, real_part


class TransformerLayer(nn.Module):
    """Self-attention and a recurrent feed-forward part, each with a residual and layer norm.

    The feed-forward part is a bidirectional GRU, GELU and a projection back, as in TSTNN.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.feed_forward_out = nn.Linear(2 * width, width)
        self.feed_forward_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, sequence, width) -> (batch, sequence, width)."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.n_heads, width // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        x = self.attention_norm(x + self.attention_out(attended))
        recurrent, _ = self.gru(x)
        result: Tensor = self.feed_forward_norm(x + self.feed_forward_out(F.gelu(recurrent)))
        return result


class TwoStageBlock(nn.Module):
    """A transformer layer along frequency, then one along time, each with group norm and a residual."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.along_freq = TransformerLayer(width, n_heads)
        self.freq_norm = nn.GroupNorm(1, width)
        self.along_time = TransformerLayer(width, n_heads)
        self.time_norm = nn.GroupNorm(1, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, freq, frame) -> (batch, width, freq, frame)."""
        batch, width, n_freq, n_frames = x.shape
        rows = x.permute(0, 3, 2, 1).reshape(batch * n_frames, n_freq, width)
        rows = self.along_freq(rows).view(batch, n_frames, n_freq, width)
        x = x + self.freq_norm(rows.permute(0, 3, 2, 1))
        rows = x.permute(0, 2, 3, 1).reshape(batch * n_freq, n_frames, width)
        rows = self.along_time(rows).view(batch, n_freq, n_frames, width)
        result: Tensor = x + self.time_norm(rows.permute(0, 3, 1, 2))
        return result


class TwoStageTransformer(nn.Module):
    """1x1 convolution to ``width`` channels, ``n_blocks`` two-stage blocks, 1x1 convolution back."""

    def __init__(self, channels: int, n_blocks: int, width: int = 32, n_heads: int = 4) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, width, 1)
        self.act_in = nn.PReLU()
        self.blocks = nn.Sequential(*(TwoStageBlock(width, n_heads) for _ in range(n_blocks)))
        self.act_out = nn.PReLU()
        self.conv_out = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, freq, frame) -> (batch, channel, freq, frame)."""
        x = self.act_in(self.conv_in(x))
        result: Tensor = self.conv_out(self.act_out(self.blocks(x)))
        return result


class RealBottleneck(nn.Module):
    """One two-stage transformer, applied to the real and to the imaginary part (`rtstm`)."""

    def __init__(self, channels: int, n_blocks: int) -> None:
        super().__init__()
        self.transformer = TwoStageTransformer(channels, n_blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 2 * channel, freq, frame) -> the same."""
        real, imag = self.transformer(torch.cat((real_part(x), imag_part(x)))).chunk(2)
        return interleave(real, imag)


class ComplexBottleneck(nn.Module):
    """Two real transformers A and B as one complex one: (A(r) - B(i), B(r) + A(i)) (`ctstm`)."""

    def __init__(self, channels: int, n_blocks: int) -> None:
        super().__init__()
        self.transformer_a = TwoStageTransformer(channels, n_blocks)
        self.transformer_b = TwoStageTransformer(channels, n_blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 2 * channel, freq, frame) -> the same."""
        parts = torch.cat((real_part(x), imag_part(x)))
        a_real, a_imag = self.transformer_a(parts).chunk(2)
        b_real, b_imag = self.transformer_b(parts).chunk(2)
        return interleave(a_real - b_imag, b_real + a_imag)


def in_windows(bottleneck: Callable[[Tensor], Tensor], x: Tensor, window: int) -> Tensor:
    """Apply ``bottleneck`` to consecutive windows of ``window`` frames, each for itself.

    What a window holds does not depend on how long the recording is, so a block of a long recording gives the
    same result as the whole, and a model trained on seconds meets nothing new in an hour. The last window of
    a signal that is no multiple of ``window`` frames reaches back over the one before it.

    Args:
        bottleneck: (batch, channel, freq, frame) -> the same.
        x: (batch, channel, freq, frame).
        window: in frames; 0 means one window over everything, as published.
    """
    batch, n_frames = x.shape[0], x.shape[-1]
    if window == 0 or n_frames <= window:
        return bottleneck(x)
    n_whole, rest = divmod(n_frames, window)
    pieces = list(x[..., : n_whole * window].unfold(-1, window, window).unbind(-2))
    if rest:
        pieces.append(x[..., -window:])
    outputs = list(torch.split(bottleneck(torch.cat(pieces)), batch))
    if rest:
        outputs[-1] = outputs[-1][..., -rest:]
    return torch.cat(outputs, dim=-1)
