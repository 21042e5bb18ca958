"""The steps of gated recurrent units (Cho et al. 2014), several units at a time, and their way back.

Per step, with the inputs' share a = W x + b of each gate, which is computed for all steps beforehand:
r = sigmoid(a_r + U_r h), z = sigmoid(a_z + U_z h), u = U_n h + c, n = tanh(a_n + r u), h' = n + z (h - n).
PyTorch's own recurrence does one unit and one direction at a time, and remembers each operation of each step.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

sigmoid_back = torch.ops.aten.sigmoid_backward  # g y (1 - y), of y the output
tanh_back = torch.ops.aten.tanh_backward  # g (1 - y^2)


class _Kept(NamedTuple):
    """What the way back needs, (unit, step, row, ...) each: r and z, u, n."""

    gates: Tensor
    from_state: Tensor
    new: Tensor


def recurrent_states(inputs: Tensor, from_state: Tensor, state_bias: Tensor) -> Tensor:
    """The states h' after each step, from a state of zeros.

    Args:
        inputs: a of the gates r, z and n, (unit, step, row, 3 * width).
        from_state: U of the same gates, transposed, (unit, width, 3 * width).
        state_bias: c, preceded by zeros for r and z, (unit, 1, 3 * width).

    Returns:
        (unit, step, row, width).
    """
    given = (inputs, from_state, state_bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        states: Tensor = _StepsAndBack.apply(*given)  # type: ignore[no-untyped-call]
        return states
    return _steps(*given, None)


def _steps(inputs: Tensor, from_state: Tensor, state_bias: Tensor, kept: _Kept | None) -> Tensor:
    n_units, n_steps, n_rows, _ = inputs.shape
    width = from_state.shape[1]
    states = inputs.new_empty(n_units, n_steps, n_rows, width)
    state = inputs.new_zeros(n_units, n_rows, width)
    # Where the gates and the new states go, step by step: kept for the way back, or thrown away.
    rooms = [part.unbind(1) for part in kept] if kept is not None else [[None] * n_steps] * 3
    for to_state, given, to_gates, to_kept, to_new in zip(
        states.unbind(1), inputs.unbind(1), *rooms, strict=True
    ):
        recurrent = torch.baddbmm(state_bias, state, from_state)
        of_gates, of_new = recurrent[..., : 2 * width], recurrent[..., 2 * width :]
        gates = torch.add(given[..., : 2 * width], of_gates, out=to_gates).sigmoid_()
        reset, update = gates.chunk(2, dim=-1)
        new = torch.addcmul(given[..., 2 * width :], reset, of_new, out=to_new).tanh_()
        state = torch.lerp(new, state, update, out=to_state)
        if to_kept is not None:
            to_kept.copy_(of_new)
    return states


class _StepsAndBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, from_state: Tensor, state_bias: Tensor) -> Tensor:
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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All that does not depend on the gradient of the state is computed for all steps at once."""
        weight, states, gates, from_state, new = ctx.saved_tensors
        n_units, n_steps, n_rows, width = states.shape
        reset, update = gates.chunk(2, dim=-1)
        to_new = tanh_back(1 - update, new)  # of h' along a_n, and so on
        slopes = states.new_empty(n_units, n_steps, n_rows, 3, width)
        to_reset, to_update, to_state = slopes.unbind(3)
        sigmoid_back(to_new * from_state, reset, grad_input=to_reset)
        before = states[:, :-1]  # and zeros before the first step
        change = torch.cat((-new[:, :1], before - new[:, 1:]), dim=1)
        sigmoid_back(change, update, grad_input=to_update)
        torch.mul(to_new, reset, out=to_state)
        of_states = torch.empty_like(states)
        of_gates = torch.empty_like(slopes)
        carried = torch.zeros_like(states[:, 0])
        weight_back = weight.transpose(1, 2)
        of_each_step = (grad, update, slopes, of_states, of_gates)
        for given, kept, slope, to_states, to_gates in list(
            zip(*(tensor.unbind(1) for tensor in of_each_step), strict=True)
        )[::-1]:
            of_state = torch.add(given, carried, out=to_states)
            of_gate = torch.mul(of_state.unsqueeze(2), slope, out=to_gates)
            carried = torch.baddbmm(of_state * kept, of_gate.flatten(2), weight_back)
        of_weight = before.flatten(1, 2).transpose(1, 2) @ of_gates[:, 1:].flatten(3).flatten(1, 2)
        of_bias = of_gates.sum((1, 2)).flatten(1).unsqueeze(1)
        torch.mul(of_states, to_new, out=of_gates[:, :, :, 2])
        return of_gates.flatten(3), of_weight, of_bias
