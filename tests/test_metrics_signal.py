import numpy as np
import pytest

from miase.errors import EvaluationError
from miase.metrics.signal import high_band_snr, lsd, segmental_snr, si_sdr, snr
from signals import speech_like, white

RATE = 16_000
CLEAN = speech_like(2, RATE, seed=1)
ALL = (snr, segmental_snr, si_sdr, lsd)


def value(metric, estimate, reference=CLEAN, sample_rate=RATE):
    ((_, number),) = metric(estimate, reference, sample_rate).items()
    return number


def orthogonal_noise(decibels):
    """Noise of zero mean, without any part of CLEAN in it, at a stated SNR."""
    clean = CLEAN - CLEAN.mean()
    noise = white(2, RATE, seed=2)
    noise -= noise.mean()
    noise -= np.dot(noise, clean) / np.dot(clean, clean) * clean
    return noise * np.sqrt(np.sum(CLEAN**2) / np.sum(noise**2) / 10 ** (decibels / 10))


@pytest.mark.parametrize("decibels", [-5, 0, 10, 60])
def test_snr_is_the_one_made(decibels):
    assert value(snr, CLEAN + orthogonal_noise(decibels)) == pytest.approx(decibels, abs=1e-6)


@pytest.mark.parametrize("decibels", [-5, 0, 10, 60])
def test_si_sdr_is_the_one_made(decibels):
    clean = CLEAN - CLEAN.mean()
    noise = orthogonal_noise(decibels) * np.sqrt(np.sum(clean**2) / np.sum(CLEAN**2))
    assert value(si_sdr, clean + noise, clean) == pytest.approx(decibels, abs=1e-6)


@pytest.mark.parametrize("decibels", [-5, 0, 30])
def test_high_band_snr_is_that_of_tones_above_8_khz_whatever_lies_below(decibels):
    rate, time = 48_000, np.arange(48_000) / 48_000
    clean = np.sin(2 * np.pi * 10_000 * time) + np.sin(2 * np.pi * 500 * time)
    error = 10 ** (-decibels / 20) * np.sin(2 * np.pi * 15_000 * time)
    below = 0.7 * np.sin(2 * np.pi * 3_000 * time)
    assert value(high_band_snr, clean + error + below, clean, rate) == pytest.approx(decibels, abs=1e-6)
    assert value(high_band_snr, below, clean, rate) == pytest.approx(0, abs=1e-6)  # nothing up there


def test_high_band_snr_is_undefined_where_there_is_no_such_band():
    values = high_band_snr(CLEAN, CLEAN, RATE)
    assert np.isnan(values["high_band_snr"])
    assert values.reasons == {"high_band_snr": "a sample rate of 16000 Hz holds nothing above 8000 Hz"}


@pytest.mark.parametrize("gain", [1e-3, -1.0, 7.0])
def test_si_sdr_ignores_scale_and_offset(gain):
    noisy = CLEAN + 0.05 * white(2, RATE)
    expected = value(si_sdr, noisy)
    assert value(si_sdr, gain * noisy + 0.3) == pytest.approx(expected, abs=1e-9)
    assert value(si_sdr, noisy, gain * CLEAN - 0.2) == pytest.approx(expected, abs=1e-9)
    assert value(snr, gain * noisy) != pytest.approx(value(snr, noisy), abs=0.1)


def test_si_sdr_without_means_gives_the_number_worked_out_by_hand():
    # s = (1, -1, 1, -1), e = (2, 0, 1, -3): mean 0, <e, s> = 6, a = 1.5, |a s|^2 = 9, |a s - e|^2 = 5
    number = value(si_sdr, np.array([2.0, 0, 1, -3]), np.array([1.0, -1, 1, -1]))
    assert number == pytest.approx(10 * np.log10(9 / 5), abs=1e-12)


def test_snr_and_si_sdr_keep_the_rate():
    """White noise counts in full, up to the Nyquist frequency of the clip."""
    estimate = CLEAN + orthogonal_noise(5)
    assert value(snr, estimate, sample_rate=48_000) == value(snr, estimate, sample_rate=16_000)
    assert value(si_sdr, estimate, sample_rate=48_000) == value(si_sdr, estimate, sample_rate=16_000)


def slow_segmental_snr(estimate, reference):
    """The published equation, sample by sample: 480 samples, every 120, the last full frame left out."""
    values = []
    start = 0
    for _ in range(int(np.floor(len(reference) / 120 - 480 / 120))):
        signal = noise = 0.0
        for n in range(480):
            window = 0.5 * (1 - np.cos(2 * np.pi * (n + 1) / 481))
            signal += (window * reference[start + n]) ** 2
            noise += (window * (reference[start + n] - estimate[start + n])) ** 2
        values.append(min(max(10 * np.log10(signal / (noise + 2**-52) + 2**-52), -10), 35))
        start += 120
    return sum(values) / len(values)


@pytest.mark.parametrize("n", [600, 719, 720, 3000])
def test_segmental_snr_against_a_slow_loop(n):
    clean, noisy = CLEAN[2000 : 2000 + n], (CLEAN + 0.01 * white(2, RATE))[2000 : 2000 + n]
    assert value(segmental_snr, noisy, clean) == pytest.approx(slow_segmental_snr(noisy, clean), abs=1e-9)


def test_segmental_snr_of_two_frames_by_hand():
    # 720 samples are two counted frames, both at 20 dB; the third fits but is left out with its error
    error = np.where(np.arange(720) < 600, 0.1, 1e6)
    assert value(segmental_snr, 1 + error, np.ones(720)) == pytest.approx(20, abs=1e-9)


@pytest.mark.parametrize(("error", "limit"), [(1e-9, 35), (100.0, -10)])
def test_segmental_snr_has_the_limits_of_hansen_and_pellom(error, limit):
    assert value(segmental_snr, CLEAN + error * white(2, RATE)) == pytest.approx(limit, abs=1e-9)


def test_segmental_snr_is_that_of_16_khz_at_any_rate():
    """Noise above 8 kHz is not heard by the metric; at 48 kHz it would dominate the value."""
    clean = speech_like(2, 48_000, seed=1)
    t = np.arange(len(clean)) / 48_000
    quiet = clean + 0.003 * np.sin(2 * np.pi * 1000 * t)
    assert value(segmental_snr, quiet + 0.3 * np.sin(2 * np.pi * 15_000 * t), clean, 48_000) == pytest.approx(
        value(segmental_snr, quiet, clean, 48_000), abs=0.05
    )


def test_lsd_against_a_slow_loop():
    clean, noisy = CLEAN[4000:5500], (CLEAN + 0.01 * white(2, RATE))[4000:5500]
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frames = []
    for start in range(0, 1500 - 512 + 1, 128):
        s, e = (abs(fourier @ (window * x[start : start + 512])) ** 2 for x in (clean, noisy))
        frames.append(np.sqrt(np.mean((10 * np.log10(s) - 10 * np.log10(e)) ** 2)))
    assert value(lsd, noisy, clean) == pytest.approx(np.mean(frames), abs=1e-6)


@pytest.mark.parametrize("gain", [0.1, 2.0])
def test_lsd_of_a_gain_is_its_decibels(gain):
    noise = white(2, RATE)  # no bin of it is near the floor of -100 dB
    assert value(lsd, gain * noise, noise) == pytest.approx(abs(20 * np.log10(gain)), abs=1e-9)


def test_lsd_of_silence_is_finite():
    # -100 dB of the largest power is the floor, so no frame can be further than 100 dB away
    assert 20 < value(lsd, np.zeros_like(CLEAN)) < 100


def test_identity_has_the_best_value():
    assert value(snr, CLEAN) == np.inf
    assert value(si_sdr, CLEAN) > 250
    assert value(segmental_snr, CLEAN) == 35
    assert value(lsd, CLEAN) == 0


@pytest.mark.parametrize("metric", ALL)
def test_more_noise_is_worse(metric):
    noise = white(2, RATE, seed=3)
    values = [value(metric, CLEAN + level * noise) for level in (0.001, 0.01, 0.1)]
    assert values == sorted(values, reverse=metric is not lsd)
    assert len(set(values)) == 3


@pytest.mark.parametrize("metric", ALL)
def test_silent_reference_is_undefined_with_a_reason(metric):
    values = metric(CLEAN, np.zeros_like(CLEAN), RATE)
    ((name, number),) = values.items()
    assert np.isnan(number)
    assert values.reasons == {name: "the reference is silent"}


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_si_sdr_of_a_constant_is_undefined(constant):
    values = si_sdr(np.full_like(CLEAN, constant), CLEAN, RATE)
    assert np.isnan(values["si_sdr"])
    assert values.reasons == {"si_sdr": "the estimate is constant"}


def test_snr_of_a_silent_estimate_is_zero():
    assert value(snr, np.zeros_like(CLEAN)) == 0


@pytest.mark.parametrize(("metric", "shortest"), [(segmental_snr, 600), (lsd, 512)])
def test_too_short_is_undefined_with_a_reason(metric, shortest):
    clean = CLEAN[2000 : 2000 + shortest]
    assert np.isfinite(value(metric, 1.1 * clean, clean))
    values = metric(clean[:-1], clean[:-1], RATE)
    assert all(np.isnan(number) for number in values.values())
    assert all("shorter than" in values.reasons[name] for name in values)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("estimate", "reference"),
    [(CLEAN[1:], CLEAN), (CLEAN, CLEAN[1:]), (CLEAN[None], CLEAN[None]), (CLEAN[None], CLEAN), (CLEAN, None)],
)
def test_wrong_inputs_raise(metric, estimate, reference):
    with pytest.raises(EvaluationError):
        metric(estimate, reference, RATE)


def test_float32_and_integers_are_taken_as_they_are():
    noisy = CLEAN + 0.05 * white(2, RATE)
    assert value(snr, noisy.astype(np.float32), CLEAN.astype(np.float32)) == pytest.approx(
        value(snr, noisy), abs=1e-4
    )
    # int16 would wrap around in the squares
    assert value(snr, np.array([30_000, 0], np.int16), np.array([30_000, 3000], np.int16)) == pytest.approx(
        10 * np.log10(101), abs=1e-9
    )
