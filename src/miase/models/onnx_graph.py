"""A trained network in a form that exports: waveform to waveform, of any length and batch.

The STFT is a convolution and its inverse a transposed one, windows are gathered by computed indices, GRUs
become the operator of that name. The numbers are those of `DCUNet`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miase.models.complex import SLOPE, ComplexBlock, ComplexConvTranspose2d, imag_part, interleave, real_part
from miase.models.convolution import Pair
from miase.models.dcunet import DCUNet
from miase.models.transformer import (
    ComplexBottleneck,
    RealBottleneck,
    TransformerLayer,
    TwoStageBlock,
    TwoStageTransformer,
)
from miase.stft import Stft


class OnnxGraph(nn.Module):
    """`DCUNet` in evaluation mode with operators that ONNX has; to be exported, not to be called.

    Args:
        model: any network of ours.
    """

    def __init__(self, model: DCUNet) -> None:
        super().__init__()
        self.model = model
        self.stft = _ConvolutionStft(model.stft)
        self.encoder = nn.ModuleList(_Folded(b) for b in model.encoder if isinstance(b, ComplexBlock))
        self.decoder = nn.ModuleList(_Folded(b) for b in model.decoder if isinstance(b, ComplexBlock))
        self.mask_out = _Folded(model.mask_out)
        self.bottleneck = model.bottleneck
        self.window = model.config.window_frames // model.frame_stride

    def forward(self, noisy: Tensor) -> Tensor:
        """(batch, time) -> (batch, time)."""
        spectrum = self.stft.analyse(noisy)
        x = self._features(spectrum)
        inputs, skipped = [], []
        for block in self.encoder:
            inputs.append(x)
            x = block(x)
            skipped.append(x)
        skipped.pop()
        if self.bottleneck is not None:
            x = self._windows(self.bottleneck, x)
        for block in self.decoder:
            given = inputs.pop()
            x = torch.cat((block(x, given), skipped.pop()), dim=1)
        output = self.mask_out(x, inputs.pop())
        magnitude = torch.sqrt(output.square().sum(1, keepdim=True) + 1e-12)
        mask = torch.tanh(magnitude).pow(self.model.config.mask_exponent) / magnitude * output
        real = mask[:, 0] * spectrum[:, 0] - mask[:, 1] * spectrum[:, 1]
        imag = mask[:, 0] * spectrum[:, 1] + mask[:, 1] * spectrum[:, 0]
        return self.stft.synthesise(torch.stack((real, imag), dim=1), noisy)

    def _features(self, spectrum: Tensor) -> Tensor:
        power = spectrum.square().sum(1, keepdim=True)
        reach = self.model.level_reach
        mean = power.mean(2)
        ones = torch.ones(1, 1, 2 * reach + 1)
        level = F.conv1d(mean, ones, padding=reach) / F.conv1d(torch.ones_like(mean), ones, padding=reach)
        return spectrum * self.model.level_gain(power, level.unsqueeze(2))

    def _windows(self, bottleneck: nn.Module, x: Tensor) -> Tensor:
        """`in_windows` by indices, (batch, channel, freq, frame) -> the same."""
        if self.window == 0:
            return _bottleneck(bottleneck, x)
        batch, channels, n_freq, n_frames = x.shape
        window = torch.sym_min(n_frames, self.window)  # type: ignore[no-untyped-call]
        n_windows = (n_frames + self.window - 1) // self.window
        starts = (torch.arange(n_windows) * window).clamp(max=n_frames - window)
        taken = (starts.unsqueeze(1) + torch.arange(window)).flatten()
        pieces = x.index_select(3, taken).view(batch, channels, n_freq, n_windows, window)
        pieces = pieces.permute(0, 3, 1, 2, 4).reshape(batch * n_windows, channels, n_freq, window)
        pieces = _bottleneck(bottleneck, pieces).view(batch, n_windows, channels, n_freq, window)
        pieces = pieces.permute(0, 2, 3, 1, 4).reshape(batch, channels, n_freq, n_windows * window)
        frames = torch.arange(n_frames)
        which = frames // window
        return pieces.index_select(3, which * window + frames - starts.index_select(0, which))


class _ConvolutionStft(nn.Module):
    weight: Tensor
    inverse: Tensor
    squares: Tensor

    def __init__(self, stft: Stft) -> None:
        super().__init__()
        self.n_fft, self.hop_length = stft.n_fft, stft.hop_length
        n_freq = stft.n_fft // 2 + 1
        angle = torch.outer(torch.arange(n_freq, dtype=torch.float64), torch.arange(stft.n_fft))
        angle = (angle % stft.n_fft) * (2 * torch.pi / stft.n_fft)
        window = stft.window.double().cpu()
        forward = torch.cat((angle.cos(), -angle.sin())) * window
        twice = torch.full((n_freq, 1), 2.0, dtype=torch.float64)
        twice[0] = twice[-1] = 1.0
        inverse = torch.cat((twice * angle.cos(), -twice * angle.sin())) * window / stft.n_fft
        self.register_buffer("weight", forward.float().unsqueeze(1))
        self.register_buffer("inverse", inverse.float().unsqueeze(1))
        self.register_buffer("squares", window.square().float().view(1, 1, -1))

    def analyse(self, samples: Tensor) -> Tensor:
        """(batch, time) -> (batch, 2, freq, frame)."""
        n_samples = samples.shape[1]
        n_padded = (n_samples + self.hop_length - 1) // self.hop_length * self.hop_length
        half = self.n_fft // 2
        padded = F.pad(samples, (half, half + n_padded - n_samples)).unsqueeze(1)
        spectrum = F.conv1d(padded, self.weight, stride=self.hop_length)
        return spectrum.view(spectrum.shape[0], 2, self.n_fft // 2 + 1, spectrum.shape[2])

    def synthesise(self, spectrum: Tensor, like: Tensor) -> Tensor:
        """(batch, 2, freq, frame) -> (batch, time) with as many samples as ``like``."""
        samples = F.conv_transpose1d(spectrum.flatten(1, 2), self.inverse, stride=self.hop_length)
        ones = torch.ones_like(spectrum[:1, :1, 0])
        weight = F.conv_transpose1d(ones, self.squares, stride=self.hop_length)
        half = self.n_fft // 2
        result = (samples / weight.clamp(min=1e-8))[:, 0, half : half + like.shape[1]]
        return result.view(like.shape)


class _Folded(nn.Module):
    """A complex convolution with its norm and activation folded in, if it has them."""

    weight: Tensor
    bias: Tensor

    def __init__(self, block: ComplexBlock | ComplexConvTranspose2d) -> None:
        super().__init__()
        conv = block.conv if isinstance(block, ComplexBlock) else block
        self.transposed = isinstance(conv, ComplexConvTranspose2d)
        self.stride: Pair = conv.stride
        self.padding: Pair = conv.padding
        self.active = isinstance(block, ComplexBlock)
        weight, bias = conv.block_weight().detach(), conv.bias.detach()
        if isinstance(block, ComplexBlock):
            scale, bias = (tensor.detach() for tensor in block.scale_and_bias())
            weight = weight * scale.view((1, -1, 1, 1) if self.transposed else (-1, 1, 1, 1))
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor, *like: Tensor) -> Tensor:
        """(batch, channel, freq, frame) -> the same, as large as ``like`` where transposed."""
        if self.transposed:
            extra = [stride - 1 for stride in self.stride]
            y = F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, extra)
            y = y[:, :, : like[0].shape[2], : like[0].shape[3]]
        else:
            y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return F.leaky_relu(y, SLOPE) if self.active else y


def _bottleneck(bottleneck: nn.Module, x: Tensor) -> Tensor:
    real, imag = real_part(x), imag_part(x)
    if isinstance(bottleneck, ComplexBottleneck):
        a, b = bottleneck.transformer_a, bottleneck.transformer_b
        parts = torch.cat((real, imag))
        a_parts, b_parts = _transformer(a, parts), _transformer(b, parts)
        n = x.shape[0]
        return interleave(a_parts[:n] - b_parts[n:], b_parts[:n] + a_parts[n:])
    assert isinstance(bottleneck, RealBottleneck)
    return interleave(_transformer(bottleneck.transformer, real), _transformer(bottleneck.transformer, imag))


def _transformer(transformer: TwoStageTransformer, x: Tensor) -> Tensor:
    x = transformer.act_in(transformer.conv_in(x))
    batch, width, n_freq, n_frames = x.shape
    for block in transformer.blocks:
        assert isinstance(block, TwoStageBlock)
        rows = x.permute(0, 3, 2, 1).reshape(batch * n_frames, n_freq, width)
        rows = _layer(block.along_freq, rows).view(batch, n_frames, n_freq, width)
        x = x + block.freq_norm(rows.permute(0, 3, 2, 1))
        rows = x.permute(0, 2, 3, 1).reshape(batch * n_freq, n_frames, width)
        rows = _layer(block.along_time, rows).view(batch, n_freq, n_frames, width)
        x = x + block.time_norm(rows.permute(0, 3, 1, 2))
    result: Tensor = transformer.conv_out(transformer.act_out(x))
    return result


def _layer(layer: TransformerLayer, x: Tensor) -> Tensor:
    batch, length, width = x.shape
    heads, depth = layer.n_heads, width // layer.n_heads
    q, k, v = layer.qkv(x).view(batch, length, 3, heads, depth).permute(2, 0, 3, 1, 4).unbind(0)
    scores = torch.softmax(q @ k.transpose(-2, -1) * depth**-0.5, dim=-1)
    attended = (scores @ v).transpose(1, 2).reshape(batch, length, width)
    x = layer.attention_norm(x + layer.attention_out(attended))
    recurrent = _gru(layer.gru, x)
    result: Tensor = layer.feed_forward_norm(x + layer.feed_forward_out(F.gelu(recurrent)))
    return result


def _gru(gru: nn.GRU, x: Tensor) -> Tensor:
    """ONNX's GRU, (batch, step, width) -> (batch, step, 2 * width); its gates stand in another order."""
    batch, length, width = x.shape

    def of(kind: str) -> Tensor:
        both = []
        for direction in ("", "_reverse"):
            reset, update, new = getattr(gru, f"{kind}_l0{direction}").chunk(3)
            both.append(torch.cat((update, reset, new)))
        return torch.stack(both)

    bias = torch.cat((of("bias_ih"), of("bias_hh")), dim=1)
    states = torch.onnx.ops.symbolic(
        "GRU",
        (x.transpose(0, 1), of("weight_ih"), of("weight_hh"), bias),
        {"hidden_size": width, "direction": "bidirectional", "linear_before_reset": 1},
        dtype=x.dtype,
        shape=(length, 2, batch, width),
    )
    return states.permute(2, 0, 1, 3).reshape(batch, length, 2 * width)
