"""Codecs: in phase, as long as before, and as lossy as their standards say."""

import numpy as np
import pytest

from miase.codec import CODECS, through_codec
from miase.config import CODEC_NAMES
from signals import speech_like


def lag_of(x, y):
    """The shift of `y` against `x` at which they agree best, in samples."""
    n = 2 * x.size
    return (int(np.argmax(np.fft.irfft(np.fft.rfft(x, n).conj() * np.fft.rfft(y, n)))) + x.size) % n - x.size


def snr_db(x, y):
    return 10 * np.log10(np.sum(x**2) / np.sum((x - y) ** 2))


def test_the_settings_know_the_codecs():
    assert tuple(CODECS) == CODEC_NAMES


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
@pytest.mark.parametrize("name", CODECS)
def test_a_codec_is_in_phase_and_repeats_itself(name, sample_rate):
    x = speech_like(1.01, sample_rate).astype(np.float32)
    level = min(CODECS[name].levels or (None,))
    y = through_codec(x, sample_rate, name, level)
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert lag_of(x, y) == 0
    assert 3 < snr_db(x, y) < 60
    np.testing.assert_array_equal(y, through_codec(x, sample_rate, name, level))


@pytest.mark.parametrize("n", [1, 7, 500])
@pytest.mark.parametrize("name", CODECS)
def test_a_few_samples_come_back_as_few(name, n):
    for sample_rate in (8000, 22050, 96000):
        assert through_codec(np.zeros(n, np.float32), sample_rate, name).shape == (n,)


def test_mulaw_errs_as_the_formula_says():
    """G.711: eight segments, each twice as wide, of 16 steps; the error is at most half a step.

    In units of 14 bit, segment s ends at 2^(s+6) - 33 and its steps are 2^(s+1) wide. The
    input is rounded to 14 bit before, by up to a unit.
    """
    x = np.linspace(-0.98, 0.98, 20011).astype(np.float32)
    y = through_codec(x, 8000, "mulaw")
    magnitude = np.abs(x) * 8192
    half_step = 2.0 ** (np.floor(np.log2(magnitude + 1 + 33)) - 5)
    assert np.all(np.abs(x - y) * 8192 <= half_step + 1)
    assert np.max(np.abs(x - y) * 8192) > 0.9 * 2**7  # and not much less
    assert np.unique(y).size <= 256


def test_eight_bits_err_by_half_a_step():
    x = np.linspace(-0.98, 0.98, 20011).astype(np.float32)
    y = through_codec(x, 8000, "pcm8")
    assert np.max(np.abs(x - y)) <= 1.01 / 128
    assert 240 <= np.unique(y).size <= 256


def test_a_higher_level_of_compression_loses_more():
    x = speech_like(1.0, 16000).astype(np.float32)
    for name, codec in CODECS.items():
        if codec.levels:
            low, high = codec.levels
            assert snr_db(x, through_codec(x, 16000, name, low)) > snr_db(
                x, through_codec(x, 16000, name, high)
            )


def test_what_exceeds_full_scale_is_clipped():
    x = np.array([0.5, 1.7, -3.0, 0.0] * 100, np.float32)
    y = through_codec(x, 8000, "mulaw")
    np.testing.assert_allclose(y, np.clip(x, -1, 1), atol=0.03)
