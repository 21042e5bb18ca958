"""What a network learns from: objectives behind one signature.

An objective computes a loss from the network, a batch and random draws. It declares the fields that it
needs, and the data set makes only those: an objective that does not need ``clean`` never sees it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from miase.classical import wiener
from miase.config import ObjectiveConfig
from miase.errors import ConfigError
from miase.first_pass import cleanest_neighbours, part_way
from miase.losses import (
    compressed_spectrum_error,
    multi_resolution_stft_error,
    relative_time_error,
    squared_error,
    stft_error,
    trust_in_bins,
    weighted_sdr,
)
from miase.loudness import loudness_error

Batch = Mapping[str, Tensor]

RECORRUPTED_SNR_DB = (0.0, 10.0)  # of a recording over the noise that is added to it and taken from it


@dataclass(frozen=True)
class Networks:
    """The network that learns, and the one that makes the first pass of denoising twice; their rate in Hz."""

    model: nn.Module
    prior: nn.Module
    sample_rate: int = 16000

    def loss(
        self,
        noisier: Tensor,
        target: Tensor,
        config: ObjectiveConfig,
        trusted: Tensor | None = None,
        removed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`combined_loss` of the network's output for ``noisier``."""
        estimate = self.model(noisier)
        return combined_loss(noisier, estimate, target, config, self.sample_rate, trusted, removed)


class Draws:
    """Random numbers for the items of a batch, which may be one of several parts of a larger batch.

    Each part draws for all and takes its own, so that a batch gets the same numbers whole, in parts one after
    the other, or in parts on several devices. They are drawn on the CPU, the same for every device.

    Args:
        seed: of the whole batch.
        part: which part this is.
        n_parts: of how many, all of one size.
    """

    def __init__(self, seed: int, part: int = 0, n_parts: int = 1) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.part, self.n_parts = part, n_parts

    def uniform(self, n: int, *shape: int, device: torch.device | None = None) -> Tensor:
        """Numbers from 0 to below 1 for ``n`` items, (n, *shape)."""
        whole = torch.rand(self.n_parts * n, *shape, generator=self.generator)
        return whole[self.part * n : (self.part + 1) * n].to(device)


Example = tuple[Tensor, Tensor]
"""The network's input and what its output learns to be, each (batch, time)."""

Compute = Callable[[Networks, Batch, ObjectiveConfig, Draws], dict[str, Tensor]]


class Objective(NamedTuple):
    """An objective.

    Attributes:
        compute: how to compute the loss and its parts.
        needs: fields of a batch, each (batch, time): noisy, clean, noisy2 (another take of the same speech),
            noise (to be added).
        settings: fields of the configuration that this objective fixes.
        warms_up: whether the run begins with another objective, ``ObjectiveConfig.warmup``.
        has_residual: whether it has a first pass that takes something away, so that the residual can be the
            only noise.
    """

    compute: Compute
    needs: frozenset[str]
    settings: Mapping[str, Any] = {}
    warms_up: bool = False
    has_residual: bool = False


def noise2clean(networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws) -> dict[str, Tensor]:
    """Supervised training, the upper bound: clean speech from noisy speech."""
    return networks.loss(batch["noisy"], batch["clean"], config)


def noise2noise(networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws) -> dict[str, Tensor]:
    """One noisy take of the speech from another (Lehtinen et al. 2018; Kashyap et al. 2021, section 2)."""
    return networks.loss(batch["noisy"], batch["noisy2"], config)


def only_noisy(networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws) -> dict[str, Tensor]:
    """One half of the samples from the other (Wu et al. 2021, equations 3 to 6; Huang et al. 2021).

    g1 takes one sample of each pair of neighbours at random, g2 the other. f(g1 x) learns g2 x; and, because
    the halves of the speech differ, gamma times the mean of (f(g1 x) - g2 x - g1 f(x) + g2 f(x))^2 is added,
    with f(x) without gradient and in evaluation mode. It is taken over the recording's power, so that the
    level has no say.
    """
    noisy = batch["noisy"]
    take_first = draws.uniform(len(noisy), noisy.shape[-1] // 2, device=noisy.device) < 0.5
    first, second = neighbours(noisy, take_first)
    estimate = networks.model(first)
    with torch.no_grad():
        whole_first, whole_second = neighbours(_in_eval_mode(networks.model, noisy), take_first)
    parts = combined_loss(first, estimate, second, config, networks.sample_rate // 2)
    gap = (estimate - second - whole_first + whole_second).square().mean(-1)
    parts["regularisation"] = (gap / (noisy.square().mean(-1) + 1e-12)).mean()
    parts["loss"] = parts["loss"] + config.gamma * parts["regularisation"]
    return parts


def neighbours(samples: Tensor, take_first: Tensor) -> tuple[Tensor, Tensor]:
    """Split pairs of neighbouring samples: (batch, time) -> two of (batch, time // 2).

    Where ``take_first``, (batch, time // 2), the first of a pair goes to the first result.
    """
    n_pairs = take_first.shape[-1]
    even, odd = samples[:, : 2 * n_pairs : 2], samples[:, 1 : 2 * n_pairs : 2]
    return torch.where(take_first, even, odd), torch.where(take_first, odd, even)


def noisy_target(
    networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws
) -> dict[str, Tensor]:
    """Noisy-target training: the recording from the recording with more noise.

    Fujimura et al. 2021, section 3.
    """
    return networks.loss(*_noisier(networks, batch, config, draws), config)


def _noisier(networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws) -> Example:
    """The example x + n', and x."""
    return batch["noisy"] + _added_noise(batch, config.snr_db, draws), batch["noisy"]


def recorrupted(networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws) -> dict[str, Tensor]:
    """The recording less a noise from it with the noise: x - n' from x + n' (Pang et al. 2021, section 3).

    Where n' is like the noise n of x, the sum n + n' that is heard tells nothing of the difference n - n' in
    the target, whose mean is therefore the clean speech: nothing pulls towards keeping noise, as the target
    of noisy_target does. The level of n is not known; that of n' is drawn around what is usual. Losses of
    magnitudes are left out, for a target's noise adds to them.
    """
    noisier, target = _recorrupt(networks, batch, config, draws)
    waveform_alone = replace(
        config, spectrum_weight=0.0, loudness_weight=0.0, stft_weight=0.0, mrstft_weight=0.0
    )
    return networks.loss(noisier, target, waveform_alone)


def _recorrupt(networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws) -> Example:
    """The example x + n', and x - n'."""
    added = _added_noise(batch, RECORRUPTED_SNR_DB, draws)
    return batch["noisy"] + added, batch["noisy"] - added


def iddp(networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws) -> dict[str, Tensor]:
    """Denoising twice with the implicit deep denoiser prior (Tu et al. 2025; Lin et al. 2022).

    The first pass y1, without gradient and in evaluation mode, is noised again with n', and the second
    output f(y1 + n') learns to be y1. As published, y1 = f(x); else y1 is `part_way` from x to f(x), for the
    cleanest of each ``cleanest_of`` items. A share of the items learns by the objective of the warm-up.
    """
    noisy = batch["noisy"]
    with torch.no_grad():
        estimate = _in_eval_mode(networks.prior, noisy)
        first = part_way(noisy, estimate, config.first_share, config.speech_share, networks.sample_rate)
        batch, first = _cleanest(batch, first, config.cleanest_of)
        noisier, target, trusted = _with_recordings(
            (_noised_again(first, batch, config, draws), first), networks, batch, config, draws
        )
    parts = networks.loss(noisier, target, config, trusted, batch["noisy"] - target)
    if config.fidelity_weight > 0:
        parts["fidelity"] = (networks.model(noisy) - noisy).norm(dim=-1).mean()
        parts["loss"] = parts["loss"] + config.fidelity_weight * parts["fidelity"]
    return parts


def _noised_again(first: Tensor, batch: Batch, config: ObjectiveConfig, draws: Draws) -> Tensor:
    """The input of the second pass, (batch, time)."""
    noise = _renoise(batch["noisy"] - first, batch, config, draws)
    return first + scale_to_snr(first, noise, _draw_snr(first, config.snr_db, draws))


def _cleanest(batch: Batch, first: Tensor, of: int) -> tuple[Batch, Tensor]:
    """The batch and its first pass, (batch, time); the cleanest of ``of`` neighbours takes all their places.

    Only recordings are replaced, so that each item has a noise of its own.
    """
    if of == 1:
        return batch, first
    best = cleanest_neighbours(batch["noisy"], first, of)
    return {**batch, "noisy": batch["noisy"][best]}, first[best]


def wiener_target(
    networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws
) -> dict[str, Tensor]:
    """Denoising twice with a first pass that needs no training: most of what a Wiener filter takes away.

    y1 = x + s (w(x) - x), w the filter of `miase.classical`, s the ``first_share``, for the
    cleanest of each ``cleanest_of`` items; the network's output for y1 + n' learns to be y1.
    """
    first = _filtered(networks, batch, config)
    batch, first = _cleanest(batch, first, config.cleanest_of)
    noisier = _noised_again(first, batch, config, draws)
    return networks.loss(noisier, first, config, removed=batch["noisy"] - first)


def wiener_estimate(noisy: Tensor, sample_rate: int) -> Tensor:
    """The Wiener filter of `miase.classical`, (batch, time) -> the same; computed on the CPU."""
    return torch.from_numpy(wiener(noisy.cpu().numpy(), sample_rate)).to(noisy.device)


def _filtered(networks: Networks, batch: Batch, config: ObjectiveConfig) -> Tensor:
    noisy = batch["noisy"]
    return noisy.lerp(wiener_estimate(noisy, networks.sample_rate), config.first_share)


def _filtered_first(networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws) -> Example:
    """The example y1 + n', and y1, of all of the batch."""
    first = _filtered(networks, batch, config)
    return _noised_again(first, batch, config, draws), first


def remixit(networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws) -> dict[str, Tensor]:
    """The teacher's estimates, mixed again with the noises that it heard in other items (Tzinis et al. 2022).

    The teacher, the prior network, gives speech s' = f(x) and noise n' = x - s'. The student learns s' from
    s' + P n', P a permutation of the batch. A share of the items learns by the objective of the warm-up, as
    in iddp.
    """
    noisy = batch["noisy"]
    with torch.no_grad():
        speech = _in_eval_mode(networks.prior, noisy)
        order = draws.uniform(len(noisy), device=noisy.device).argsort()
        remixed = speech + (noisy - speech)[order]
        noisier, target, trusted = _with_recordings((remixed, speech), networks, batch, config, draws)
    return networks.loss(noisier, target, config, trusted)


PUBLISHED: Mapping[str, Any] = {
    "prior": "current",
    "warmup_steps": 0,
    "target_share": 0.0,
    "first_share": 1.0,
    "speech_share": 0.0,
    "cleanest_of": 1,
    "cleanest_share": 1.0,
    "removed_weight": 1.0,
    "snr_db": (0.0, 10.0),
    "wsdr_weight": 1.0,
    "time_weight": 0.0,
    "spectrum_weight": 0.0,
    "loudness_weight": 0.0,
    "mse_weight": 0.8 / 600,
    "stft_weight": 0.2 / 600,
    "fidelity_weight": 0.001,
}
"""As Tu et al. 2025 publish it: (0.8 L_time + 0.2 L_stft) / 600 + L_wSDR + 0.001 |x - f(x)|."""

ALL_RECORDINGS: Mapping[str, Any] = {"cleanest_share": 1.0}

OBJECTIVES: Mapping[str, Objective] = {
    "noise2clean": Objective(noise2clean, frozenset({"noisy", "clean"}), ALL_RECORDINGS),
    "noise2noise": Objective(noise2noise, frozenset({"noisy", "noisy2"}), ALL_RECORDINGS),
    "noisy_target": Objective(noisy_target, frozenset({"noisy", "noise"}), ALL_RECORDINGS),
    "wiener_target": Objective(
        wiener_target, frozenset({"noisy", "noise"}), ALL_RECORDINGS, has_residual=True
    ),
    "recorrupted": Objective(recorrupted, frozenset({"noisy", "noise"}), ALL_RECORDINGS),
    "only_noisy": Objective(only_noisy, frozenset({"noisy"}), ALL_RECORDINGS),
    "iddp": Objective(iddp, frozenset({"noisy", "noise"}), warms_up=True, has_residual=True),
    "iddp_paper": Objective(iddp, frozenset({"noisy", "noise"}), PUBLISHED, has_residual=True),
    "remixit": Objective(
        remixit,
        frozenset({"noisy", "noise"}),
        {"prior": "average", **ALL_RECORDINGS},
        warms_up=True,
        has_residual=True,
    ),
}


def find_objective(config: ObjectiveConfig) -> tuple[Objective, ObjectiveConfig]:
    """The objective that a configuration names, and the configuration with what the objective fixes.

    Raises:
        ConfigError: there is none of this name, or a setting is given that it fixes otherwise.
    """
    if config.name not in OBJECTIVES:
        raise ConfigError(f"unknown objective {config.name!r}; the objectives are {', '.join(OBJECTIVES)}")
    objective = OBJECTIVES[config.name]
    default = ObjectiveConfig()
    for name, fixed in objective.settings.items():
        given = getattr(config, name)
        if given not in (fixed, getattr(default, name)):
            raise ConfigError(f"{config.name} fixes {name} to {fixed!r}, got {given!r}; leave it out")
    adds_noise = "noise" in objective.needs and not objective.has_residual
    if adds_noise and set(config.noise) == {"residual"}:
        raise ConfigError(
            f"{config.name} makes one pass and has no residual; give --noise white or a noise folder"
        )
    return objective, replace(config, **objective.settings)


def needs_of(objective: Objective) -> frozenset[str]:
    """The fields of a batch that an objective and its warm-up need."""
    return objective.needs | ({"noisy", "noise"} if objective.warms_up else frozenset())


def combined_loss(
    noisier: Tensor,
    estimate: Tensor,
    target: Tensor,
    config: ObjectiveConfig,
    sample_rate: int,
    trusted: Tensor | None = None,
    removed: Tensor | None = None,
) -> dict[str, Tensor]:
    """The weighted sum of the losses, and each of them that has a weight, as means over the batch.

    Losses of magnitudes count ``trusted`` of an item, from 0 to 1, (batch,); by default all of it. Where the
    targets are estimates, ``removed`` is what they took away, (batch, time): bins of which little is left
    count less in the compressed spectrum, ``config.removed_weight`` at least.
    """
    total = torch.zeros((), device=target.device)
    parts = {}
    trusted = torch.ones(len(target), device=target.device) if trusted is None else trusted
    everything = torch.ones_like(trusted)
    spectrum_error = compressed_spectrum_error
    if removed is not None and config.removed_weight < 1:
        spectrum_error = partial(_error_by_trust, removed=removed, least=config.removed_weight)
    for name, weight, share, loss in (
        ("wsdr", config.wsdr_weight, everything, partial(weighted_sdr, noisier)),
        ("time", config.time_weight, everything, relative_time_error),
        ("spectrum", config.spectrum_weight, trusted, spectrum_error),
        ("loudness", config.loudness_weight, trusted, partial(loudness_error, sample_rate=sample_rate)),
        ("mse", config.mse_weight, everything, squared_error),
        ("stft", config.stft_weight, trusted, stft_error),
        ("mrstft", config.mrstft_weight, trusted, multi_resolution_stft_error),
    ):
        if weight > 0:  # the same parts in each process, whatever its items are
            value = (share * loss(estimate, target)).mean()
            total = total + weight * value
            parts[name] = value.detach()
    return {"loss": total} | parts


def _error_by_trust(estimate: Tensor, target: Tensor, removed: Tensor, least: float) -> Tensor:
    return compressed_spectrum_error(estimate, target, trust_in_bins(target, removed, least))


def scale_to_snr(signal: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """The noise, (batch, time), scaled so that signal over noise has the power ratio ``snr_db``, (batch,)."""
    power = signal.square().mean(-1) + 1e-12
    noise_power = noise.square().mean(-1) + 1e-12
    gain = (power / noise_power * 10 ** (-snr_db / 10)).sqrt()
    return noise * gain.unsqueeze(-1)


def shuffle_pieces(noise: Tensor, draws: Draws, n_pieces: int = 10) -> Tensor:
    """Noise cut into ``n_pieces`` pieces and put together in a random order, without its mean.

    (batch, time) -> the same. The order breaks what ties the residual to the speech it was taken from; the
    few samples that do not fill a piece stay at the end.
    """
    length = noise.shape[-1] // n_pieces
    if length == 0:
        return noise - noise.mean(-1, keepdim=True)
    order = draws.uniform(len(noise), n_pieces, device=noise.device).argsort(dim=-1)
    pieces = noise[:, : length * n_pieces].reshape(len(noise), n_pieces, length)
    pieces = pieces.gather(1, order.unsqueeze(-1).expand_as(pieces)).flatten(1)
    shuffled = torch.cat((pieces, noise[:, length * n_pieces :]), dim=-1)
    return shuffled - shuffled.mean(-1, keepdim=True)


FROM_RECORDINGS = {"noisy_target": _noisier, "recorrupted": _recorrupt, "wiener_target": _filtered_first}


def _with_recordings(
    example: Example, networks: Networks, batch: Batch, config: ObjectiveConfig, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs and targets, of which a share is made from the recordings as the warm-up makes them.

    Also which targets can be trusted in losses of magnitudes, (batch,): not those of `recorrupted`.
    """
    noisy = batch["noisy"]
    from_recordings = draws.uniform(len(noisy), device=noisy.device) < config.target_share
    trusted = torch.ones(len(noisy), device=noisy.device)
    if config.target_share == 0:
        return *example, trusted
    theirs = FROM_RECORDINGS[config.warmup](networks, batch, config, draws)
    which = from_recordings.unsqueeze(-1)
    noisier, target = (torch.where(which, *pair) for pair in zip(theirs, example, strict=True))
    if config.warmup == "recorrupted":
        trusted = (~from_recordings).to(trusted.dtype)
    return noisier, target, trusted


def _renoise(residual: Tensor, batch: Batch, config: ObjectiveConfig, draws: Draws) -> Tensor:
    """The noise of the second pass: from the batch, or for a share of the items what the first pass removed.

    The residuals go round the batch by one item, so that in most cases an item meets the noise of another
    recording.
    """
    share = config.noise.count("residual") / len(config.noise)
    if share == 0:
        return batch["noise"]
    remixed = shuffle_pieces(residual.roll(1, dims=0), draws)
    if share == 1:
        return remixed
    use_residual = draws.uniform(len(residual), device=residual.device) < share
    return torch.where(use_residual.unsqueeze(-1), remixed, batch["noise"])


def _in_eval_mode(model: nn.Module, noisy: Tensor) -> Tensor:
    """The model's output with the running statistics of its norms, which the pass leaves as they are."""
    was_training = model.training
    model.eval()
    estimate: Tensor = model(noisy)
    model.train(was_training)
    return estimate


def _added_noise(batch: Batch, snr_db: tuple[float, float], draws: Draws) -> Tensor:
    """The noise of the batch at an SNR against its recordings, drawn within a range in dB; (batch, time)."""
    noisy = batch["noisy"]
    return scale_to_snr(noisy, batch["noise"], _draw_snr(noisy, snr_db, draws))


def _draw_snr(signal: Tensor, snr_db: tuple[float, float], draws: Draws) -> Tensor:
    low, high = snr_db
    return low + (high - low) * draws.uniform(len(signal), device=signal.device)
