"""Which recordings a run learns from: by known SNRs, steady or not, and the same at each call."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch

from miase import cleanest
from miase.classical import wiener
from miase.cleanest import cleanest_recordings, steady_snr
from miase.config import DataConfig, ModelConfig, ObjectiveConfig, RunConfig, TrainingConfig
from miase.dataset import Examples, NoiseSource, batches, find_recordings
from miase.sounds import find_sounds
from miase.train import fit
from signals import speech_like, white

RATE = 8000
SNRS_DB = np.linspace(20, -5, 12)


@pytest.fixture
def folder(tmp_path):
    """Twelve recordings of speech in white noise, each 2.3 dB noisier than the one before."""
    for i, snr_db in enumerate(SNRS_DB):
        sf.write(tmp_path / f"r{i:02}.wav", 0.1 * noisy(i, snr_db), RATE, "FLOAT")
    return tmp_path


def noisy(seed, snr_db, seconds=3.0):
    speech, noise = speech_like(seconds, RATE, seed), white(seconds, RATE, seed)
    return speech + noise * np.sqrt(np.mean(speech**2) / np.mean(noise**2) / 10 ** (snr_db / 10))


def examples_of(folder, seed=0):
    recordings = find_recordings(find_sounds(folder), folder)
    config = DataConfig(excerpt_seconds=0.5)
    return Examples(recordings.infos, frozenset({"noisy"}), config, RATE, seed, NoiseSource(["white"], RATE))


def filtered(noisy):
    return torch.from_numpy(wiener(noisy.numpy(), RATE))


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_the_snr_in_steady_noise_is_told(snr_db):
    speech = speech_like(4.0, RATE)
    x = noisy(0, snr_db, 4.0)
    assert steady_snr(x, speech, RATE) == pytest.approx(snr_db, abs=0.01)
    assert steady_snr(0.01 * x, 0.01 * speech, RATE) == pytest.approx(snr_db, abs=0.01)


def test_in_noise_that_comes_and_goes_it_cannot_be_told():
    speech, noise = speech_like(4.0, RATE), white(4.0, RATE)
    bursts = noise * np.where(np.arange(len(noise)) % 8000 < 1600, 1.0, 0.05)
    assert np.isnan(steady_snr(speech + 0.05 * bursts, speech, RATE))


@pytest.mark.parametrize(
    ("noisy", "estimate"), [(np.ones(100), np.zeros(100)), (np.ones(8000), np.ones(8000))]
)
def test_nothing_is_told_of_an_instant_or_of_what_is_left_alone(noisy, estimate):
    assert np.isnan(steady_snr(noisy, estimate, RATE))


def test_the_cleanest_are_chosen(folder, monkeypatch):
    monkeypatch.setattr(cleanest, "LEAST", 2)
    examples = examples_of(folder)
    assert cleanest_recordings(examples, filtered, 1 / 3) == [0, 1, 2, 3]
    assert cleanest_recordings(examples, filtered, 0.01) == [0, 1]
    (folder / "r00.wav").write_text("no sound any more")
    assert cleanest_recordings(examples, filtered, 0.01) == [1, 2]


def test_what_is_in_unsteady_noise_stays(folder, monkeypatch):
    monkeypatch.setattr(cleanest, "LEAST", 2)
    for i in (7, 11):
        x, _ = sf.read(folder / f"r{i:02}.wav")
        sf.write(
            folder / f"r{i:02}.wav", x * np.where(np.arange(len(x)) % 16000 < 6000, 1, 0.1), RATE, "FLOAT"
        )
    assert cleanest_recordings(examples_of(folder), filtered, 0.2) == [0, 1, 7, 11]


def test_few_are_all_chosen(folder, monkeypatch):
    examples = examples_of(folder)
    assert cleanest_recordings(examples, filtered, 0.1) == list(range(12))
    monkeypatch.setattr(cleanest, "LEAST", 7)
    assert cleanest_recordings(examples, filtered, 0.1) == list(range(7))


@pytest.mark.parametrize("steady", [True, False])
def test_of_very_many_some_are_heard(folder, monkeypatch, steady):
    """The others stay only where the noise tells nothing."""
    monkeypatch.setattr(cleanest, "LEAST", 1)
    monkeypatch.setattr(cleanest, "MOST", 6)
    monkeypatch.setattr(cleanest, "STEADY_DB", 3.0 if steady else 0.0)
    chosen = {tuple(cleanest_recordings(examples_of(folder, seed), filtered, 1.0)) for seed in range(5)}
    assert {len(numbers) for numbers in chosen} == ({6} if steady else {12})
    assert len(chosen) == (5 if steady else 1)


def test_batches_are_made_of_those_that_were_chosen(folder):
    examples = examples_of(folder)
    asked = []

    class Listening:
        def __len__(self):
            return len(examples)

        def __getitem__(self, key):
            asked.append(key[2])
            return examples[key]

    list(batches(Listening(), 4, seed=0, epoch=0, chosen=[3, 5, 8]))
    assert set(asked) == {3, 5, 8}
    assert len(asked) == 4 * 25


def test_a_run_learns_from_the_cleanest(folder, tmp_path, monkeypatch):
    """By a Wiener filter at first; stopped, it goes on with the same ones to the same weights."""
    monkeypatch.setattr(cleanest, "LEAST", 2)
    monkeypatch.setattr(cleanest, "STEADY_DB", 60.0)  # so early, speech is taken away, too
    heard = []
    read = Examples.__getitem__
    monkeypatch.setattr(Examples, "__getitem__", lambda self, key: heard.append(key) or read(self, key))
    config = RunConfig(
        model=ModelConfig(sample_rate=RATE, n_fft=64, hop_length=32, n_blocks=1, window_frames=32),
        data=DataConfig(excerpt_seconds=0.2, batch_size=2, valid_share=0, workers=0),
        objective=ObjectiveConfig(noise=("white",), warmup_steps=12, cleanest_share=0.25),
        training=TrainingConfig(max_steps=20, lr_schedule="constant"),
    )
    fit(folder, tmp_path / "whole", config, quiet=True)
    of_whole = [index for _, _, index in heard]
    assert set(of_whole[:6]) == {0, 1, 2}  # the folder's first are its cleanest
    assert len(set(of_whole[6:24])) == len(set(of_whole[24:])) == 3
    heard.clear()
    for steps in (12, 15, 20):
        part = replace(config, training=replace(config.training, max_steps=steps))
        fit(folder, tmp_path / "parts", part, resume=steps > 12, quiet=True)
    assert [index for _, _, index in heard] == of_whole
    whole, parts = (tmp_path / name / "model" / "model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    assert "from 3 of them" in (tmp_path / "whole" / "model" / "README.md").read_text()
