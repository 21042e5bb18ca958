"""What a recorder does: each part does what was drawn, and nothing is done unless it is asked for."""

import numpy as np
import pytest

from miase.augment import Recorder, change_level, clip, draw_recorder, limit_band
from miase.config import CODEC_NAMES, MixConfig
from signals import speech_like, white

RATE = 16000


def speech(seconds=2.0, seed=0):
    return speech_like(seconds, RATE, seed).astype(np.float32)


def draws(n=2000, **settings):
    rng = np.random.default_rng(0)
    return [draw_recorder(MixConfig(**settings), rng) for _ in range(n)]


def test_by_default_nothing_is_done():
    assert set(draws(50)) == {Recorder()}
    x = speech()
    np.testing.assert_array_equal(Recorder().damage(Recorder().pass_on(x, RATE), RATE), x)


def test_shares_and_ranges_are_as_asked():
    asked = {
        "level_db": (-12.0, 3.0),
        "band_share": 0.3,
        "band_hz": (2500.0, 3500.0),
        "clip_share": 0.6,
        "clip_fraction": (0.01, 0.02),
        "codec_share": 0.5,
    }
    drawn = draws(**asked)
    level = np.array([recorder.level_db for recorder in drawn])
    assert -12 <= level.min() < -11.9
    assert 2.9 < level.max() <= 3
    for part, share, low, high in (
        ("cut_hz", 0.3, 2500, 3500),
        ("clipped", 0.6, 0.01, 0.02),
    ):
        values = np.array([getattr(r, part) for r in drawn if getattr(r, part) is not None])
        assert values.size / len(drawn) == pytest.approx(share, abs=0.04)
        assert low <= values.min() <= low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) <= values.max() <= high
    coded = [recorder.codec for recorder in drawn if recorder.codec]
    assert len(coded) / len(drawn) == pytest.approx(0.5, abs=0.04)
    assert {name for name, _ in coded} == set(CODEC_NAMES)


def test_one_thing_more_leaves_the_others_as_they_were():
    few = draws(100, clip_share=0.5)
    more = draws(100, clip_share=0.5, band_share=0.5, level_db=(-3.0, 3.0), codec_share=1.0)
    assert [recorder.clipped for recorder in few] == [recorder.clipped for recorder in more]


@pytest.mark.parametrize("level_db", [-20.0, -0.5, 0.0, 6.0])
def test_the_level_changes_as_drawn(level_db):
    x = speech()
    y = change_level(x, level_db)
    assert 10 * np.log10(np.sum(y**2) / np.sum(x**2)) == pytest.approx(level_db, abs=1e-4)
    assert y.dtype == np.float32


@pytest.mark.parametrize("cut_hz", [1000, 3400, 5001])
def test_no_sound_is_left_above_the_cut_and_all_below_stays(cut_hz):
    x = white(2.0, RATE).astype(np.float32)
    y = limit_band(x, RATE, cut_hz)
    assert y.shape == x.shape
    inner = slice(1000, -1000)  # the ends of the noise are steps, which have all frequencies
    window = np.hanning(x[inner].size)
    f = np.fft.rfftfreq(x[inner].size, 1 / RATE)
    before, after = (np.fft.rfft(window * z[inner]) for z in (x, y))
    power = np.abs(after) ** 2 / np.mean(np.abs(before) ** 2)
    assert 10 * np.log10(power[f > 1.02 * cut_hz].mean()) < -80
    below = f < 0.88 * cut_hz
    # In phase, too: the spectra agree as complex numbers.
    assert np.linalg.norm((after - before)[below]) < 0.01 * np.linalg.norm(before[below])


def test_a_cut_above_the_band_changes_nothing():
    x = speech()
    assert limit_band(x, RATE, 8000) is x


@pytest.mark.parametrize("fraction", [0.001, 0.02, 0.3])
def test_as_many_samples_are_clipped_as_asked(fraction):
    x = speech()
    y = clip(x, fraction)
    ceiling = np.abs(y).max()
    assert np.sum(np.abs(x) >= ceiling) == round(fraction * x.size)
    below = np.abs(x) < ceiling
    np.testing.assert_array_equal(y[below], x[below])
    assert np.all(np.abs(y[~below]) == ceiling)
    assert np.all(np.sign(y[~below]) == np.sign(x[~below]))


def test_clipping_none_changes_nothing():
    x = speech()
    assert clip(x, 0.0) is x


def test_clean_speech_takes_part_in_what_is_linear():
    """pass_on of a sum is the sum of what is passed on; damage is no part of it."""
    recorder = Recorder(-6.0, 3000, 0.05, ("gsm", 1.0))
    x, n = speech(), 0.1 * white(2.0, RATE).astype(np.float32)
    together = recorder.pass_on(x + n, RATE)
    np.testing.assert_allclose(together, recorder.pass_on(x, RATE) + recorder.pass_on(n, RATE), atol=1e-5)
    damaged = recorder.damage(together, RATE)
    assert np.linalg.norm(damaged - together) > 0.1 * np.linalg.norm(together)
