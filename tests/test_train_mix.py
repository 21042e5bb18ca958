"""Training on what is mixed meanwhile: the same weights for any readers and after a resume, nothing leaks."""

import dataclasses
import os
import signal

import numpy as np
import pytest
import soundfile as sf

from miase import dataset, onthefly, train
from miase.config import DataConfig, MixConfig, ModelConfig, ObjectiveConfig, RunConfig, TrainingConfig
from miase.errors import TrainingError
from miase.learner import Learner
from miase.models import MODELS, Architecture, Layer
from miase.train import fit
from signals import speech_like, white

RATE = 8000
NARROW = Architecture(
    tuple(Layer(4, (3, 3), stride) for stride in ((2, 2), (2, 2), (2, 2), (2, 2), (2, 1))), None
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(MODELS, "dcunet10", NARROW)
    monkeypatch.setattr(dataset, "MIN_EPOCH_STEPS", 4)
    monkeypatch.setattr(train, "N_VALID", 2)


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, RATE)


@pytest.fixture
def config(tmp_path):
    """Six steps of supervised training with all that a recorder does."""
    for i in range(6):
        write(tmp_path / "speech" / f"s{i}" / "u.wav", speech_like(0.4 + 0.1 * i, RATE, i))
        write(tmp_path / "noise" / f"n{i}.wav", 0.2 * white(0.5, RATE, i))
    write(tmp_path / "rooms" / "r.wav", np.exp(-np.arange(800) / 100) * white(0.1, RATE))
    return RunConfig(
        ModelConfig("dcunet10", sample_rate=RATE, n_fft=64, hop_length=32, n_blocks=1, window_frames=32),
        DataConfig(excerpt_seconds=0.2, batch_size=2, workers=0, valid_share=0.2),
        ObjectiveConfig("noise2clean", noise=("white", "pauses"), warmup_steps=2),
        TrainingConfig(max_steps=6, threads=1, device="cpu"),
        MixConfig(
            speech=(str(tmp_path / "speech"),),
            mix_noise=(str(tmp_path / "noise"), "synthetic"),
            level_db=(-6.0, 6.0),
            band_share=0.5,
            band_hz=(2000.0, 3500.0),
            clip_share=0.5,
            codec_share=0.5,
            room_share=0.5,
            rooms=(str(tmp_path / "rooms"),),
        ),
    )


def having(config, **tables):
    """The settings with some fields of their tables changed."""
    changed = {name: dataclasses.replace(getattr(config, name), **values) for name, values in tables.items()}
    return dataclasses.replace(config, **changed)


def weights(run):
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("takes", [0, 2])
def test_readers_change_nothing(config, tmp_path, takes):
    for workers in (0, 1, 2):
        fit(
            None,
            tmp_path / str(workers),
            having(config, data={"workers": workers}, mix={"takes": takes}),
            quiet=True,
        )
    assert weights(tmp_path / "0") == weights(tmp_path / "1") == weights(tmp_path / "2")


def test_an_interrupted_run_goes_on_to_the_same_bits(config, tmp_path, monkeypatch):
    fit(None, tmp_path / "whole", config, quiet=True)
    real = Learner.step

    def step_and_stop(self, batch):
        values = real(self, batch)
        if self.progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return values

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step_and_stop)
        assert fit(None, tmp_path / "parts", config, quiet=True).step == 3
    assert fit(None, tmp_path / "parts", config, resume=True, quiet=True).step == 6
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


@pytest.mark.parametrize("what", ["speech", "noise", "rooms"])
def test_a_run_does_not_go_on_with_other_folders(config, tmp_path, what):
    fit(None, tmp_path / "run", having(config, training={"max_steps": 1}), quiet=True)
    write(tmp_path / what / "more" / "x.wav", white(0.5, RATE))
    with pytest.raises(TrainingError, match="not those the run began with"):
        fit(None, tmp_path / "run", config, resume=True, quiet=True)


def test_damage_changes_the_weights(config, tmp_path):
    """Else the tests above would pass with augmentations that do nothing."""
    fit(None, tmp_path / "all", config, quiet=True)
    for setting in ("band_share", "clip_share", "codec_share", "room_share"):
        fit(None, tmp_path / setting, having(config, mix={setting: 0.0}), quiet=True)
        assert weights(tmp_path / setting) != weights(tmp_path / "all")


@pytest.mark.parametrize("objective", ["noisy_target", "iddp"])
def test_an_objective_that_needs_no_clean_speech_never_sees_it(config, tmp_path, monkeypatch, objective):
    """What `clean` holds changes nothing, and no batch has it."""
    config = having(config, objective={"name": objective}, mix={"takes": 1})
    fit(None, tmp_path / "with", config, quiet=True)
    real = onthefly.MixedExamples.make_take

    def poisoned(self, utterance, take):
        return dataclasses.replace(real(self, utterance, take), clean=None)

    monkeypatch.setattr(onthefly.MixedExamples, "make_take", poisoned)
    fit(None, tmp_path / "without", config, quiet=True)
    assert weights(tmp_path / "with") == weights(tmp_path / "without")
    card = " ".join((tmp_path / "with" / "model" / "README.md").read_text().split())
    assert "Clean speech used**: only to mix with noise, never as a target" in card


def test_bad_files_are_named_and_the_run_goes_on(config, tmp_path):
    write(tmp_path / "noise" / "silent.wav", np.zeros(RATE))
    write(tmp_path / "speech" / "s9" / "silent.wav", np.zeros(RATE))
    (tmp_path / "speech" / "s9" / "text.wav").write_text("no sound")
    config = having(config, training={"max_steps": 12}, data={"valid_share": 0.0})
    result = fit(None, tmp_path / "run", config, quiet=True)
    assert result.finished
    for name in ("noise/silent.wav", "s9/silent.wav", "s9/text.wav"):
        assert sum(name in line for line in result.failures) == 1
