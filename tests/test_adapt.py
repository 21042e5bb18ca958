"""Adapting a model: what it leaves behind, how it goes on, and what the gate lets through."""

import copy
import json
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file
from torch import nn

from miase import Enhancer, adapt, cli, dataset, gate, train
from miase.audio import load, probe
from miase.checkpoint import read_config, save_pretrained
from miase.classical import CLASSICAL
from miase.config import AdaptConfig, DataConfig, ModelConfig, ObjectiveConfig, RunConfig, TrainingConfig
from miase.config_file import load_toml
from miase.errors import ConfigError, CorpusError, TrainingError
from miase.gate import Comparison, compare
from miase.learner import Learner
from miase.models import MODELS, Architecture, Layer, build_model
from miase.parallel import quicker_precision
from miase.train import fit
from signals import speech_like, white

RATE = 16_000
QUICK = AdaptConfig(minutes=0.002, device="cpu", threads=1)
NARROW = Architecture(
    tuple(Layer(4, (3, 3), stride) for stride in ((2, 2), (2, 2), (2, 2), (2, 2), (2, 1))), None
)
NETWORK = ModelConfig("dcunet10", sample_rate=RATE, n_fft=256, hop_length=128, n_blocks=1, window_frames=32)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(MODELS, "dcunet10", NARROW)
    monkeypatch.setattr(dataset, "MIN_EPOCH_STEPS", 3)
    monkeypatch.setattr(train, "N_VALID", 2)
    monkeypatch.setattr(gate, "RATED", ())
    monkeypatch.setattr(gate, "PIECE_SECONDS", 2.0)
    monkeypatch.setattr(gate, "MOST_PIECES", 4)


@pytest.fixture
def base(tmp_path):
    torch.manual_seed(0)
    model = build_model(NETWORK)
    for weight in model.mask_out.parameters():
        weight.data *= 0.01 if weight.ndim > 1 else 1.0  # nearly the same mask everywhere: speech is kept
    save_pretrained(model, tmp_path / "base", "the card of the base")
    return tmp_path / "base"


@pytest.fixture
def noisy(tmp_path):
    for i in range(5):
        write(tmp_path / "noisy" / f"r{i}.wav", speech_like(7, RATE, i) + 0.005 * white(7, RATE, i + 50))
    return tmp_path / "noisy"


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.5 * samples, RATE)


def verdict(monkeypatch, change):
    """Let the comparison find a gain of `change` dB."""
    values = {"si_sdr_of_before": 1.0, "si_sdr_of_after": 1.0, "speech_lost": 0.0, "energy_kept": -1.0}
    before = {name: [value] * 4 for name, value in values.items()}
    after = before | {name: [1.0 + change] * 4 for name in gate.SI_SDR}
    monkeypatch.setattr(adapt, "compare", lambda *_: Comparison(before, after, 4, 2))


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def state(folder):
    return json.loads((folder / "adaptation.json").read_text())


def assert_share(base, out, share):
    """The weights of ``out`` are so far on the way from the base model to what its run made."""
    first, second, mixed = (load_file(p / "model.safetensors") for p in (base, out / "run" / "model", out))
    assert any(not torch.equal(first[name], second[name]) for name in first)
    for name, value in mixed.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.lerp(first[name], second[name], share))


def test_better_weights_are_kept_and_serve(noisy, base, tmp_path, monkeypatch):
    verdict(monkeypatch, +1.0)
    out = tmp_path / "new"
    result = adapt.adapt(noisy, out, str(base), QUICK, quiet=True)
    assert result.adapted
    assert_share(base, out, 0.5)
    assert state(out)["state"] == "adapted"
    card = (out / "README.md").read_text()
    for words in (read_config(base)[1], "Licence", "5 files", "si_sdr_of_before", "lr 0.0006", "better"):
        assert words in card
    samples = speech_like(1, RATE)
    assert Enhancer.from_pretrained(out, "cpu").enhance(samples, RATE).shape == samples.shape


@pytest.mark.parametrize(("n_silent", "share"), [(0, 0.25), (RATE // 4, 0.75)])
def test_noise_between_the_words_is_mixed_with_recordings_of_the_package(
    noisy, base, tmp_path, monkeypatch, n_silent, share
):
    def cut_gaps(noisy, estimate, rate):
        noise = white(4, rate, len(noisy))
        noise.reshape(-1, rate // 2)[:, :n_silent] *= 0.1  # of each half second: so it comes and goes
        return noise

    verdict(monkeypatch, +1.0)
    monkeypatch.setattr(adapt, "cut_gaps", cut_gaps)
    (noisy / "broken.wav").write_bytes(b"RIFF")
    out = tmp_path / "new"
    result = adapt.adapt(noisy, out, str(base), QUICK, quiet=True)
    assert result.adapted
    assert "broken.wav" in result.training.failures[0]
    assert len(list((out / "noise").iterdir())) == 4 * 5  # speeds; of 5 recordings, one is held out
    config = load_toml(out / "run" / "config.toml")
    assert config.mix.speech == (str(adapt.REHEARSAL),)
    assert config.mix.mix_noise.count(str(out / "noise")) == 3
    assert_share(base, out, share)
    assert state(out)["share"] == share
    card = (out / "README.md").read_text()
    assert f"spreads by {state(out)['noise_spread_db']:.1f} dB" in card
    assert f"{share} of the way from those of `{base}` to those that the training on the noise of the" in card


def test_what_a_killed_run_left_of_the_noise_is_made_anew(noisy, base, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt, "cut_gaps", lambda noisy, estimate, rate: white(4, rate, len(noisy)))
    infos = [probe(path) for path in sorted(noisy.iterdir())]
    write(tmp_path / "noise.part" / "stale.flac", white(1, RATE))
    model = Enhancer.from_pretrained(base, "cpu")
    assert adapt._write_noise(model, infos, tmp_path / "noise", 0)
    assert {path.name for path in (tmp_path / "noise").iterdir()} == {
        f"{i:05d}x{speed:g}.flac" for i in range(5) for speed in adapt.SPEEDS
    }
    monkeypatch.setattr(adapt, "cut_gaps", lambda noisy, estimate, rate: white(1, rate, len(noisy)))
    assert not adapt._write_noise(model, infos, tmp_path / "little", 0)


def test_noise_is_played_slower_and_faster_too(tmp_path, base, monkeypatch):
    tone = np.sin(2 * np.pi * 1000 * np.arange(12 * RATE) / RATE)
    monkeypatch.setattr(adapt, "cut_gaps", lambda *_: tone.astype(np.float32))
    write(tmp_path / "noisy" / "a.wav", tone)
    infos = [probe(tmp_path / "noisy" / "a.wav")]
    assert adapt._write_noise(Enhancer.from_pretrained(base, "cpu"), infos, tmp_path / "noise", 0)
    heard = {}
    for path in (tmp_path / "noise").iterdir():
        samples, rate = load(path)
        assert rate == RATE
        assert np.abs(samples).max() == pytest.approx(0.5, abs=1e-3)
        spectrum = np.abs(np.fft.rfft(samples[0]))
        heard[path.stem.split("x")[1]] = float(spectrum.argmax() * rate / samples.shape[-1])
    assert heard == pytest.approx({f"{speed:g}": 1000 * speed for speed in adapt.SPEEDS}, abs=1)


def test_noise_is_taken_from_the_whole_folder_when_not_all_is(tmp_path, base, monkeypatch):
    monkeypatch.setattr(adapt, "MOST_NOISE_SECONDS", 9.0)
    monkeypatch.setattr(adapt, "LOOKED_THROUGH_SECONDS", 2.0)
    heard = []
    monkeypatch.setattr(adapt, "cut_gaps", lambda noisy, *_: heard.append(noisy) or noisy)
    for i in range(20):
        write(tmp_path / "noisy" / f"r{i:02d}.wav", np.arange(1, 8 * RATE + 1) / (8 * RATE))
    infos = [probe(path) for path in sorted((tmp_path / "noisy").iterdir())]
    adapt._write_noise(Enhancer.from_pretrained(base, "cpu"), infos, tmp_path / "noise", 0)
    assert len(heard) == 5  # of 2 s each
    numbers = sorted(int(path.stem.split("x")[0]) for path in (tmp_path / "noise").iterdir())
    assert numbers[-1] - numbers[0] > 5
    assert np.ptp([noisy[0] for noisy in heard]) > 0.1  # from different places


def test_the_precision_asked_for_is_that_of_the_run(noisy, base, tmp_path, monkeypatch):
    verdict(monkeypatch, +1.0)
    out = tmp_path / "new"
    config = AdaptConfig(minutes=0.002, device="cpu", precision="bf16-mixed", threads=1)
    assert adapt.adapt(noisy, out, str(base), config, quiet=True).adapted
    assert load_toml(out / "run" / "config.toml").training.precision == "bf16-mixed"
    assert {value.dtype for value in load_file(out / "model.safetensors").values()} == {
        value.dtype for value in load_file(base / "model.safetensors").values()
    }


@pytest.mark.parametrize("quicker", ["bf16-mixed", "32-true"])
def test_by_default_the_run_has_the_precision_in_which_a_cpu_is_quicker(
    noisy, base, tmp_path, monkeypatch, quicker
):
    verdict(monkeypatch, +1.0)
    asked = []
    monkeypatch.setattr(adapt, "quicker_precision", lambda *of: asked.append(of) or quicker)
    config = AdaptConfig(minutes=0.002, device="cpu", threads=1)
    adapt.adapt(noisy, tmp_path / "new", str(base), config, quiet=True)
    assert load_toml(tmp_path / "new" / "run" / "config.toml").training.precision == quicker
    assert len(asked) == 1
    adapt.adapt(noisy, tmp_path / "other", str(base), replace(config, precision="32-true"), quiet=True)
    assert len(asked) == 1


@pytest.mark.parametrize(("slow", "quicker"), [(True, "32-true"), (False, "bf16-mixed")])
def test_the_quicker_precision_is_measured_and_leaves_the_network_as_it_is(slow, quicker):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(1)

        def forward(self, noisy):
            if torch.is_autocast_enabled("cpu") is slow:
                began = time.process_time()
                while time.process_time() < began + 0.02:
                    pass
            return self.norm(noisy.unsqueeze(1)).squeeze(1)

    network = Network()
    before = copy.deepcopy(network.state_dict())
    assert quicker_precision(network, RATE) == quicker
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_the_quicker_precision_of_each_network_is_one_of_both(name):
    model = build_model(ModelConfig(name, n_fft=64, hop_length=16, n_blocks=1, sample_rate=4000))
    assert quicker_precision(model, 4000) in ("32-true", "bf16-mixed")


def test_no_noise_is_cut_that_nobody_asked_for(noisy, base, tmp_path, monkeypatch):
    verdict(monkeypatch, +1.0)
    monkeypatch.setattr(adapt, "cut_gaps", lambda *_: pytest.fail("noise was cut"))
    config = AdaptConfig(minutes=0.002, device="cpu", threads=1, noise=("white",))
    assert adapt.adapt(noisy, tmp_path / "new", str(base), config, quiet=True).adapted


def test_rehearsal_is_at_the_rate_that_adapting_expects():
    infos = [
        probe(path) for folder in (adapt.REHEARSAL, adapt.JUDGED_ON) for path in sorted(folder.glob("*.ogg"))
    ]
    assert {info.sample_rate for info in infos} == {adapt.REHEARSAL_RATE}
    assert sum(info.seconds for info in infos) > 600


def test_weights_that_are_no_better_leave_the_old_ones(noisy, base, tmp_path, monkeypatch):
    verdict(monkeypatch, -1.0)
    out = tmp_path / "new"
    assert not adapt.adapt(noisy, out, str(base), QUICK, quiet=True).adapted
    assert weights(out) == weights(base)
    assert (out / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert state(out)["state"] == "kept"
    assert "unchanged" in (out / "README.md").read_text()
    with pytest.raises(TrainingError, match="finished adaptation"):
        adapt.adapt(noisy, out, str(base), QUICK, quiet=True)


@pytest.mark.parametrize(("change", "code"), [(+1.0, 0), (-1.0, 3)])
def test_the_exit_code_tells(noisy, base, tmp_path, monkeypatch, capsys, change, code):
    verdict(monkeypatch, change)
    out = tmp_path / "new"
    flags = ["--minutes", "0.002", "--threads", "1", "--device", "cpu", "-q"]
    assert cli.run(["adapt", str(noisy), "-m", str(base), "-o", str(out), *flags]) == code
    assert ("holds the weights of" in capsys.readouterr().err) == (code == 3)


def test_a_stopped_adaptation_holds_the_old_weights_and_goes_on(noisy, base, tmp_path, monkeypatch):
    verdict(monkeypatch, +1.0)
    out = tmp_path / "new"
    real = Learner.step

    def step_and_stop(self, batch):
        values = real(self, batch)
        if self.progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return values

    monkeypatch.setattr(Learner, "step", step_and_stop)
    long = AdaptConfig(minutes=10, device="cpu", threads=1)
    assert adapt.adapt(noisy, out, str(base), long, quiet=True).comparison is None
    assert weights(out) == weights(base)
    assert "not finished" in (out / "README.md").read_text()
    with pytest.raises(TrainingError, match="begun with lr"):
        adapt.adapt(noisy, out, str(base), AdaptConfig(lr=1e-5), quiet=True)
    monkeypatch.setattr(Learner, "step", real)
    assert adapt.adapt(noisy, out, str(base), QUICK, quiet=True).adapted
    lines = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "train"][:2] == [1, 2]
    assert weights(out) != weights(base)


def test_a_folder_of_noise_is_refused_before_anything_is_written(base, tmp_path):
    for i in range(4):
        write(tmp_path / "noise" / f"{i}.wav", 0.1 * white(10, RATE, i))
    with pytest.raises(CorpusError, match="hold speech"):
        adapt.adapt(tmp_path / "noise", tmp_path / "new", str(base), QUICK, quiet=True)
    assert not (tmp_path / "new").exists()


def test_a_folder_with_other_things_is_left_alone(noisy, base):
    with pytest.raises(TrainingError, match="no adaptation"):
        adapt.adapt(noisy, base, str(base), QUICK, quiet=True)


class System:
    """A function of samples in place of a model."""

    def __init__(self, function):
        self.function = function

    def enhance(self, samples, sample_rate):
        return self.function(samples)


IDENTITY = System(lambda samples: samples)
WIENER = System(lambda samples: CLASSICAL["wiener"].enhance(samples[None].astype(np.float32), RATE)[0])


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (WIENER, ""),
        (IDENTITY, "gained 0.00"),
        (System(lambda samples: 0.01 * samples), "in level"),
        (System(np.zeros_like), "loses speech"),
        (System(lambda samples: white(len(samples) / RATE, RATE, 7)), "misses"),
    ],
    ids=["wiener", "identity", "faint", "silence", "noise"],
)
def test_the_gate_lets_through_what_is_better(noisy, after, words):
    infos = [probe(path) for path in sorted(noisy.iterdir())]
    comparison = compare(IDENTITY, after, infos)
    assert comparison.n_pieces >= gate.FEWEST_PIECES
    assert words in comparison.sentence()
    assert comparison.passed == (words == "")
    json.dumps(comparison.figures(), allow_nan=False)


@pytest.mark.parametrize(("gain", "passed"), [(0.4, False), (3.0, True)], ids=["unsure", "clear"])
def test_a_clear_gain_on_speech_of_others_counts_where_the_first_estimates_hold_the_noise(gain, passed):
    before = {name: [1.0, 1.1, 0.9] for name in (*gate.SI_SDR, "speech_lost", "energy_kept")}
    after = before | {"si_sdr_of_before": [0.0, 0.1, -0.1]}
    others = {gate.OF_OTHERS: [4.0, 6.0, 8.0]}, {gate.OF_OTHERS: [4.0 + gain, 6.0 + 2 * gain, 8.0 + gain]}
    assert not Comparison(before, after, 3, 3).passed
    assert Comparison(before | others[0], after | others[1], 3, 3).passed == passed
    lost = after | others[1] | {"speech_lost": [9.0] * 3}
    assert not Comparison(before | others[0], lost, 3, 3).passed


def test_speech_of_others_is_judged_with_the_noise_of_the_recordings(noisy, tmp_path):
    for i in range(3):
        write(tmp_path / "others" / f"o{i}.wav", speech_like(3, RATE, 70 + i))
    infos = [probe(path) for path in sorted(noisy.iterdir())]
    silencing = System(lambda samples: samples * (np.arange(len(samples)) % RATE > RATE // 4))
    assert gate.OF_OTHERS not in compare(silencing, IDENTITY, infos).before
    comparison = compare(silencing, IDENTITY, infos, tmp_path / "others")
    np.testing.assert_allclose(comparison.after[gate.OF_OTHERS], [gate.ADDED_SNR_DB] * 3, atol=0.3)
    assert max(comparison.before[gate.OF_OTHERS]) < gate.ADDED_SNR_DB


def test_without_speech_there_is_no_judging(tmp_path):
    write(tmp_path / "noise.wav", 0.1 * white(8, RATE))
    comparison = compare(IDENTITY, WIENER, [probe(tmp_path / "noise.wav")])
    assert not comparison.passed
    assert "hold speech" in comparison.sentence()


RATINGS = ("dnsmos_ovrl", "dnsmos_sig")


def test_speech_lost_and_ratings_stop_what_gains(monkeypatch):
    before = {name: [1.0, 1.1, 0.9] for name in (*gate.SI_SDR, "speech_lost", "energy_kept", *RATINGS)}
    better = before | {name: [2.0, 2.1, 2.0] for name in gate.SI_SDR}
    assert Comparison(before, better, 3, 3).passed
    spoilt = [
        ("speech_lost", [9.0] * 3),
        ("energy_kept", [-9.0] * 3),
        *((name, [0.5] * 3) for name in RATINGS),
    ]
    for name, values in spoilt:
        assert len(Comparison(before, better | {name: values}, 3, 3).reasons) == 1


def test_half_way_between_two_networks_lies_their_mean():
    first, second = build_model(NETWORK), build_model(NETWORK)
    names = [name for name, value in first.state_dict().items() if value.is_floating_point()]
    expected = {name: (first.state_dict()[name] + second.state_dict()[name]) / 2 for name in names}
    mixed = adapt.blended(first, second, 0.5).state_dict()
    for name in names:
        torch.testing.assert_close(mixed[name], expected[name])


# A training run that starts from a model.


def run_of(start, **training):
    settings = {"max_steps": 1, "lr": 1e-12, "threads": 1, "device": "cpu", "start": str(start)} | training
    return RunConfig(
        data=DataConfig(excerpt_seconds=0.5, batch_size=2, workers=0),
        objective=ObjectiveConfig(noise=("white",)),
        training=TrainingConfig(**settings),
    )


def test_training_starts_from_the_weights_of_a_model(noisy, base, tmp_path):
    fit(noisy, tmp_path / "run", run_of(base), quiet=True)
    old, new = (
        load_file(base / "model.safetensors"),
        load_file(tmp_path / "run" / "model" / "model.safetensors"),
    )
    for name, value in old.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(new[name], value)
    assert read_config(tmp_path / "run" / "model")[0] == NETWORK


def test_frozen_norms_keep_their_statistics(noisy, base, tmp_path):
    fit(noisy, tmp_path / "run", run_of(base, freeze_norms=True, lr=1e-2, max_steps=3), quiet=True)
    old, new = (
        load_file(base / "model.safetensors"),
        load_file(tmp_path / "run" / "model" / "model.safetensors"),
    )
    norms = [name for name in old if "running" in name]
    assert norms
    assert all(torch.equal(old[name], new[name]) for name in norms)
    assert any(not torch.equal(old[name], new[name]) for name in old)


def test_a_setting_that_is_not_the_models_is_a_conflict(noisy, base, tmp_path):
    config = run_of(base)
    other = RunConfig(ModelConfig(n_fft=1024), config.data, config.objective, config.training)
    with pytest.raises(ConfigError, match="n_fft is 1024, and 256"):
        fit(noisy, tmp_path / "run", other, quiet=True)
    with pytest.raises(ConfigError, match="freeze_norms"):
        TrainingConfig(freeze_norms=True)
