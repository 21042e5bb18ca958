"""Objectives: what the network is asked for, what it must not learn from, and that each can be learned."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from miase.classical import wiener
from miase.config import ModelConfig, ObjectiveConfig
from miase.errors import ConfigError
from miase.losses import relative_time_error
from miase.models import MODELS, build_model
from miase.objectives import (
    OBJECTIVES,
    Draws,
    Networks,
    find_objective,
    neighbours,
    scale_to_snr,
    shuffle_pieces,
)
from signals import speech_like, white

RATE = 8000
SMALL = {"sample_rate": RATE, "n_fft": 64, "hop_length": 32, "n_blocks": 1, "window_frames": 32}


class Recorder(nn.Module):
    """Multiplies by a gain, one in evaluation mode and another in training, and keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.calls = []

    def forward(self, noisy):
        self.calls.append((noisy.detach().clone(), self.training, torch.is_grad_enabled()))
        return noisy * self.gain * (0.5 if self.training else 0.75)


class Chopper(Recorder):
    """Removes the second half of each item; what it removed lies there and nowhere else."""

    def forward(self, noisy):
        super().forward(noisy)
        keep = torch.ones_like(noisy)
        keep[:, noisy.shape[-1] // 2 :] = 0
        return noisy * keep * self.gain


def snr_db(signal, noise):
    return 10 * torch.log10(signal.square().sum(-1) / noise.square().sum(-1))


def make_batch(size=4, n_samples=4000, seed=0):
    seconds = n_samples / RATE
    clean = torch.stack([torch.tensor(speech_like(seconds, RATE, seed + i)).float() for i in range(size)])
    noise = torch.stack([torch.tensor(white(seconds, RATE, 50 + seed + i)).float() for i in range(size)])
    return {
        "clean": clean,
        "noisy": clean + 0.05 * torch.roll(noise, 1, 0),
        "noisy2": clean + 0.05 * torch.roll(noise, 2, 0),
        "noise": noise,
    }


def call(name, networks, config=None, seed=0, batch=None):
    """The parts of the loss, with what the objective fixes in the configuration."""
    _, config = find_objective(replace(config or ObjectiveConfig(), name=name))
    batch = make_batch() if batch is None else batch
    return OBJECTIVES[name].compute(networks, batch, config, Draws(seed))


@pytest.mark.parametrize("snr", [-10.0, 0.0, 25.0])
def test_noise_gets_the_snr_asked_for(snr):
    batch = make_batch()
    asked = snr + torch.arange(4.0)
    scaled = scale_to_snr(batch["clean"], batch["noise"], asked)
    torch.testing.assert_close(snr_db(batch["clean"], scaled), asked, atol=1e-3, rtol=0)


def test_silence_stays_finite():
    assert torch.equal(scale_to_snr(torch.ones(1, 9), torch.zeros(1, 9), torch.zeros(1)), torch.zeros(1, 9))
    assert scale_to_snr(torch.zeros(1, 9), torch.ones(1, 9), torch.zeros(1)).isfinite().all()


@pytest.mark.parametrize("n_samples", [1, 9, 10, 1000, 1007])
def test_shuffled_pieces_are_the_same_samples_without_their_mean(n_samples):
    noise = torch.randn(3, n_samples, generator=torch.Generator().manual_seed(0)) + 2
    shuffled = shuffle_pieces(noise, Draws(1))
    expected = noise - noise.mean(-1, keepdim=True)
    torch.testing.assert_close(shuffled.sort(-1).values, expected.sort(-1).values)
    assert shuffled.mean(-1).abs().max() < 1e-6


def test_shuffling_keeps_ten_pieces_whole_and_orders_each_item_for_itself():
    noise = torch.arange(2000.0).reshape(2, 1000)
    shuffled = shuffle_pieces(noise, Draws(0))
    jumps = (shuffled.diff(dim=-1) - 1).abs() > 0.5
    assert ((jumps.sum(-1) > 4) & (jumps.sum(-1) <= 9)).all()
    assert set((jumps.nonzero()[:, 1] + 1).tolist()) <= set(range(100, 1000, 100))
    assert not torch.equal(shuffled[0], shuffled[1])
    assert not torch.equal(shuffled, shuffle_pieces(noise, Draws(1)))


def test_the_first_pass_has_no_gradient_and_leaves_the_norms_alone():
    torch.manual_seed(0)
    prior, model = build_model(ModelConfig(**SMALL)), build_model(ModelConfig(**SMALL))
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    prior.train()
    call("iddp", Networks(model, prior))["loss"].backward()
    assert prior.training
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())
    assert all(parameter.grad is None for parameter in prior.parameters())
    assert any(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_one_network_serves_both_passes_and_its_norms_see_the_second_alone():
    torch.manual_seed(0)
    model = build_model(ModelConfig(**SMALL)).train()
    call("iddp", Networks(model, model))
    tracked = [int(value) for name, value in model.state_dict().items() if "num_batches" in name]
    assert tracked
    assert set(tracked) == {1}


@pytest.mark.parametrize("noise", [("white",), ("residual",), ("synthetic", "residual")])
def test_iddp_learns_the_first_pass_from_more_noise(noise):
    """The network's input less 0.75 times the recording is noise at an SNR of the range asked for."""
    model, batch = Recorder().train(), make_batch(size=64, n_samples=800)
    parts = call(
        "iddp",
        Networks(model, model),
        ObjectiveConfig(noise=noise, snr_db=(3.0, 9.0), target_share=0, first_share=1, cleanest_of=1),
        batch=batch,
    )
    (first, training, grad), (second, training_too, grad_too) = model.calls
    assert (training, grad) == (False, False)
    assert (training_too, grad_too) == (True, True)
    torch.testing.assert_close(first, batch["noisy"])
    target = 0.75 * batch["noisy"]
    drawn = snr_db(target, second - target)
    assert drawn.min() > 2.99
    assert drawn.max() < 9.01
    assert drawn.max() - drawn.min() > 4
    # The loss compares with that target: a network whose second output is it has none of the time part.
    expected = relative_time_error(0.5 * second, target).mean()
    torch.testing.assert_close(parts["time"], expected)


def test_the_average_can_make_the_first_pass():
    model, prior = Recorder(), Recorder()
    call("iddp", Networks(model, prior))
    assert len(model.calls) == len(prior.calls) == 1


def test_the_residual_goes_round_the_batch():
    """Item 0 removes a loud half, the others nothing: only item 1 gets its pieces."""
    noisy = torch.ones(3, 1000)
    noisy[1:, 500:] = 0
    noisy[0, 500:] = torch.linspace(-1, 1, 500)
    model = Chopper()
    call(
        "iddp",
        Networks(model, model),
        ObjectiveConfig(noise=("residual",), target_share=0, first_share=1, cleanest_of=1),
        batch={"noisy": noisy},
    )
    target = noisy.clone()
    target[:, 500:] = 0
    added = model.calls[1][0] - target
    assert added[1].abs().max() > 0.1
    assert added[0].abs().max() == 0
    assert added[2].abs().max() == 0


def test_residual_and_other_noise_share_the_items():
    noisy = torch.ones(400, 100)
    noisy[:, 50:] = torch.linspace(-1, 1, 50)
    model = Chopper()
    batch = {"noisy": noisy, "noise": torch.full((400, 100), 3.0)}
    call(
        "iddp",
        Networks(model, model),
        ObjectiveConfig(noise=("white", "white", "residual"), target_share=0, first_share=1, cleanest_of=1),
        batch=batch,
    )
    target = noisy.clone()
    target[:, 50:] = 0
    added = model.calls[1][0] - target
    from_batch = (added.std(-1) < 1e-4).float().mean()  # the constant is the batch's noise
    assert 0.55 < from_batch < 0.78


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_the_targets_is_the_recording(share):
    model, batch = Recorder(), make_batch(size=4)
    config = ObjectiveConfig(
        noise=("white",),
        warmup="noisy_target",
        target_share=share,
        cleanest_of=1,
        snr_db=(200.0, 200.0),
    )
    call("iddp", Networks(model, model), config, batch=batch)
    gain = 1.0 if share else 1 - 0.85 * 0.25  # the stub takes a quarter away, the first pass 0.85 of that
    torch.testing.assert_close(model.calls[1][0], gain * batch["noisy"], atol=1e-5, rtol=0)


def test_wiener_items_have_less_noise_than_the_recording_in_input_and_target():
    model, batch = Recorder(), make_batch(size=4, n_samples=16000)
    config = ObjectiveConfig(
        noise=("white",), target_share=1.0, first_share=0.7, cleanest_of=1, snr_db=(200.0, 200.0)
    )
    call("iddp", Networks(model, model), config, batch=batch)
    noisy = batch["noisy"]
    filtered = torch.from_numpy(wiener(noisy.numpy(), 16000))
    torch.testing.assert_close(model.calls[1][0], noisy + 0.7 * (filtered - noisy), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["iddp", "wiener_target"])
def test_the_cleanest_of_some_recordings_takes_all_their_places(name):
    torch.manual_seed(0)
    bursts = torch.randn(5, 16000) * (torch.arange(16000) % 8000 < 4000)
    noisy = bursts + torch.tensor([0.1, 1.0, 1.0, 0.1, 0.5]).unsqueeze(-1) * torch.randn(5, 16000)
    model = Chopper()  # the first pass of iddp; there, the second half is noise
    first = noisy * (torch.arange(16000) < 8000)
    noisy[:, 8000:] *= torch.tensor([0.1, 1.0, 1.0, 0.1, 0.5]).unsqueeze(-1)
    if name == "wiener_target":
        first = torch.from_numpy(wiener(noisy.numpy(), 16000))
    cleanest = int((first.square().mean(-1) / (noisy - first).square().mean(-1)).argmax())
    config = ObjectiveConfig(noise=("white",), target_share=0, first_share=1, snr_db=(200.0, 200.0))
    batch = {"noisy": noisy, "noise": torch.randn(5, 16000)}
    for n, items in ((1, [0, 1, 2, 3, 4]), (2, [0, 0, 3, 3, 4]), (3, [0, 0, 0, 3, 3]), (9, 5 * [cleanest])):
        call(name, Networks(model, model), replace(config, cleanest_of=n), batch=batch)
        torch.testing.assert_close(model.calls[-1][0], first[items], atol=1e-4, rtol=0)


def test_recorrupted_items_count_for_the_waveform_alone():
    """Their targets hold noise, which a loss of magnitudes would teach to keep."""
    model, batch = Recorder(), make_batch(size=4)
    everything = ObjectiveConfig(noise=("white",), warmup="recorrupted", target_share=1.0, cleanest_of=1)
    parts = call("iddp", Networks(model, model), everything, batch=batch)
    noisier = model.calls[1][0]
    target = 2 * batch["noisy"] - noisier  # what was added to the recording is taken from it
    torch.testing.assert_close(parts["time"], relative_time_error(0.5 * noisier, target).mean())
    assert parts["spectrum"] == 0
    half = replace(everything, target_share=0.5)
    parts = call("iddp", Networks(model, model), half, batch=make_batch(size=64, n_samples=800))
    assert parts["loss"] > parts["wsdr"] + parts["time"] + parts["spectrum"]  # which has a weight of 2


def test_noisy_target_learns_the_recording_from_more_noise():
    model, batch = Recorder(), make_batch(size=64, n_samples=800)
    parts = call("noisy_target", Networks(model, model), ObjectiveConfig(snr_db=(3.0, 9.0)), batch=batch)
    ((noisier, _, _),) = model.calls
    drawn = snr_db(batch["noisy"], noisier - batch["noisy"])
    assert drawn.min() > 2.99
    assert drawn.max() < 9.01
    torch.testing.assert_close(parts["time"], relative_time_error(0.5 * noisier, batch["noisy"]).mean())


def test_recorrupted_takes_away_what_it_added():
    """Input and target have the recording as their mean, and differ by twice a noise of 0 to 10 dB."""
    model, batch = Recorder(), make_batch(size=64, n_samples=800)
    parts = call("recorrupted", Networks(model, model), batch=batch)
    ((noisier, _, _),) = model.calls
    added = noisier - batch["noisy"]
    drawn = snr_db(batch["noisy"], added)
    assert drawn.min() > -0.01
    assert drawn.max() < 10.01
    torch.testing.assert_close(
        parts["time"], relative_time_error(0.5 * noisier, batch["noisy"] - added).mean()
    )
    assert "spectrum" not in parts


def test_recorrupted_has_the_clean_speech_as_its_best_gain():
    """A gain that makes the mean squared error least is that of the clean speech, not of the recording."""
    torch.manual_seed(0)
    speech, noise, other = torch.randn(3, 64, 4000)
    level = 10 ** (-5 / 20)
    noisy, added = speech + level * noise, level * other
    noisier, target = noisy + added, noisy - added
    best = (noisier * target).sum() / (noisier * noisier).sum()
    against_clean = (noisier * speech).sum() / (noisier * noisier).sum()
    of_noisy_target = (noisier * noisy).sum() / (noisier * noisier).sum()
    assert abs(best - against_clean) < 0.01
    assert of_noisy_target > against_clean + 0.15


def test_noise2clean_learns_the_clean_speech():
    model, batch = Recorder(), make_batch()
    parts = call("noise2clean", Networks(model, model), batch=batch)
    ((noisy, _, _),) = model.calls
    torch.testing.assert_close(noisy, batch["noisy"])
    torch.testing.assert_close(parts["time"], relative_time_error(0.5 * noisy, batch["clean"]).mean())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_reads_the_fields_it_declares_and_no_others(name):
    model, batch = Recorder(), make_batch()
    needs = OBJECTIVES[name].needs
    call(name, Networks(model, model), batch={field: batch[field] for field in needs})
    for field in needs:
        with pytest.raises(KeyError, match=field):
            call(name, Networks(model, model), batch={f: batch[f] for f in needs if f != field})


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_part_of_a_batch_gets_its_share_of_the_draws(name):
    """The loss of a batch is the mean of the losses of its halves, wherever those are computed."""
    if name == "remixit":
        pytest.skip("its items are mixed with each other")
    batch, config = make_batch(), replace(ObjectiveConfig(noise=("white",)), name=name)
    objective, config = find_objective(config)
    model = Recorder()
    whole = objective.compute(Networks(model, model), batch, config, Draws(7))["loss"]
    halves = [
        objective.compute(
            Networks(model, model),
            {field: value[2 * part : 2 * part + 2] for field, value in batch.items()},
            config,
            Draws(7, part, 2),
        )["loss"]
        for part in range(2)
    ]
    torch.testing.assert_close(whole, (halves[0] + halves[1]) / 2)


def test_noise2noise_learns_the_other_take():
    model, batch = Recorder(), make_batch()
    parts = call("noise2noise", Networks(model, model), batch=batch)
    ((noisy, _, _),) = model.calls
    torch.testing.assert_close(noisy, batch["noisy"])
    torch.testing.assert_close(parts["time"], relative_time_error(0.5 * noisy, batch["noisy2"]).mean())


@pytest.mark.parametrize("n_samples", [2, 7, 1000])
def test_neighbours_are_each_pair_once(n_samples):
    samples = torch.arange(float(n_samples)).repeat(3, 1)
    choice = Draws(0).uniform(3, n_samples // 2) < 0.5
    first, second = neighbours(samples, choice)
    assert first.shape == (3, n_samples // 2)
    assert torch.equal(torch.minimum(first, second), samples[:, : n_samples // 2 * 2 : 2])
    assert ((first - second).abs() == 1).all()
    assert torch.equal(first < second, choice)


def test_only_noisy_learns_one_half_from_the_other():
    """Equations 3 to 6 of Wu et al. with a network that halves in training and takes 3/4 in evaluation."""
    model, batch = Recorder().train(), make_batch()
    parts = call("only_noisy", Networks(model, model), ObjectiveConfig(gamma=2.0), batch=batch)
    (half, training, grad), (whole, training_too, grad_too) = model.calls
    assert (training, grad, training_too, grad_too) == (True, True, False, False)
    noisy = batch["noisy"]
    torch.testing.assert_close(whole, noisy)
    other = noisy[:, 0::2] + noisy[:, 1::2] - half  # the sample of each pair that was not taken
    torch.testing.assert_close(parts["time"], relative_time_error(0.5 * half, other).mean())
    gap = 0.5 * half - other - 0.75 * half + 0.75 * other
    expected = (gap.square().mean(-1) / noisy.square().mean(-1)).mean()
    torch.testing.assert_close(parts["regularisation"], expected)
    weighted = parts["wsdr"] + parts["time"] + 2.0 * parts["spectrum"] + 2.0 * expected
    torch.testing.assert_close(parts["loss"], weighted)


def test_remixit_mixes_the_teachers_noises_anew():
    model, teacher, batch = Recorder().train(), Recorder().eval(), make_batch(size=8)
    parts = call("remixit", Networks(model, teacher), ObjectiveConfig(target_share=0), batch=batch)
    ((_, _, grad),), ((mixed, _, _),) = teacher.calls, model.calls
    assert not grad
    target = 0.75 * batch["noisy"]
    noises = mixed - target
    distance = (noises.unsqueeze(1) - 0.25 * batch["noisy"].unsqueeze(0)).abs().amax(-1)
    matches = distance < 1e-6
    assert torch.equal(matches.sum(0), torch.ones(8))  # a permutation of all noises
    assert torch.equal(matches.sum(1), torch.ones(8))
    assert not matches.diagonal().all()
    torch.testing.assert_close(parts["time"], relative_time_error(0.5 * mixed, target).mean())


def test_the_published_setting_is_the_equation_of_the_paper():
    """(0.8 L_time + 0.2 L_stft) / 600 + L_wSDR + 0.001 |x - f(x)|, prior the network, SNR 0 to 10 dB."""
    model, batch = Recorder().train(), make_batch(size=64, n_samples=800)
    parts = call("iddp_paper", Networks(model, model), ObjectiveConfig(noise=("white",)), batch=batch)
    expected = (0.8 * parts["mse"] + 0.2 * parts["stft"]) / 600 + parts["wsdr"] + 0.001 * parts["fidelity"]
    torch.testing.assert_close(parts["loss"], expected)
    target, noisier = 0.75 * batch["noisy"], model.calls[1][0]
    drawn = snr_db(target, noisier - target)
    assert drawn.min() > -0.01
    assert drawn.max() < 10.01
    assert find_objective(ObjectiveConfig("iddp_paper"))[1].prior == "current"


def test_what_an_objective_fixes_cannot_be_given_otherwise():
    with pytest.raises(ConfigError, match=r"iddp_paper fixes target_share to 0\.0, got 0\.3"):
        find_objective(ObjectiveConfig("iddp_paper", target_share=0.3))
    with pytest.raises(ConfigError, match="remixit fixes prior to 'average', got 'current'"):
        find_objective(ObjectiveConfig("remixit", prior="current"))
    assert find_objective(find_objective(ObjectiveConfig("iddp_paper"))[1])


def test_only_the_supervised_objective_needs_clean_speech():
    assert {name for name, objective in OBJECTIVES.items() if "clean" in objective.needs} == {"noise2clean"}


def test_fidelity_ties_the_network_to_the_recording():
    def gradient(weight):
        model, batch = Recorder().train(), make_batch()
        parts = call("iddp", Networks(model, model), ObjectiveConfig(fidelity_weight=weight), batch=batch)
        parts["loss"].backward()
        return model.gain.grad, parts

    without, with_it = gradient(0.0), gradient(2.0)
    assert "fidelity" not in without[1]
    # The stub halves the recording, so the distance falls as the gain rises: (1 - gain / 2) |x|.
    expected = -0.5 * 2.0 * make_batch()["noisy"].norm(dim=-1).mean()
    torch.testing.assert_close(with_it[0] - without[0], expected, atol=1e-4, rtol=1e-4)


def test_weights_weigh():
    model, batch = Recorder().eval(), make_batch()
    names = [f"{name}_weight" for name in ("wsdr", "time", "spectrum", "mse", "stft", "mrstft")]
    for weight in names:
        weights = dict.fromkeys(names, 0.0) | {weight: 3.0}
        parts = call("noise2clean", Networks(model, model), ObjectiveConfig(**weights), batch=batch)
        torch.testing.assert_close(parts["loss"], 3.0 * parts[weight.removesuffix("_weight")])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_same_generator_gives_the_same_loss(name):
    torch.manual_seed(0)
    model, batch = Recorder(), make_batch()
    losses = [call(name, Networks(model, model), seed=seed, batch=batch)["loss"] for seed in (0, 0, 1)]
    assert losses[0] == losses[1]
    assert (losses[1] == losses[2]) == (name in ("noise2clean", "noise2noise"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_falls_on_one_batch_with_finite_gradients(name):
    torch.manual_seed(0)
    model, batch = build_model(ModelConfig(**SMALL)), make_batch(n_samples=2000)
    prior = build_model(ModelConfig(**SMALL)).eval()  # a fixed one: the same question at each step
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        loss = call(name, Networks(model, prior), batch=batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1 * abs(losses[0])


@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_step_lowers_the_loss_of_every_network(name, network):
    torch.manual_seed(0)
    config = ModelConfig(network, **SMALL)
    model, prior, batch = build_model(config), build_model(config).eval(), make_batch(n_samples=1000)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    before = call(name, Networks(model, prior), batch=batch)["loss"]
    before.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    optimizer.step()
    assert call(name, Networks(model, prior), batch=batch)["loss"] < before


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("silent", ["noisy", "noise", "clean"])
def test_silence_gives_finite_gradients(name, silent):
    torch.manual_seed(0)
    batch = make_batch(n_samples=1000)
    batch[silent] = torch.zeros_like(batch[silent])
    model = build_model(ModelConfig(**SMALL))
    call(name, Networks(model, model), batch=batch)["loss"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
