"""What is said without clean speech."""

import numpy as np
import pytest

from miase.judge import MEASURES, measure, remix, verdict
from signals import speech_like, white

RATE = 16_000
CLEAN = speech_like(3, RATE, seed=1)
NOISY = CLEAN + 0.02 * white(3, RATE, seed=2)


@pytest.mark.parametrize(("gain", "expected"), [(1.0, 0.0), (0.1, -20.0), (0.0, -np.inf)])
def test_energy_kept_is_the_gain_in_db(gain, expected):
    assert measure(gain * NOISY, NOISY, RATE, "energy_kept") == {"energy_kept": pytest.approx(expected)}


@pytest.mark.parametrize("sample_rate", [RATE, 48_000])
def test_no_speech_is_lost_by_the_truth_and_all_by_silence(sample_rate):
    clean = speech_like(3, sample_rate, seed=1)
    noisy = clean + 0.02 * white(3, sample_rate, seed=2)
    assert measure(clean, noisy, sample_rate, "speech_lost")["speech_lost"] == 0
    assert measure(noisy, noisy, sample_rate, "speech_lost")["speech_lost"] == 0
    assert measure(0 * noisy, noisy, sample_rate, "speech_lost")["speech_lost"] == 100


def test_a_gap_loses_some_of_the_speech():
    gap = np.ones(len(CLEAN))
    gap[: len(gap) // 2] = 0.1
    assert 15 < measure(gap * CLEAN, NOISY, RATE, "speech_lost")["speech_lost"] < 85


def test_noise_alone_holds_no_voice_that_could_be_lost():
    values = measure(0 * NOISY, white(3, RATE), RATE, "speech_lost")
    assert np.isnan(values["speech_lost"])
    assert "voiced frames are needed" in values.reasons["speech_lost"]


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("noisy", [np.zeros(1), np.zeros(RATE), np.ones(1)])
def test_the_reason_speaks_of_the_recording(name, noisy):
    values = measure(noisy, noisy, RATE, name)
    assert list(values) == [name]
    assert np.isnan(values[name]) == (name in values.reasons)
    assert "reference" not in "".join(values.reasons.values())


@pytest.mark.parametrize("n", [1, 9, 1000])
def test_remixed_noise_is_the_removed_noise_in_other_order(n):
    estimate, noisy = CLEAN[:n], NOISY[:n]
    noise = remix(estimate, noisy, np.random.default_rng(0)) - estimate
    assert np.sort(noise) == pytest.approx(np.sort(noisy - estimate))
    assert n == 1 or not np.allclose(noise, noisy - estimate)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"speech_lost": 3.0, "dnsmos_ovrl": 2.95, "energy_kept": -6.0}, ""),
        ({"speech_lost": np.nan, "dnsmos_ovrl": np.nan}, ""),
        ({}, ""),
        ({"speech_lost": 40.0}, "speech may be lost in 40 %"),
        ({"dnsmos_ovrl": 2.5}, "DNSMOS overall fell by 0.50"),
        ({"dnsmos_sig": 2.9}, "DNSMOS speech fell by 0.60"),
        ({"energy_kept": -np.inf}, "nothing is left"),
    ],
)
def test_the_verdict_names_what_fell(values, expected):
    verdict_ = verdict(values, {"dnsmos_ovrl": 3.0, "dnsmos_sig": 3.5})
    assert verdict_.startswith(expected)
    assert bool(verdict_) == bool(expected)
