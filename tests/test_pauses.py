"""Noise from pauses: only from pauses, and only where there are any."""

import numpy as np
import pytest

from miase.pauses import cut_gaps, cut_pauses, level_spread
from signals import white

RATE = 16000


def rng():
    return np.random.default_rng(0)


def talk(noise, bursts):
    """Noise with loud tones from start to stop, in seconds."""
    noisy = noise.copy()
    for start, stop in bursts:
        n = round((stop - start) * RATE)
        noisy[round(start * RATE) :][:n] += np.sin(2 * np.pi * 300 * np.arange(n) / RATE)
    return noisy.astype(np.float32)


def test_what_is_cut_is_the_noise_between_the_words():
    noise = 0.1 * rng().standard_normal(5 * RATE)
    cut = cut_pauses(talk(noise, [(0.0, 1.5), (2.0, 3.5), (4.0, 5.0)]), RATE, rng())
    assert cut is not None
    assert 0.08 * RATE < len(cut) < 1.0 * RATE
    assert abs(cut.std() / 0.1 - 1) < 0.15  # a word in it would be ten times louder
    spectrum = np.abs(np.fft.rfft(cut))
    freqs = np.fft.rfftfreq(len(cut), 1 / RATE)
    tone = spectrum[np.abs(freqs - 300) < 20].max()
    assert tone < 6 * np.median(spectrum)


def test_the_order_of_the_stretches_is_drawn():
    noise = 0.1 * rng().standard_normal(8 * RATE)
    noisy = talk(noise, [(0.0, 1.2), (1.6, 3.0), (3.4, 5.0), (5.4, 6.8), (7.2, 8.0)])
    draws = {cut_pauses(noisy, RATE, np.random.default_rng(seed)).tobytes() for seed in range(8)}
    assert len(draws) > 1


@pytest.mark.parametrize(
    "samples",
    [
        0.1 * rng().standard_normal(3 * RATE),
        np.zeros(3 * RATE),
        np.concatenate((np.zeros(RATE), rng().standard_normal(2 * RATE))),
        rng().standard_normal(100),
        np.zeros(0),
    ],
    ids=["steady", "silent", "digital silence between", "short", "empty"],
)
def test_where_nothing_stands_out_there_is_none(samples):
    assert cut_pauses(samples.astype(np.float32), RATE, rng()) is None


def test_gaps_are_the_recording_where_its_estimate_is_quiet():
    """Noise for two seconds, a tone in the second of them: the first comes out as it is."""
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(32000).astype(np.float32)
    tone = np.sin(2 * np.pi * 440 * np.arange(32000) / 16000).astype(np.float32)
    tone[:16000] = 0
    gaps = cut_gaps(noise + tone, tone, 16000)
    assert 14000 < len(gaps) <= 16000
    np.testing.assert_array_equal(gaps, noise[: len(gaps)])
    assert cut_gaps(tone, tone, 16000) is None


def test_the_spread_of_a_level_is_that_of_its_steps():
    noise = white(20, RATE)
    steady = level_spread(noise, RATE)
    assert steady < 0.5
    noise.reshape(-1, RATE)[::2] *= 10 ** (-12 / 20)  # every other second: 6 dB about the mean
    assert level_spread(noise, RATE) == pytest.approx(6, abs=0.3)
    assert level_spread(3 * noise, RATE) == pytest.approx(level_spread(noise, RATE), abs=1e-3)
    assert level_spread(noise[: RATE // 50], RATE) == 0
