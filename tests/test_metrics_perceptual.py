import warnings

import numpy as np
import pesq
import pystoi
import pytest

from miase.metrics.perceptual import estoi, pesq_nb, pesq_wb, stoi
from miase.resampling import resample
from signals import speech_like, white

RATE = 16_000
CLEAN = speech_like(3, RATE, seed=4)
NOISY = CLEAN + 0.01 * white(3, RATE, seed=5)


def value(metric, estimate, reference=CLEAN, sample_rate=RATE):
    ((_, number),) = metric(estimate, reference, sample_rate).items()
    return number


def reason(metric, estimate, reference, sample_rate=RATE):
    values = metric(estimate, reference, sample_rate)
    assert all(np.isnan(number) for number in values.values())
    (text,) = values.reasons.values()
    assert list(values.reasons) == list(values)
    return text


@pytest.mark.parametrize(("metric", "mode"), [(pesq_wb, "wb"), (pesq_nb, "nb")])
def test_pesq_equals_the_package(metric, mode):
    assert value(metric, NOISY) == pesq.pesq(RATE, CLEAN, NOISY, mode)


@pytest.mark.parametrize(("metric", "extended"), [(stoi, False), (estoi, True)])
def test_stoi_equals_the_package_at_its_own_rate(metric, extended):
    clean, noisy = speech_like(3, 10_000, seed=4), speech_like(3, 10_000, seed=4) + 0.01 * white(3, 10_000)
    # pystoi adds random numbers of the size of a rounding error
    expected = pystoi.stoi(clean, noisy, 10_000, extended=extended)
    assert value(metric, noisy, clean, 10_000) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("metric", "extended", "tolerance"), [(stoi, False, 1e-3), (estoi, True, 3e-3)])
@pytest.mark.parametrize("level", [0.003, 0.03])
def test_stoi_differs_little_from_the_packages_own_resampling(metric, extended, tolerance, level):
    noisy = CLEAN + level * white(3, RATE, seed=5)
    expected = pystoi.stoi(CLEAN, noisy, RATE, extended=extended)
    assert value(metric, noisy) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("metric", [pesq_wb, pesq_nb, stoi, estoi])
def test_a_pair_at_48_khz_scores_like_the_pair_resampled_before(metric):
    clean = speech_like(3, 48_000, seed=4)
    noisy = clean + 0.01 * white(3, 48_000, seed=5)
    clean16, noisy16 = (resample(x.astype(np.float32), 48_000, RATE) for x in (clean, noisy))
    assert value(metric, noisy, clean, 48_000) == pytest.approx(value(metric, noisy16, clean16), abs=5e-3)


@pytest.mark.parametrize(
    ("metric", "best"), [(pesq_wb, 4.6439), (pesq_nb, 4.5486), (stoi, 1.0), (estoi, 1.0)]
)
def test_identity_has_the_best_value(metric, best):
    assert value(metric, CLEAN) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("metric", [pesq_wb, pesq_nb, stoi, estoi])
def test_more_noise_is_worse(metric):
    noise = white(3, RATE, seed=6)
    values = [value(metric, CLEAN + level * noise) for level in (0.001, 0.01, 0.1)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 3


@pytest.mark.parametrize("sample_rate", [16_000, 48_000])
def test_a_near_perfect_estimate_is_not_pulled_down_by_padding(sample_rate):
    """Zeros put before the signals once held STOI at 0.974 and lower for any estimate."""
    clean = speech_like(1.5, sample_rate, seed=7)
    estimate = clean + 1e-5 * white(1.5, sample_rate)
    assert value(stoi, estimate, clean, sample_rate) > 0.9999
    assert value(estoi, estimate, clean, sample_rate) > 0.999


@pytest.mark.parametrize(
    ("metric", "text"),
    [(pesq_wb, "0.25 to 30 s"), (pesq_nb, "0.25 to 30 s"), (stoi, "0.4 s"), (estoi, "0.4 s")],
)
@pytest.mark.parametrize("n", [1, 2, 100, 400, 3999])
def test_too_short_is_undefined_with_a_reason(metric, text, n):
    part = CLEAN[1000 : 1000 + n]
    assert text in reason(metric, part, part)


@pytest.mark.parametrize("metric", [pesq_wb, pesq_nb])
def test_pesq_of_long_clips_is_undefined_since_the_reference_code_would_crash(metric):
    long = np.tile(CLEAN, 11)[: 30 * RATE + 1]
    assert "30 s" in reason(metric, long, long)


@pytest.mark.parametrize("metric", [pesq_wb, pesq_nb, stoi, estoi])
def test_silent_reference_is_undefined_with_a_reason(metric):
    assert reason(metric, NOISY, np.zeros_like(CLEAN)) == "the reference is silent"


@pytest.mark.parametrize("metric", [pesq_wb, pesq_nb])
def test_pesq_of_a_silent_estimate_is_undefined_with_a_reason(metric):
    assert "the estimate is silent" in reason(metric, np.zeros_like(CLEAN), CLEAN)


def test_stoi_of_a_silent_estimate_is_zero():
    assert value(stoi, np.zeros_like(CLEAN)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("metric", [pesq_wb, pesq_nb])
def test_pesq_without_utterances_is_undefined_with_a_reason(metric):
    burst = np.pad(white(0.1, RATE), 4000)  # shorter than an utterance must be
    assert "no utterance" in reason(metric, burst, burst)


@pytest.mark.parametrize("metric", [stoi, estoi])
def test_stoi_of_mostly_silence_is_undefined_without_a_warning(metric):
    clean = np.zeros(2 * RATE)
    clean[8000:12_000] = CLEAN[8000:12_000]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert "30 frames" in reason(metric, clean, clean)
    assert not caught
