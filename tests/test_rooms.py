"""Rooms: speech stays in phase and as long as it was, and decays as the response says."""

import sys

import numpy as np
import pytest

from miase.errors import ConfigError
from miase.rooms import direct_path, early_part, reverberate, simulate_response
from signals import speech_like, white

RATE = 16000


def exponential(rt60=0.4, delay=100, seed=0):
    """A response with its direct path at `delay` and a tail that falls by 60 dB in `rt60` seconds."""
    n = round(rt60 * RATE)
    tail = 0.05 * white(rt60, RATE, seed) * 10 ** (-3 * np.arange(n) / n)
    response = np.zeros(delay + n)
    response[delay:] = tail
    response[delay] = 0.7
    return response.astype(np.float32)


def lag_of(x, y):
    n = 2 * x.size
    return (int(np.argmax(np.fft.irfft(np.fft.rfft(x, n).conj() * np.fft.rfft(y, n)))) + x.size) % n - x.size


def rt60_of(response):
    """From the slope between -5 and -25 dB of the energy that is still to come (Schroeder 1965)."""
    decay_db = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2))
    first, last = np.argmax(decay_db < -5), np.argmax(decay_db < -25)
    return 3 * (last - first) / RATE


@pytest.mark.parametrize("delay", [0, 1, 700])
def test_speech_comes_without_delay_and_at_its_length(delay):
    x = speech_like(1.0, RATE).astype(np.float32)
    y = reverberate(x, exponential(delay=delay))
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert lag_of(x, y) == 0


def test_a_room_is_a_convolution_from_the_direct_path_on():
    x, response = speech_like(0.5, RATE).astype(np.float32), exponential(delay=50)
    expected = np.convolve(x.astype(np.float64), response[50:] / response[50])[: x.size]
    np.testing.assert_allclose(reverberate(x, response), expected, atol=1e-5)


def test_an_inverted_response_keeps_the_sign_of_the_speech():
    x, response = speech_like(0.5, RATE).astype(np.float32), exponential()
    np.testing.assert_allclose(reverberate(x, -response), reverberate(x, response), atol=1e-6)


def test_the_direct_path_is_found_before_a_stronger_reflection():
    response = exponential(delay=80)
    response[79], response[300] = 0.4, 1.0
    assert direct_path(response) == 80
    assert direct_path(response[80:]) == 0


def test_the_early_part_ends_after_50_ms():
    response = exponential(delay=80)
    early = early_part(response, RATE)
    assert early.size == 80 + 800 + 1
    np.testing.assert_array_equal(early, response[: early.size])
    assert direct_path(early) == 80
    x = speech_like(0.5, RATE).astype(np.float32)
    assert lag_of(reverberate(x, response), reverberate(x, early)) == 0


def test_energy_decays_as_the_response_says():
    click = np.zeros(RATE, np.float32)
    click[100] = 1
    for rt60 in (0.2, 0.6):
        heard = reverberate(click, exponential(rt60))
        assert not np.abs(heard[:100]).max() > 1e-6
        assert rt60_of(heard[101:]) == pytest.approx(rt60, rel=0.1)


def test_a_simulated_room_decays_about_as_asked():
    pytest.importorskip("pyroomacoustics")
    for rt60 in (0.2, 0.4):
        found = []
        for seed in range(3):
            response = simulate_response(RATE, rt60, np.random.default_rng(seed))
            found.append(rt60_of(response[direct_path(response) :]))
        assert np.mean(found) == pytest.approx(rt60, rel=0.4)


def test_a_simulated_room_is_the_same_for_the_same_draw():
    pytest.importorskip("pyroomacoustics")
    responses = [simulate_response(8000, 0.2, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(responses[0], responses[1])
    assert not np.array_equal(responses[0][:500], responses[2][:500])


def test_simulating_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(ConfigError, match=r'pip install "miase\[rooms\]"'):
        simulate_response(RATE, 0.3, np.random.default_rng(0))
