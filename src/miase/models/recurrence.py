"""The steps of gated recurrent units (Cho et al. 2014), several units at a time, and their way back.

The unit r = sigmoid(W_r x + U_r h + b_r), z = sigmoid(W_z x + U_z h + b_z), n = tanh(W_n x + b_n +
r (U_n h + c)), h' = n + z (h - n) is computed with k = (h + 1) / 2 for its state and s = (n + 1) / 2 for what
is new in it. As tanh(y) = 2 sigmoid(2 y) - 1, all its gates are then sigmoids, which take a fraction of the
time of tanh: k' = s + z (k - s), with s = sigmoid(a + r u); `logistic_weights` has what a and u take.
PyTorch's own recurrence does one unit and one direction at a time, and remembers each operation of each step.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from miase.models.products import by_onednn

sigmoid_back = torch.ops.aten.sigmoid_backward  # g y (1 - y), of y the output
START = 0.5  # k of h = 0
MANY_ROWS = 128  # from which on oneDNN is faster, in float32: states are not rounded


class LogisticWeights(NamedTuple):
    """Weights of the gates r, z and s along the last axis.

    Attributes:
        from_input: (unit, width + 1, 3 * width), for inputs with a one beside them.
        from_state: (unit, width, 3 * width), for k.
        state_bias: (unit, 1, 3 * width), beside what comes from the state.
    """

    from_input: Tensor
    from_state: Tensor
    state_bias: Tensor


def logistic_weights(w_input: Tensor, w_state: Tensor, b_input: Tensor, b_state: Tensor) -> LogisticWeights:
    """The weights of units as `torch.nn.GRU` has them, for k in place of h: U h = 2 U k - U 1.

    Args:
        w_input: W, (unit, 3 * width, width).
        w_state: U, (unit, 3 * width, width).
        b_input: beside W x, (unit, 3 * width).
        b_state: beside U h, (unit, 3 * width).
    """
    width = w_state.shape[2]
    scale = w_input.new_ones(3 * width)
    scale[2 * width :] = 2  # tanh(y) is a sigmoid of 2 y
    return LogisticWeights(
        torch.cat((w_input.mT, b_input.unsqueeze(1)), dim=1) * scale,
        w_state.mT * (2 * scale),
        ((b_state - w_state.sum(2)) * scale).unsqueeze(1),
    )


class _Kept(NamedTuple):
    """What the way back needs, (unit, step, row, ...) each: r and z, u, s."""

    gates: Tensor
    from_state: Tensor
    new: Tensor


def recurrent_states(
    inputs: Tensor, from_state: Tensor, state_bias: Tensor, *, rounded: bool = False
) -> Tensor:
    """The states k' after each step, from one of 1/2.

    Args:
        inputs: what comes from the inputs for the gates r, z and s, (unit, step, row, 3 * width).
        from_state: of `logistic_weights`, (unit, width, 3 * width).
        state_bias: of the same, (unit, 1, 3 * width).
        rounded: whether factors of the gradient of ``from_state`` may be rounded to bfloat16.

    Returns:
        (unit, step, row, width).
    """
    given = (inputs, from_state, state_bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        states: Tensor = _StepsAndBack.apply(*given, rounded)  # type: ignore[no-untyped-call]
        return states
    return _steps(*given, None)


def _steps(inputs: Tensor, from_state: Tensor, state_bias: Tensor, kept: _Kept | None) -> Tensor:
    n_units, n_steps, n_rows, _ = inputs.shape
    width = from_state.shape[1]
    states = inputs.new_empty(n_units, n_steps, n_rows, width)
    state = inputs.new_full((n_units, n_rows, width), START)
    recurrent = torch.empty_like(inputs[:, 0])
    of_gates, of_new = recurrent[..., : 2 * width], recurrent[..., 2 * width :]
    # Where the gates and the new states go, step by step: kept for the way back, or all in one place.
    if kept is None:
        room = inputs.new_empty(n_units, 1, n_rows, 3 * width).expand_as(inputs)
        to_gates, to_new = room[..., : 2 * width], room[..., 2 * width :]
    else:
        to_gates, to_new = kept.gates, kept.new
        to_kept = kept.from_state.unbind(1)
    given = inputs[..., : 2 * width], inputs[..., 2 * width :]
    steps = zip(
        *(t.unbind(1) for t in (*given, to_gates, *to_gates.chunk(2, dim=-1), to_new, states)), strict=True
    )
    with by_onednn(rounded=False, large=n_rows >= MANY_ROWS):
        for step, (for_gates, for_new, gates, reset, update, new, to_state) in enumerate(steps):
            torch.baddbmm(state_bias, state, from_state, out=recurrent)
            torch.add(for_gates, of_gates, out=gates).sigmoid_()
            torch.addcmul(for_new, reset, of_new, out=new).sigmoid_()
            state = torch.lerp(new, state, update, out=to_state)
            if kept is not None:
                to_kept[step].copy_(of_new)
    return states


class _StepsAndBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, from_state: Tensor, state_bias: Tensor, rounded: bool) -> Tensor:
        ctx.rounded = rounded
        width = from_state.shape[1]
        shape = (*inputs.shape[:-1], width)
        kept = _Kept(
            inputs.new_empty(*shape[:-1], 2 * width), inputs.new_empty(shape), inputs.new_empty(shape)
        )
        states = _steps(inputs, from_state, state_bias, kept)
        ctx.save_for_backward(from_state, states, *kept)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """All that does not depend on the gradient of the state is computed for all steps at once."""
        weight, states, gates, from_state, new = ctx.saved_tensors
        n_units, n_steps, n_rows, width = states.shape
        reset, update = gates.chunk(2, dim=-1)
        to_new = sigmoid_back(1 - update, new)  # of k' along a, and so on
        slopes = states.new_empty(n_units, n_steps, n_rows, 3, width)
        to_reset, to_update, to_state = slopes.unbind(3)
        sigmoid_back(to_new * from_state, reset, grad_input=to_reset)
        before = torch.cat((torch.full_like(states[:, :1], START), states[:, :-1]), dim=1)
        sigmoid_back(before - new, update, grad_input=to_update)
        torch.mul(to_new, reset, out=to_state)
        of_states = torch.empty_like(states)
        of_states[:, -1] = grad[:, -1]
        straight = torch.empty_like(states[:, 0])
        weight_back = weight.transpose(1, 2)
        given, kept, of_state, of_gate = (t.unbind(1) for t in (grad, update, of_states, slopes))
        with by_onednn(rounded=False, large=n_rows >= MANY_ROWS):
            for step in range(n_steps - 1, 0, -1):
                of_gate[step].mul_(of_state[step].unsqueeze(2))
                torch.addcmul(given[step - 1], of_state[step], kept[step], out=straight)
                torch.baddbmm(straight, of_gate[step].flatten(2), weight_back, out=of_state[step - 1])
        of_gate[0].mul_(of_state[0].unsqueeze(2))
        of_gates = slopes  # times the gradients, by now
        with by_onednn(rounded=ctx.rounded):
            of_weight = torch.bmm(before.flatten(1, 2).transpose(1, 2), of_gates.flatten(3).flatten(1, 2))
        of_bias = of_gates.sum((1, 2)).flatten(1).unsqueeze(1)
        torch.mul(of_states, to_new, out=of_gates[:, :, :, 2])
        return of_gates.flatten(3), of_weight, of_bias, None
