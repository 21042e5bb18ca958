"""Objectives: what the network is asked for, what it must not learn from, and that each can be learned."""

import pytest
import torch
from torch import nn

from miase.config import ModelConfig, ObjectiveConfig
from miase.losses import relative_time_error
from miase.models import build_model
from miase.objectives import OBJECTIVES, Networks, scale_to_snr, shuffle_pieces
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
    return {"clean": clean, "noisy": clean + 0.05 * torch.roll(noise, 1, 0), "noise": noise}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def call(name, networks, config=None, seed=0, batch=None):
    return OBJECTIVES[name].compute(
        networks, batch or make_batch(), config or ObjectiveConfig(), generator(seed)
    )


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
    noise = torch.randn(3, n_samples, generator=generator()) + 2
    shuffled = shuffle_pieces(noise, generator(1))
    expected = noise - noise.mean(-1, keepdim=True)
    torch.testing.assert_close(shuffled.sort(-1).values, expected.sort(-1).values)
    assert shuffled.mean(-1).abs().max() < 1e-6


def test_shuffling_keeps_ten_pieces_whole_and_orders_each_item_for_itself():
    noise = torch.arange(2000.0).reshape(2, 1000)
    shuffled = shuffle_pieces(noise, generator())
    jumps = (shuffled.diff(dim=-1) - 1).abs() > 0.5
    assert ((jumps.sum(-1) > 4) & (jumps.sum(-1) <= 9)).all()
    assert set((jumps.nonzero()[:, 1] + 1).tolist()) <= set(range(100, 1000, 100))
    assert not torch.equal(shuffled[0], shuffled[1])
    assert not torch.equal(shuffled, shuffle_pieces(noise, generator(1)))


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
        ObjectiveConfig(noise=noise, snr_db=(3.0, 9.0), target_share=0),
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
        ObjectiveConfig(noise=("residual",), target_share=0),
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
        ObjectiveConfig(noise=("white", "white", "residual"), target_share=0),
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
    config = ObjectiveConfig(noise=("white",), target_share=share, snr_db=(200.0, 200.0))
    call("iddp", Networks(model, model), config, batch=batch)
    gain = 1.0 if share else 0.75
    torch.testing.assert_close(model.calls[1][0], gain * batch["noisy"], atol=1e-5, rtol=0)


def test_noisy_target_learns_the_recording_from_more_noise():
    model, batch = Recorder(), make_batch(size=64, n_samples=800)
    parts = call("noisy_target", Networks(model, model), ObjectiveConfig(snr_db=(3.0, 9.0)), batch=batch)
    ((noisier, _, _),) = model.calls
    drawn = snr_db(batch["noisy"], noisier - batch["noisy"])
    assert drawn.min() > 2.99
    assert drawn.max() < 9.01
    torch.testing.assert_close(parts["time"], relative_time_error(0.5 * noisier, batch["noisy"]).mean())


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
    # The stub halves the recording, so the distance falls as the gain rises: |1 - gain / 2| by the level.
    noisy = make_batch()["noisy"]
    expected = -0.5 * 2.0 * relative_time_error(torch.zeros_like(noisy), noisy).mean()
    torch.testing.assert_close(with_it[0] - without[0], expected, atol=1e-4, rtol=1e-4)


def test_weights_weigh():
    model, batch = Recorder().eval(), make_batch()
    for weight in ("wsdr_weight", "time_weight", "spectrum_weight"):
        weights = {"wsdr_weight": 0.0, "time_weight": 0.0, "spectrum_weight": 0.0, weight: 3.0}
        parts = call("noise2clean", Networks(model, model), ObjectiveConfig(**weights), batch=batch)
        torch.testing.assert_close(parts["loss"], 3.0 * parts[weight.removesuffix("_weight")])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_same_generator_gives_the_same_loss(name):
    torch.manual_seed(0)
    model, batch = Recorder(), make_batch()
    losses = [call(name, Networks(model, model), seed=seed, batch=batch)["loss"] for seed in (0, 0, 1)]
    assert losses[0] == losses[1]
    assert (losses[1] == losses[2]) == (name == "noise2clean")


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


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("silent", ["noisy", "noise", "clean"])
def test_silence_gives_finite_gradients(name, silent):
    torch.manual_seed(0)
    batch = make_batch(n_samples=1000)
    batch[silent] = torch.zeros_like(batch[silent])
    model = build_model(ModelConfig(**SMALL))
    call(name, Networks(model, model), batch=batch)["loss"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
