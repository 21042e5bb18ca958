"""The recipes of the published tables: each row gives settings that miase takes."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from miase.checkpoint import load_pretrained, save_pretrained
from miase.config import ModelConfig, RunConfig
from miase.config_file import from_dict, load_toml
from miase.models import MODELS, build_model
from miase.models.complex import SLOPE
from miase.objectives import OBJECTIVES, find_objective
from miase.plan import cells_of, config_of, load_plan
from miase.sources import choose_noise
from signals import speech_like

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture(scope="module")
def published():
    sys.path.insert(0, str(RECIPES))
    try:
        import published
    finally:
        sys.path.remove(str(RECIPES))
    return published


def test_every_row_is_there_and_its_settings_are_allowed(published):
    rows = list(published.rows())
    assert len(rows) == len(set(rows)) == 12 * len(OBJECTIVES) * len(MODELS) * 2
    assert {row[1] for row in rows} == OBJECTIVES.keys()
    assert {row[2] for row in rows} == MODELS.keys()
    for noise, objective, network, rate in rows:
        config = from_dict(RunConfig, published.recipe(noise, objective, network, rate, "noises"))
        assert (config.model.name, config.model.sample_rate, config.objective.name) == (
            network,
            rate,
            objective,
        )
        assert config.data.excerpt_seconds * 48000 == 165_000
        assert find_objective(config.objective)
    assert published.added("white", "noises") == ["white"]
    assert published.added("siren", "noises") == ["noises/siren"]
    assert published.added("mixed", "noises") == ["noises"]


def run(*arguments):
    return subprocess.run(
        [sys.executable, RECIPES / "published.py", *arguments], capture_output=True, text=True
    )


def test_the_command_prints_a_recipe_and_a_plan(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(run("siren", "only_noisy", "dcunet20", "--rate", "48000").stdout)
    config = load_toml(path)
    assert (config.model.n_fft, config.model.hop_length, config.training.lr_schedule) == (
        3072,
        768,
        "exponential",
    )
    path.write_text(run("--plan", "corpora", "--rate", "16000").stdout)
    plan = load_plan(path)
    assert len(cells_of(plan)) == 12 * len(OBJECTIVES) * len(MODELS)
    assert plan.corpora["drilling"].test == "corpora/drilling/test"
    assert all(config_of(plan, cell).model.sample_rate == 16000 for cell in cells_of(plan))


def test_a_row_that_is_not_there_is_refused():
    result = run("siren", "nonsense", "dcunet20")
    assert result.returncode == 1
    assert "--list" in result.stderr


def test_a_finer_network_begins_as_the_mean_of_two_courses_of_the_coarse_one(tmp_path):
    """Up to the layer where they meet: features as they come, and 8 frames later; away from the borders."""
    config = ModelConfig("dcunet10_ctstm", sample_rate=4000, n_fft=64, hop_length=16, n_blocks=1)
    torch.manual_seed(0)
    coarse = build_model(config)
    save_pretrained(coarse, tmp_path / "coarse")
    command = [sys.executable, RECIPES / "finer.py", tmp_path / "coarse", tmp_path / "fine"]
    subprocess.run(command, check=True)

    def meeting(model, x):
        model.eval().bottleneck = None
        outputs = []
        model.decoder[1].register_forward_hook(lambda *values: outputs.append(values[2].detach()))
        model.mask(x)
        return torch.where(outputs[-1] < 0, outputs[-1] / SLOPE, outputs[-1])  # before the LeakyReLU

    spectrum = torch.randn(1, 33, 512, 2)
    # Silence around it, so that the borders are the same when it comes later.
    spectrum[:, :, :160] = spectrum[:, :, -160:] = 0
    later = spectrum.roll(8, dims=2)
    fine = meeting(load_pretrained(tmp_path / "fine"), spectrum)
    as_it_comes, shifted = meeting(coarse, spectrum), meeting(coarse, later).roll(-1, dims=2)
    inner = slice(8, -8)
    assert (as_it_comes - shifted)[:, :, inner].abs().max() > 1e-3
    mean = (as_it_comes + shifted) / 2
    torch.testing.assert_close(fine[:, :, inner], mean[:, :, inner], rtol=0, atol=1e-5)


def test_weights_serve_in_a_network_of_other_settings(tmp_path):
    config = ModelConfig("dcunet10_ctstm", sample_rate=4000, n_fft=64, hop_length=32, n_blocks=1)
    save_pretrained(build_model(config), tmp_path / "start")
    settings = ["--mask-exponent", "0.9", "--n-fft", "80", "--hop-length", "40", "--window-frames", "32"]
    command = [sys.executable, RECIPES / "rebuilt.py", tmp_path / "start", tmp_path / "out", *settings]
    subprocess.run(command, check=True)
    start, out = (load_pretrained(tmp_path / name) for name in ("start", "out"))
    assert out.config == dataclasses.replace(
        config, mask_exponent=0.9, n_fft=80, hop_length=40, window_frames=32
    )
    assert start.config == config
    for name, value in start.state_dict().items():
        torch.testing.assert_close(out.state_dict()[name], value, rtol=0, atol=0)


def test_links_are_made_to_the_noise_of_the_train_split_alone(tmp_path):
    for i in range(40):
        path = tmp_path / "rain" / "heavy" / f"{i:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, np.full(100, 0.1), 16000)
    command = [sys.executable, RECIPES / "train_noise.py", tmp_path / "out", tmp_path / "rain"]
    subprocess.run(command, check=True)
    subprocess.run(command, check=True)  # what is there stays
    folder = tmp_path / "out" / "rain" / "heavy"
    linked = {path.name for path in folder.iterdir()}
    assert all((folder / name).resolve().parent == tmp_path / "rain" / "heavy" for name in linked)
    others = {
        file.path.name
        for split in ("valid", "test")
        for found in choose_noise((tmp_path / "rain",), split, by_class=False).values()
        for files in found.values()
        for file in files
    }
    assert linked | others == {f"{i:02d}.wav" for i in range(40)}
    assert linked
    assert others
    assert not linked & others


def test_neighbours_at_another_speed_are_higher_and_shorter(tmp_path):
    sample_rate, hz = 16000, 500
    tone = np.sin(2 * np.pi * hz * np.arange(sample_rate) / sample_rate)
    sf.write(tmp_path / "horn.flac", 0.5 * tone, sample_rate)
    subprocess.run([sys.executable, RECIPES / "speeds.py", tmp_path, "0.8", "1.25"], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "horn-0.8.flac",
        "horn-1.25.flac",
        "horn.flac",
    ]
    for speed in (0.8, 1.25):
        played, rate = sf.read(tmp_path / f"horn-{speed}.flac")
        assert rate == sample_rate
        assert len(played) == pytest.approx(sample_rate / speed, abs=1)
        spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played))))
        assert np.argmax(spectrum) * rate / len(played) == pytest.approx(speed * hz, abs=2)


def write_recordings(folder, snrs_db):
    """Write recordings at SNRs by name and what is right for each, estimates; give speech and noise."""
    speech, noise = speech_like(0.5, 16000, 1), np.random.default_rng(0).standard_normal(8000)
    noise *= np.sqrt(np.square(speech).sum() / np.square(noise).sum())
    for name, snr_db in snrs_db.items():
        for kind, gain in (("recordings", 10 ** (-snr_db / 20)), ("estimates", 0.0)):
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, 0.5 * (speech + gain * noise), 16000, subtype="FLOAT")
    return speech, noise


def test_targets_are_halfway_and_only_the_cleanest(tmp_path):
    """Speech at 20 and at 5 dB over noise, and estimates that are right: the first becomes a target."""
    speech, noise = write_recordings(tmp_path, {"clean/a.wav": 20, "noisy.wav": 5})
    folders = [tmp_path / "recordings", tmp_path / "estimates", tmp_path / "targets"]
    run = [sys.executable, RECIPES / "halfway.py", *folders]
    assert "1 of 2 recordings" in subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert [path.name for path in folders[2].rglob("*.wav")] == ["a.wav"]
    target, _ = sf.read(folders[2] / "clean" / "a.wav")
    np.testing.assert_allclose(target, 0.5 * speech + 0.025 * noise, atol=1e-4)


def test_of_each_utterance_the_cleanest_takes_are_linked(tmp_path):
    """Takes of two speakers' utterances, told apart by the noise that a right estimate leaves out."""
    snrs_db = {
        "first/ann/a.wav": 14,
        "first/ann/a-copy2.wav": 18,
        "first/ann/b.wav": 16,
        "first/bob/a.wav": 12,
        "first/bob/c.wav": 2,
        "second/ann/a.wav": 20,
    }
    write_recordings(tmp_path, snrs_db)

    def chosen(out, *options):
        folders = [tmp_path / "recordings", tmp_path / "estimates", tmp_path / out]
        subprocess.run([sys.executable, RECIPES / "cleanest_takes.py", *folders, *options], check=True)
        return {path.relative_to(folders[2]).as_posix() for path in folders[2].rglob("*.wav")}

    one_each = {"second/ann/a.wav", "first/ann/b.wav", "first/bob/a.wav"}
    assert chosen("one") == one_each
    assert chosen("two", "--takes", "2") == one_each | {"first/ann/a-copy2.wav"}
    assert chosen("most", "--most", "1") == one_each - {"first/ann/b.wav"}
    assert chosen("within", "--within", "second") == {"second/ann/a.wav"}
    assert chosen("least", "--snr-db", "13") == one_each - {"first/bob/a.wav"}
