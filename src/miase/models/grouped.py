"""The bottlenecks on a CPU: their two-stage transformers side by side, as one batch of matrix products.

The numbers are those of `miase.models.transformer`, and their gradients reach its parameters. The tensors
here are (group, row, step, width), one group for each transformer; a bottleneck of one transformer is the
case of one group.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from miase.models.attention import attend
from miase.models.products import affine
from miase.models.recurrence import logistic_weights, recurrent_states
from miase.models.transformer import (
    ComplexBottleneck,
    RealBottleneck,
    TransformerLayer,
    TwoStageBlock,
    TwoStageTransformer,
)

layer_norm = torch.ops.aten.native_layer_norm.out
layer_norm_back = torch.ops.aten.native_layer_norm_backward


class _Affine:
    """Linear layers, or 1x1 convolutions, of all groups: (group, ..., in) -> (group, ..., out)."""

    def __init__(self, layers: list[nn.Linear] | list[nn.Conv2d], *, rounded: bool) -> None:
        self.rounded = rounded
        self.weight = torch.stack([layer.weight.flatten(1).T for layer in layers]).contiguous()
        biases = [layer.bias for layer in layers if layer.bias is not None]
        self.bias = torch.stack(biases).unsqueeze(1)

    def __call__(self, x: Tensor) -> Tensor:
        rows = affine(x.flatten(1, -2), self.weight, self.bias, rounded=self.rounded)
        return rows.view(*x.shape[:-1], -1)


class _Norm:
    """Layer norms of all groups over the last axis."""

    def __init__(self, norms: list[nn.LayerNorm]) -> None:
        self.weight = [norm.weight for norm in norms]
        self.bias = [norm.bias for norm in norms]
        self.eps = norms[0].eps

    def __call__(self, x: Tensor) -> Tensor:
        """(group, ..., width) -> the same."""
        result: Tensor = _LayerNorms.apply(x, self.eps, *self.weight, *self.bias)  # type: ignore[no-untyped-call]
        return result


class _LayerNorms(torch.autograd.Function):
    """Each group by itself: without weights of its own PyTorch's takes half as long again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, *parameters: Tensor) -> Tensor:
        n_groups = len(x)
        y, mean, rstd = torch.empty_like(x), *x.new_empty(2, *x.shape[:-1], 1)
        for i, (weight, bias) in enumerate(zip(parameters[:n_groups], parameters[n_groups:], strict=True)):
            outs = {"out0": y[i], "out1": mean[i], "out2": rstd[i]}
            layer_norm(x[i], x.shape[-1:], weight, bias, eps, **outs)
        ctx.save_for_backward(x, mean, rstd, *parameters)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, *parameters = ctx.saved_tensors
        weights, biases = parameters[: len(x)], parameters[len(x) :]
        groups = [
            layer_norm_back(grad[i], x[i], x.shape[-1:], mean[i], rstd[i], weight, bias, [True] * 3)
            for i, (weight, bias) in enumerate(zip(weights, biases, strict=True))
        ]
        of_x, of_weight, of_bias = zip(*groups, strict=True)
        return torch.stack(of_x), None, *of_weight, *of_bias


class _WholeNorm:
    """Group norms with one group of channels: over everything but the item, with a weight per channel."""

    def __init__(self, norms: list[nn.GroupNorm]) -> None:
        self.weight = torch.stack([norm.weight for norm in norms])[:, None, None, None]
        self.bias = torch.stack([norm.bias for norm in norms])[:, None, None, None]

    def __call__(self, x: Tensor) -> Tensor:
        """(group, item, first, second, width) -> the same."""
        normed = F.layer_norm(x, x.shape[2:])
        return torch.addcmul(self.bias, normed, self.weight)


class _FeedForward:
    """The recurrent feed-forward parts of all groups; both directions of all GRUs take a step at a time."""

    def __init__(self, layers: list[TransformerLayer], *, rounded: bool) -> None:
        self.rounded = rounded
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        units = [(layer.gru, direction) for layer in layers for direction in ("", "_reverse")]
        self.recurrence = logistic_weights(
            *(torch.stack([getattr(gru, name + direction) for gru, direction in units]) for name in names)
        )
        out = [layer.feed_forward_out for layer in layers]
        self.out = torch.stack([half.T for linear in out for half in linear.weight.chunk(2, dim=1)])
        self.out_bias = torch.stack([linear.bias for linear in out])[:, None, None]
        self.one_less = self.out_bias.new_full((1,), -1.0)

    def __call__(self, x: Tensor) -> Tensor:
        """(group, row, step, width) -> the same."""
        n_groups, n_rows, n_steps, width = x.shape
        rows = _There.apply(x).flatten(1, 2)  # type: ignore[no-untyped-call]
        inputs = affine(rows, self.recurrence.from_input, None, rounded=self.rounded)
        inputs = inputs.view(2 * n_groups, n_steps, n_rows, 3 * width)
        states = recurrent_states(inputs, *self.recurrence[1:], rounded=self.rounded)
        states = torch.add(self.one_less, states, alpha=2)  # from k to h
        outputs = affine(F.gelu(states).flatten(1, 2), self.out, None, rounded=self.rounded)
        both: Tensor = _Back.apply(outputs.view_as(states))  # type: ignore[no-untyped-call]
        return both + self.out_bias


def _there(x: Tensor, n_ones: int) -> Tensor:
    """For both directions of a recurrence, the second with its last step first, and ones beside each row.

    (group, row, step, width) -> (group * direction, step, row, width + n_ones).
    """
    n_groups, n_rows, n_steps, width = x.shape
    forth = x.transpose(1, 2)
    both = x.new_empty(n_groups, 2, n_steps, n_rows, width + n_ones)
    both[..., width:] = 1
    both[:, 0, ..., :width] = forth
    both[:, 1, ..., :width] = forth.flip(1)
    return both.flatten(0, 1)


def _back(both: Tensor, width: int) -> Tensor:
    """The sum of both directions: what `_there` would need to give ``both``'s gradient."""
    forward, backward = both.view(-1, 2, *both.shape[1:])[..., :width].transpose(2, 3).unbind(1)
    return torch.add(forward, backward.flip(2), out=both.new_empty(forward.shape))


class _There(torch.autograd.Function):
    """A one stands beside each row, which takes the bias along."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.width = x.shape[-1]
        return _there(x, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _back(grad, ctx.width)


class _Back(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        return _back(both, both.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _there(grad, 0)


class _Layer:
    """Transformer layers of all groups."""

    def __init__(self, layers: list[TransformerLayer], *, rounded: bool) -> None:
        self.rounded = rounded
        self.n_heads = layers[0].n_heads
        self.qkv = _Affine([layer.qkv for layer in layers], rounded=rounded)
        self.attention_out = _Affine([layer.attention_out for layer in layers], rounded=rounded)
        self.attention_norm = _Norm([layer.attention_norm for layer in layers])
        self.feed_forward = _FeedForward(layers, rounded=rounded)
        self.feed_forward_norm = _Norm([layer.feed_forward_norm for layer in layers])

    def __call__(self, x: Tensor) -> Tensor:
        """(group, row, step, width) -> the same."""
        n_groups, n_rows, n_steps, width = x.shape
        qkv = self.qkv(x).view(n_groups * n_rows, n_steps, 3, self.n_heads, width // self.n_heads)
        x = self.attention_norm(x + self.attention_out(attend(qkv, rounded=self.rounded).view(x.shape)))
        return self.feed_forward_norm(x + self.feed_forward(x))


class _Block:
    """Two-stage blocks of all groups."""

    def __init__(self, blocks: list[TwoStageBlock], *, rounded: bool) -> None:
        self.along_freq = _Layer([block.along_freq for block in blocks], rounded=rounded)
        self.freq_norm = _WholeNorm([block.freq_norm for block in blocks])
        self.along_time = _Layer([block.along_time for block in blocks], rounded=rounded)
        self.time_norm = _WholeNorm([block.time_norm for block in blocks])

    def __call__(self, x: Tensor) -> Tensor:
        """(group, item, frame, freq, width) -> the same."""
        x = x + self.freq_norm(self.along_freq(x.flatten(1, 2)).view(x.shape))
        rows = x.transpose(2, 3).contiguous()
        changed = self.along_time(rows.flatten(1, 2)).view(rows.shape)
        return x + self.time_norm(changed.transpose(2, 3).contiguous())


class GroupedBottleneck:
    """The weights of a bottleneck as they are now, side by side.

    Args:
        bottleneck: whose they are.
        rounded: whether factors of its matrix products, forth and back, may be rounded to bfloat16.
    """

    def __init__(self, bottleneck: RealBottleneck | ComplexBottleneck, *, rounded: bool = False) -> None:
        if isinstance(bottleneck, ComplexBottleneck):
            transformers = [bottleneck.transformer_a, bottleneck.transformer_b]
        else:
            transformers = [bottleneck.transformer]
        self.conv_in = _Affine([t.conv_in for t in transformers], rounded=rounded)
        self.slope_in = _slopes([t.act_in for t in transformers])
        self.blocks = [
            _Block(list(blocks), rounded=rounded) for blocks in zip(*map(_blocks, transformers), strict=True)
        ]
        self.slope_out = _slopes([t.act_out for t in transformers])
        self.conv_out = _Affine([t.conv_out for t in transformers], rounded=rounded)
        self.n_groups = len(transformers)

    def __call__(self, x: Tensor) -> Tensor:
        """(2, item, frame, freq, channel), the real parts and the imaginary ones -> the same."""
        parts = x.flatten(0, 1)
        y = _prelu(self.conv_in(parts.expand(self.n_groups, *parts.shape)), self.slope_in)
        for block in self.blocks:
            y = block(y)
        y = self.conv_out(_prelu(y, self.slope_out))
        y = y.view(self.n_groups, 2, -1, *y.shape[2:])
        if self.n_groups == 1:
            return y[0]
        return torch.stack((y[0, 0] - y[1, 1], y[1, 0] + y[0, 1]))


def _blocks(transformer: TwoStageTransformer) -> list[TwoStageBlock]:
    return [block for block in transformer.blocks if isinstance(block, TwoStageBlock)]


def _slopes(activations: list[nn.PReLU]) -> Tensor:
    return torch.cat([activation.weight for activation in activations])


def _prelu(x: Tensor, slopes: Tensor) -> Tensor:
    """(group, ...), a slope for each group."""
    return F.prelu(x.unsqueeze(0), slopes).squeeze(0)
