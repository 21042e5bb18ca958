"""What a network learns from: objectives behind one signature.

An objective computes a loss from the network, a batch and a random generator. It declares the fields that it
needs, and the data set makes only those: an objective that does not need ``clean`` never sees it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from miase.config import ObjectiveConfig
from miase.losses import compressed_spectrum_error, relative_time_error, weighted_sdr

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Networks:
    """The network that learns, and the one that makes the first pass of denoising twice."""

    model: nn.Module
    prior: nn.Module


Compute = Callable[[Networks, Batch, ObjectiveConfig, torch.Generator], dict[str, Tensor]]


class Objective(NamedTuple):
    """How to compute a loss, and the fields of a batch that it needs; each field is (batch, time)."""

    compute: Compute
    needs: frozenset[str]


def noise2clean(
    networks: Networks, batch: Batch, config: ObjectiveConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    """Supervised training, the upper bound: clean speech from noisy speech."""
    return combined_loss(batch["noisy"], networks.model(batch["noisy"]), batch["clean"], config)


def noisy_target(
    networks: Networks, batch: Batch, config: ObjectiveConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    """Noisy-target training: the recording from the recording with more noise.

    Fujimura et al. 2021, section 3.
    """
    noisier = batch["noisy"] + scale_to_snr(
        batch["noisy"], batch["noise"], _draw_snr(batch, config, generator)
    )
    return combined_loss(noisier, networks.model(noisier), batch["noisy"], config)


def iddp(
    networks: Networks, batch: Batch, config: ObjectiveConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    """Denoising twice with the implicit deep denoiser prior (Tu et al. 2025; Lin et al. 2022).

    The first output y1 = f(x), without gradient and in evaluation mode, is noised again with n', and the
    second output f(y1 + n') learns to be y1.
    """
    noisy = batch["noisy"]
    parts: dict[str, Tensor] = {}
    with torch.no_grad():
        first = _in_eval_mode(networks.prior, noisy)
        target = first
        if config.target_share > 0:
            keep = _draw(len(noisy), generator, noisy.device) < config.target_share
            target = torch.where(keep.unsqueeze(-1), noisy, first)
        noise = _renoise(noisy - first, batch, config, generator)
        noisier = target + scale_to_snr(target, noise, _draw_snr(batch, config, generator))
    parts |= combined_loss(noisier, networks.model(noisier), target, config)
    if config.fidelity_weight > 0:
        parts["fidelity"] = relative_time_error(networks.model(noisy), noisy).mean()
        parts["loss"] = parts["loss"] + config.fidelity_weight * parts["fidelity"]
    return parts


OBJECTIVES: Mapping[str, Objective] = {
    "noise2clean": Objective(noise2clean, frozenset({"noisy", "clean"})),
    "noisy_target": Objective(noisy_target, frozenset({"noisy", "noise"})),
    "iddp": Objective(iddp, frozenset({"noisy", "noise"})),
}


def combined_loss(
    noisier: Tensor, estimate: Tensor, target: Tensor, config: ObjectiveConfig
) -> dict[str, Tensor]:
    """The weighted sum of the losses, and each of them, as means over the batch."""
    parts = {
        "wsdr": (config.wsdr_weight, weighted_sdr(noisier, estimate, target)),
        "time": (config.time_weight, relative_time_error(estimate, target)),
        "spectrum": (config.spectrum_weight, compressed_spectrum_error(estimate, target)),
    }
    loss = torch.stack([weight * value.mean() for weight, value in parts.values()]).sum()
    return {"loss": loss} | {name: value.mean().detach() for name, (_, value) in parts.items()}


def scale_to_snr(signal: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """The noise, (batch, time), scaled so that signal over noise has the power ratio ``snr_db``, (batch,)."""
    power = signal.square().mean(-1) + 1e-12
    noise_power = noise.square().mean(-1) + 1e-12
    gain = (power / noise_power * 10 ** (-snr_db / 10)).sqrt()
    return noise * gain.unsqueeze(-1)


def shuffle_pieces(noise: Tensor, generator: torch.Generator, n_pieces: int = 10) -> Tensor:
    """Noise cut into ``n_pieces`` pieces and put together in a random order, without its mean.

    (batch, time) -> the same. The order breaks what ties the residual to the speech it was taken from; the
    few samples that do not fill a piece stay at the end.
    """
    length = noise.shape[-1] // n_pieces
    if length == 0:
        return noise - noise.mean(-1, keepdim=True)
    order = torch.argsort(_draw((len(noise), n_pieces), generator, noise.device), dim=-1)
    pieces = noise[:, : length * n_pieces].reshape(len(noise), n_pieces, length)
    pieces = pieces.gather(1, order.unsqueeze(-1).expand_as(pieces)).flatten(1)
    shuffled = torch.cat((pieces, noise[:, length * n_pieces :]), dim=-1)
    return shuffled - shuffled.mean(-1, keepdim=True)


def _renoise(residual: Tensor, batch: Batch, config: ObjectiveConfig, generator: torch.Generator) -> Tensor:
    """The noise of the second pass: from the batch, or for a share of the items what the first pass removed.

    The residuals go round the batch by one item, so that in most cases an item meets the noise of another
    recording.
    """
    share = config.noise.count("residual") / len(config.noise)
    if share == 0:
        return batch["noise"]
    remixed = shuffle_pieces(residual.roll(1, dims=0), generator)
    if share == 1:
        return remixed
    use_residual = _draw(len(residual), generator, residual.device) < share
    return torch.where(use_residual.unsqueeze(-1), remixed, batch["noise"])


def _in_eval_mode(model: nn.Module, noisy: Tensor) -> Tensor:
    """The model's output with the running statistics of its norms, which the pass leaves as they are."""
    was_training = model.training
    model.eval()
    estimate: Tensor = model(noisy)
    model.train(was_training)
    return estimate


def _draw_snr(batch: Batch, config: ObjectiveConfig, generator: torch.Generator) -> Tensor:
    noisy = batch["noisy"]
    low, high = config.snr_db
    return low + (high - low) * _draw(len(noisy), generator, noisy.device)


def _draw(shape: int | tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    # Drawn on the CPU, so that a run draws the same numbers on every device.
    return torch.rand(shape, generator=generator).to(device)
