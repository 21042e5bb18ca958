import numpy as np
import pytest
from scipy.linalg import solve, toeplitz

from miase.metrics.composite import CRITICAL_BANDS, composite, llr, ratings, wss
from miase.metrics.perceptual import pesq_wb
from signals import speech_like, white

RATE = 16_000
CLEAN = speech_like(3, RATE, seed=8)
NOISY = CLEAN + 0.01 * white(3, RATE, seed=9)


def slow_frames(signal):
    window = [0.5 * (1 - np.cos(2 * np.pi * n / 481)) for n in range(1, 481)]
    count = int(np.floor(len(signal) / 120 - 480 / 120))
    return [np.array(window) * signal[k * 120 : k * 120 + 480] for k in range(count)]


def mean_of_lowest(values):
    return np.mean(sorted(values)[: int(len(values) * 0.95 + 0.5)])


def slow_llr(estimate, reference):
    """From the equation, with explicit Toeplitz matrices and the normal equations solved by scipy."""

    def correlation(frame):
        return np.array([np.dot(frame[: 480 - k], frame[k:]) for k in range(17)])

    values = []
    for s, e in zip(slow_frames(reference), slow_frames(estimate), strict=True):
        r = correlation(s)
        a_s, a_e = (np.r_[1, -solve(toeplitz(c[:16]), c[1:])] for c in (r, correlation(e)))
        values.append(np.log((a_e @ toeplitz(r) @ a_e) / (a_s @ toeplitz(r) @ a_s)))
    return mean_of_lowest(values)


def slow_wss(estimate, reference):
    """From Klatt's equations, band by band, with the peak search of Loizou's program."""

    def levels(frame):
        power = abs(np.fft.fft(frame, 1024)[:512]) ** 2
        energies = []
        for centre, width in CRITICAL_BANDS:
            energy = 0.0
            for j in range(512):
                distance = (j - np.floor(centre / 8000 * 512)) / (width / 8000 * 512)
                gain = np.exp(-11 * distance**2 + np.log(70) - np.log(width))
                energy += power[j] * gain if gain > np.exp(-30 / (2 * 2.303)) else 0
            energies.append(10 * np.log10(max(energy, 1e-10)))
        return energies

    def weights(level):
        slope = np.diff(level)
        result = []
        for i in range(24):
            n = i
            if slope[i] > 0:
                while n < 24 and slope[n] > 0:
                    n += 1
                peak = level[n - 1]
            else:
                while n >= 0 and slope[n] <= 0:
                    n -= 1
                peak = level[n + 1]
            result.append(20 / (20 + max(level) - level[i]) / (1 + peak - level[i]))
        return np.array(result)

    values = []
    for s, e in zip(slow_frames(reference), slow_frames(estimate), strict=True):
        level_s, level_e = levels(s), levels(e)
        w = (weights(level_s) + weights(level_e)) / 2
        values.append(np.sum(w * (np.diff(level_s) - np.diff(level_e)) ** 2) / np.sum(w))
    return mean_of_lowest(values)


@pytest.mark.parametrize("level", [0.001, 0.1])
def test_llr_against_explicit_matrices(level):
    clean = CLEAN[8000:16_000]
    noisy = clean + level * white(0.5, RATE)
    assert llr(noisy, clean, RATE)["llr"] == pytest.approx(slow_llr(noisy, clean), rel=1e-6)


def test_llr_of_filtered_noise_is_the_one_worked_out_by_hand():
    """Noise against the same noise through 1 / (1 - 0.5 z): R is the identity, a_e = (1, -0.5), log 1.25."""
    noise = white(20, RATE)
    filtered = noise.copy()
    for n in range(1, len(noise)):
        filtered[n] += 0.5 * filtered[n - 1]
    # Frames of 30 ms estimate the filters roughly, and the highest 5 % are left out, so not exactly 0.223.
    assert llr(filtered, noise, RATE)["llr"] == pytest.approx(np.log(1.25), abs=0.03)


@pytest.mark.parametrize("level", [0.001, 0.1])
def test_wss_against_a_slow_loop(level):
    clean = CLEAN[9000:11_000]
    noisy = clean + level * white(0.125, RATE)
    assert wss(noisy, clean, RATE)["wss"] == pytest.approx(slow_wss(noisy, clean), rel=1e-9)


@pytest.mark.parametrize("metric", [llr, wss])
@pytest.mark.parametrize("gain", [0.5, 1, 2])
def test_gain_changes_neither_llr_nor_wss(metric, gain):
    ((_, number),) = metric(gain * CLEAN, CLEAN, RATE).items()
    assert number == pytest.approx(0, abs=1e-6)


def test_ratings_are_the_published_regressions():
    # Worked out by hand from Hu and Loizou: PESQ 2, LLR 1, WSS 50, segmental SNR 5 dB.
    assert ratings(2.0, 1.0, 50.0, 5.0) == pytest.approx(
        {"csig": 2.820, "cbak": 2.555, "covl": 2.342}, abs=1e-9
    )
    assert set(ratings(4.6, 0.0, 0.0, 35.0).values()) == {5.0}
    assert set(ratings(1.0, 9.0, 300.0, -10.0).values()) == {1.0}


def test_composite_gives_its_parts_as_the_metrics_of_these_names_do():
    values = composite(NOISY, CLEAN, RATE)
    assert not values.reasons
    assert values["pesq_wb"] == pesq_wb(NOISY, CLEAN, RATE)["pesq_wb"]
    assert values["llr"] == llr(NOISY, CLEAN, RATE)["llr"]
    assert values["wss"] == wss(NOISY, CLEAN, RATE)["wss"]


def test_identity_has_the_best_values():
    values = composite(CLEAN, CLEAN, RATE)
    assert [values[name] for name in ("csig", "cbak", "covl", "llr", "wss")] == [5, 5, 5, 0, 0]


def test_more_noise_is_worse():
    noise = white(3, RATE, seed=10)
    weak, strong = (composite(CLEAN + level * noise, CLEAN, RATE) for level in (0.005, 0.05))
    for name in ("csig", "cbak", "covl"):
        assert weak[name] > strong[name]
    for name in ("llr", "wss"):
        assert weak[name] < strong[name]


def test_a_silent_estimate_has_distances_but_no_ratings():
    values = composite(np.zeros_like(CLEAN), CLEAN, RATE)
    assert values["llr"] > 1
    assert values["wss"] > 10
    undefined = {"csig", "cbak", "covl", "pesq_wb"}
    assert {name for name in values if np.isnan(values[name])} == undefined == set(values.reasons)


@pytest.mark.parametrize("muted", ["estimate", "reference", "both"])
def test_pauses_of_digital_silence_do_no_harm(muted):
    gate = np.repeat(np.arange(4) % 2, 12_000)
    estimate = NOISY * (gate if muted != "reference" else 1)
    reference = CLEAN * (gate if muted != "estimate" else 1)
    values = composite(estimate, reference, RATE)
    assert not values.reasons
    assert np.isfinite(list(values.values())).all()
    assert values["llr"] >= 0


def test_a_low_pass_signal_keeps_llr_defined():
    """Nothing above 4 kHz, as after resampling from 8 kHz, makes linear prediction badly conditioned."""
    spectrum = np.fft.rfft(CLEAN)
    spectrum[len(spectrum) // 2 :] = 0
    low = np.fft.irfft(spectrum, len(CLEAN))
    for estimate, reference in ((low, CLEAN), (CLEAN, low), (0.99 * low, low)):
        number = llr(estimate, reference, RATE)["llr"]
        assert np.isfinite(number)
        assert number > -1e-6


def test_a_pure_tone_keeps_llr_defined():
    tone = np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
    assert np.isfinite(llr(CLEAN[:RATE], tone, RATE)["llr"])
    assert np.isfinite(llr(tone, CLEAN[:RATE], RATE)["llr"])
    assert np.isfinite(llr(np.ones(RATE), CLEAN[:RATE], RATE)["llr"])


@pytest.mark.parametrize("metric", [composite, llr, wss])
def test_silent_reference_and_too_short_are_undefined_with_a_reason(metric):
    for estimate, reference in ((NOISY, np.zeros_like(CLEAN)), (NOISY[:599], CLEAN[:599])):
        values = metric(estimate, reference, RATE)
        assert np.isnan(list(values.values())).all()
        assert set(values.reasons) == set(values)
