"""The classical methods: their gains against integrals and limits, and that they help on steady noise."""

import numpy as np
import pytest
from scipy import integrate

from miase.classical import CLASSICAL, log_mmse_gain, low_pass, track_noise, wiener_gain
from miase.metrics import score
from signals import speech_like, white

METHODS = [method.enhance for method in CLASSICAL.values()]
IDS = list(CLASSICAL)
TRACKING = [name for name in CLASSICAL if name != "low_pass"]


def noisy_speech(snr_db, sample_rate=16_000):
    clean, noise = speech_like(4, sample_rate, seed=3), white(4, sample_rate, seed=4)
    noise *= np.sqrt(np.sum(clean**2) / np.sum(noise**2) * 10 ** (-snr_db / 10))
    return clean.astype(np.float32), (clean + noise).astype(np.float32)


@pytest.mark.parametrize("name", TRACKING)
@pytest.mark.parametrize("sample_rate", [16_000, 48_000])
def test_steady_noise_at_5_db_is_lowered(name, sample_rate):
    clean, noisy = noisy_speech(5, sample_rate)
    estimate = CLASSICAL[name].enhance(noisy[None], sample_rate)[0]
    before, after = (score(x, clean, sample_rate, ["si_sdr", "estoi"]) for x in (noisy, estimate))
    assert after["si_sdr"] > before["si_sdr"] + 4
    assert after["estoi"] > before["estoi"] - 0.02


@pytest.mark.parametrize("name", TRACKING)
def test_noise_alone_is_lowered_by_10_db(name):
    noise = 0.1 * white(3, 16_000).astype(np.float32)
    estimate = CLASSICAL[name].enhance(noise[None], 16_000)[0]
    assert np.sum(estimate**2) < 0.1 * np.sum(noise**2)


@pytest.mark.parametrize("enhance", METHODS, ids=IDS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 100), (3, 8001)])
def test_shape_comes_back_and_silence_stays_silent(enhance, shape):
    estimate = enhance(np.zeros(shape, np.float32), 8000)
    assert estimate.shape == shape
    assert estimate.dtype == np.float32
    assert not estimate.any()
    assert np.isfinite(enhance(np.ones(shape, np.float32), 8000)).all()


@pytest.mark.parametrize("enhance", METHODS, ids=IDS)
def test_channels_do_not_touch_and_the_level_does_not_matter(enhance):
    _, noisy = noisy_speech(5)
    pair = enhance(np.stack([noisy, 0.25 * noisy]), 16_000)
    assert pair[0] == pytest.approx(enhance(noisy[None], 16_000)[0], abs=1e-6)
    assert pair[1] == pytest.approx(0.25 * pair[0], abs=1e-4)


@pytest.mark.parametrize("sample_rate", [16_000, 48_000])
@pytest.mark.parametrize(("frequency", "expected"), [(100, 1), (1700, 1), (2000, 0.5), (2400, 0), (7000, 0)])
def test_the_low_pass_keeps_tones_below_2_khz_in_place_and_removes_others(sample_rate, frequency, expected):
    tone = np.sin(2 * np.pi * frequency * np.arange(sample_rate) / sample_rate).astype(np.float32)
    inner = slice(sample_rate // 4, -sample_rate // 4)
    left = low_pass(tone[None], sample_rate)[0, inner] - expected * tone[inner]
    assert np.abs(left).max() < 0.01


def test_the_low_pass_leaves_a_quarter_of_white_noise_at_16_khz_and_all_at_4_khz():
    noise = white(10, 16_000)[None].astype(np.float32)
    assert np.sum(low_pass(noise, 16_000) ** 2) == pytest.approx(np.sum(noise**2) / 4, rel=0.05)
    assert low_pass(noise, 4000) == pytest.approx(noise, abs=1e-6)


@pytest.mark.parametrize("xi", [0.01, 0.3, 1.0, 20.0])
@pytest.mark.parametrize("gamma", [0.1, 1.0, 8.0])
def test_the_log_mmse_gain_is_the_integral_of_its_paper(xi, gamma):
    v = gamma * xi / (1 + xi)
    integral, _ = integrate.quad(lambda t: np.exp(-t) / t, v, np.inf)
    expected = min(1.0, xi / (1 + xi) * np.exp(integral / 2))
    assert log_mmse_gain(np.array([xi]), np.array([gamma]))[0] == pytest.approx(expected, rel=1e-6)


def test_both_gains_agree_where_the_speech_is_strong():
    xi = np.array([1e3])
    assert log_mmse_gain(xi, xi) == pytest.approx(wiener_gain(xi, xi), rel=1e-6)
    assert wiener_gain(np.array([1.0, 3.0]), xi) == pytest.approx([0.5, 0.75])


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_the_tracker_finds_the_power_of_noise_and_follows_it(factor):
    rng = np.random.default_rng(5)
    power = rng.exponential(1.0, (600, 1, 64))
    power[300:] *= factor
    tracked = track_noise(power)
    assert np.mean(tracked[100:300]) == pytest.approx(1.0, rel=0.3)  # it reads low: peaks pass for speech
    assert np.mean(tracked[550:]) == pytest.approx(factor, rel=0.3)


def test_the_tracker_does_not_take_a_second_of_speech_for_noise():
    power = np.random.default_rng(6).exponential(1.0, (200, 1, 64))
    power[100:160, :, ::4] *= 1000
    assert np.median(track_noise(power)[100:160]) < 3
