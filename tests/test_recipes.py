"""The recipes of the published tables: each row gives settings that miase takes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from miase.config import RunConfig
from miase.config_file import from_dict, load_toml
from miase.models import MODELS
from miase.objectives import OBJECTIVES, find_objective
from miase.plan import cells_of, config_of, load_plan
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


def test_targets_are_halfway_and_only_the_cleanest(tmp_path):
    """Speech at 20 and at 5 dB over noise, and estimates that are right: the first becomes a target."""
    speech, noise = speech_like(0.5, 16000, 1), np.random.default_rng(0).standard_normal(8000)
    noise *= np.sqrt(np.square(speech).sum() / np.square(noise).sum())
    for name, snr_db in (("clean/a.wav", 20), ("noisy.wav", 5)):
        for folder, gain in (("recordings", 10 ** (-snr_db / 20)), ("estimates", 0.0)):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, 0.5 * (speech + gain * noise), 16000, subtype="FLOAT")
    folders = [tmp_path / "recordings", tmp_path / "estimates", tmp_path / "targets"]
    run = [sys.executable, RECIPES / "halfway.py", *folders]
    assert "1 of 2 recordings" in subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert [path.name for path in folders[2].rglob("*.wav")] == ["a.wav"]
    target, _ = sf.read(folders[2] / "clean" / "a.wav")
    np.testing.assert_allclose(target, 0.5 * speech + 0.025 * noise, atol=1e-4)
