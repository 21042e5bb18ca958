"""The networks as the equations have them, with nothing done for speed: the yardstick of benchmarks/speed.py.

Four real convolutions for a complex one, real and imaginary parts apart, norms by themselves, four calls of
real transformers for a complex one, attention by matrix products and softmax, the whole recording at once.
Takes the weights of a network of ours and gives the same numbers; tests/test_plain.py compares them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miase.models import DCUNet
from miase.models.complex import ComplexBlock, ComplexConv2d, ComplexConvTranspose2d
from miase.models.transformer import ComplexBottleneck, TransformerLayer, TwoStageTransformer

Parts = tuple[Tensor, Tensor]  # real and imaginary, (batch, channel, freq, frame) each


class PlainDCUNet(nn.Module):
    """A network of ours, computed plainly.

    Args:
        model: whose weights are taken.
        window_frames: as in the model's configuration; 0, as published and as the earlier code had it, lets
            the transformer see the whole recording.
    """

    def __init__(self, model: DCUNet, window_frames: int = 0) -> None:
        super().__init__()
        self.model = model
        self.window = window_frames // model.frame_stride

    def forward(self, noisy: Tensor) -> Tensor:
        """(batch, time) -> (batch, time)."""
        spectrum = self.model.stft.analyse(noisy)
        x: Parts = self.model.features(spectrum).contiguous().unbind(-1)
        x = (x[0].unsqueeze(1), x[1].unsqueeze(1))
        sizes, skipped = [], []
        for block in self.model.encoder:
            sizes.append(x[0].shape[2:])
            x = _block(block, x)
            skipped.append(x)
        skipped.pop()
        if self.model.bottleneck is not None:
            x = self._windows(x)
        for block in self.model.decoder:
            x, skip = _block(block, x, sizes.pop()), skipped.pop()
            x = (torch.cat((x[0], skip[0]), dim=1), torch.cat((x[1], skip[1]), dim=1))
        real, imag = _transposed(self.model.mask_out, x, sizes.pop())
        magnitude = torch.sqrt(real**2 + imag**2 + 1e-12)
        bounded = torch.tanh(magnitude) ** self.model.config.mask_exponent
        real, imag = (bounded * part / magnitude for part in (real, imag))
        noisy_real, noisy_imag = spectrum[..., 0], spectrum[..., 1]
        real, imag = real[:, 0], imag[:, 0]
        estimate = torch.stack(
            (real * noisy_real - imag * noisy_imag, real * noisy_imag + imag * noisy_real), -1
        )
        return self.model.stft.synthesise(estimate, noisy.shape[-1])

    def _windows(self, x: Parts) -> Parts:
        n_frames = x[0].shape[-1]
        if self.window == 0 or n_frames <= self.window:
            return _bottleneck(self.model.bottleneck, x)
        results = []
        for start in range(0, n_frames, self.window):
            first = min(start, n_frames - self.window)
            piece = (
                x[0][..., first : first + self.window],
                x[1][..., first : first + self.window],
            )
            real, imag = _bottleneck(self.model.bottleneck, piece)
            results.append((real[..., start - first :], imag[..., start - first :]))
        return torch.cat([r for r, _ in results], dim=-1), torch.cat([i for _, i in results], dim=-1)


def _block(block: ComplexBlock, x: Parts, *size: tuple[int, int]) -> Parts:
    conv = block.conv
    y = _convolution(conv, x) if isinstance(conv, ComplexConv2d) else _transposed(conv, x, *size)
    return _part(block.norm, y[0], 0), _part(block.norm, y[1], 1)


def _part(norm: nn.BatchNorm2d, x: Tensor, part: int) -> Tensor:
    statistics = (norm.running_mean[part::2], norm.running_var[part::2])
    if norm.training:  # its own statistics are those that count
        statistics = (statistics[0].clone(), statistics[1].clone())
    y = F.batch_norm(x, *statistics, norm.weight[part::2], norm.bias[part::2], norm.training)
    return F.leaky_relu(y, 0.01)


def _convolution(conv: ComplexConv2d, x: Parts) -> Parts:
    def real_conv(part: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(part, weight, None, conv.stride, conv.padding)

    return _complex_sum(conv, x, real_conv)


def _transposed(conv: ComplexConvTranspose2d, x: Parts, size: tuple[int, int]) -> Parts:
    extra = [size[i] - ((x[0].shape[2 + i] - 1) * conv.stride[i] + 1) for i in range(2)]

    def real_conv(part: Tensor, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(part, weight, None, conv.stride, conv.padding, extra)

    return _complex_sum(conv, x, real_conv)


def _complex_sum(conv: ComplexConv2d | ComplexConvTranspose2d, x: Parts, real_conv) -> Parts:
    bias = conv.bias.view(-1, 2, 1, 1)
    real = real_conv(x[0], conv.weight_real) - real_conv(x[1], conv.weight_imag) + bias[:, 0:1, :, 0]
    imag = real_conv(x[0], conv.weight_imag) + real_conv(x[1], conv.weight_real) + bias[:, 1:2, :, 0]
    return real, imag


def _bottleneck(bottleneck: nn.Module, x: Parts) -> Parts:
    if isinstance(bottleneck, ComplexBottleneck):
        a, b = bottleneck.transformer_a, bottleneck.transformer_b
        return _transformer(a, x[0]) - _transformer(b, x[1]), _transformer(b, x[0]) + _transformer(a, x[1])
    return _transformer(bottleneck.transformer, x[0]), _transformer(bottleneck.transformer, x[1])


def _transformer(transformer: TwoStageTransformer, x: Tensor) -> Tensor:
    x = transformer.act_in(transformer.conv_in(x))
    for block in transformer.blocks:
        batch, width, n_freq, n_frames = x.shape
        rows = x.permute(0, 3, 2, 1).reshape(batch * n_frames, n_freq, width)
        rows = _layer(block.along_freq, rows).view(batch, n_frames, n_freq, width)
        x = x + block.freq_norm(rows.permute(0, 3, 2, 1))
        rows = x.permute(0, 2, 3, 1).reshape(batch * n_freq, n_frames, width)
        rows = _layer(block.along_time, rows).view(batch, n_freq, n_frames, width)
        x = x + block.time_norm(rows.permute(0, 3, 1, 2))
    return transformer.conv_out(transformer.act_out(x))


def _layer(layer: TransformerLayer, x: Tensor) -> Tensor:
    batch, length, width = x.shape
    heads = layer.qkv(x).view(batch, length, 3, layer.n_heads, width // layer.n_heads)
    q, k, v = heads.permute(2, 0, 3, 1, 4)
    scores = torch.softmax(q @ k.transpose(-2, -1) / (width // layer.n_heads) ** 0.5, dim=-1)
    attended = (scores @ v).transpose(1, 2).reshape(batch, length, width)
    x = layer.attention_norm(x + layer.attention_out(attended))
    recurrent, _ = layer.gru(x)
    return layer.feed_forward_norm(x + layer.feed_forward_out(F.gelu(recurrent)))
