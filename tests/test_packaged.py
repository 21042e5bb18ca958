"""The packaged models: small enough, honest cards, and what they do to speech they never saw."""

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from miase import EnhanceConfig, Enhancer
from miase.audio import load
from miase.checkpoint import read_card, read_config, sha256
from miase.corpus import CorpusOptions, make_corpus
from miase.manifest import read_manifest
from miase.metrics import score
from miase.registry import _WEIGHTS, available, resolve
from miase.resampling import resample
from signals import white

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
MOST_BYTES = 8_000_000
METRICS = ("pesq_wb", "si_sdr", "stoi")


@pytest.fixture(scope="module")
def enhancer():
    return Enhancer.from_pretrained(device="cpu")


def test_the_weights_fit_into_the_wheel():
    assert sum(path.stat().st_size for path in _WEIGHTS.rglob("*") if path.is_file()) <= MOST_BYTES


def test_there_is_a_default():
    assert available()[0] == "default"


@pytest.mark.parametrize("name", available())
def test_a_card_says_what_users_must_know(name):
    folder = resolve(name)
    _, expected = read_config(folder)
    assert sha256(folder / "model.safetensors") == expected
    card = read_card(folder)
    for word in (
        expected,
        "Licence",
        "Learned from",
        "Clean speech used**: none",
        "recipes/",
        "Known failures",
    ):
        assert word in card


def test_the_high_band_is_heard_and_the_rest_stays_as_it_was(enhancer):
    """Hiss above the model's band, which what lies below says nothing of."""
    clean, sample_rate = load(ROOT / "examples" / "clean.flac")
    clean = resample(clean, sample_rate, 48_000)
    hiss = sosfilt(
        butter(8, 9000, "high", fs=48_000, output="sos"), 0.03 * white(clean.shape[1] / 48_000, 48_000)
    )
    noisy = (clean + hiss).astype(np.float32)
    followed = enhancer.enhance(noisy, 48_000)
    heard = enhancer.enhance(noisy, 48_000, EnhanceConfig(high_band="hear"))
    assert score(followed[0], clean[0], 48_000, ["si_sdr"])["si_sdr"] < 15
    assert score(heard[0], clean[0], 48_000, ["si_sdr"])["si_sdr"] > 28
    at_rate = [resample(x, 48_000, sample_rate)[0] for x in (heard, followed)]
    assert score(*at_rate, sample_rate, ["si_sdr"])["si_sdr"] > 25


def test_the_bundled_example_comes_out_better(enhancer):
    noisy, sample_rate = load(ROOT / "examples" / "noisy.flac")
    clean, _ = load(ROOT / "examples" / "clean.flac")
    before = score(noisy[0], clean[0], sample_rate, METRICS)
    after = score(enhancer.enhance(noisy, sample_rate)[0], clean[0], sample_rate, METRICS)
    assert after["si_sdr"] > before["si_sdr"] + 4
    assert after["pesq_wb"] > before["pesq_wb"] + 0.3
    assert after["stoi"] > before["stoi"] - 0.01


def test_level_does_not_change_what_it_does(enhancer):
    noisy, sample_rate = load(ROOT / "examples" / "noisy.flac")
    loud = enhancer.enhance(noisy, sample_rate)
    quiet = enhancer.enhance(0.01 * noisy, sample_rate)
    assert np.linalg.norm(100 * quiet - loud) / np.linalg.norm(loud) < 1e-3


def unseen(kind, output, **options):
    """Test speakers of the shared recordings with test noise, twelve utterances of at most 6 s."""
    speech = tuple(DATA / "speech" / name for name in ("librispeech", "librispeech-other"))
    how = CorpusOptions(
        kind, speech=speech, output=output, split="test", limit=12, max_seconds=6, quiet=True, **options
    )
    make_corpus(how)
    for item in read_manifest(output)[::2]:
        yield load(output / item.noisy)[0][0], load(output / item.clean)[0][0]


def gains(enhancer, pairs):
    rows = []
    for noisy, clean in pairs:
        before = score(noisy, clean, 16000, METRICS)
        after = score(enhancer.enhance(noisy, 16000), clean, 16000, METRICS)
        rows.append([after[name] - before[name] for name in METRICS])
    return dict(zip(METRICS, np.mean(rows, axis=0), strict=True))


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared recordings are not here")
def test_unseen_speakers_in_unseen_street_noise_come_out_better(enhancer, tmp_path):
    gain = gains(enhancer, unseen("urbansound", tmp_path / "x", noise=(DATA / "noise" / "urbansound8k",)))
    assert gain["si_sdr"] >= 3.5
    assert gain["pesq_wb"] >= 0.25
    assert gain["stoi"] >= 0


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared recordings are not here")
def test_unseen_speakers_in_white_noise_come_out_better(enhancer, tmp_path):
    gain = gains(enhancer, unseen("white", tmp_path / "x"))
    assert gain["si_sdr"] >= 7
    assert gain["pesq_wb"] >= 0.5


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared recordings are not here")
def test_clean_speech_is_left_alone(enhancer, tmp_path):
    kept = [
        score(enhancer.enhance(clean, 16000), clean, 16000, ("si_sdr",))["si_sdr"]
        for _, clean in unseen("white", tmp_path / "x")
    ]
    assert np.mean(kept) > 28
