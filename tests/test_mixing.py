import numpy as np
import pytest

from miase.errors import CorpusError
from miase.mixing import PEAK, crop, draw_crop, fit_length, mix_at_snr

RATE = 16000


def rng(seed=0):
    return np.random.default_rng(seed)


def speech(n=RATE, level=0.05, seed=10):
    return (level * rng(seed).standard_normal(n)).astype(np.float32)


def snr_db(clean, noise):
    return 10 * np.log10(np.sum(clean.astype(np.float64) ** 2) / np.sum(noise.astype(np.float64) ** 2))


@pytest.mark.parametrize("asked", [-15.0, 0.0, 5.0, 10.0, 30.0])
@pytest.mark.parametrize("level", [1e-3, 0.05, 0.5])
def test_is_the_measured_snr_the_asked_one(asked, level):
    mixture = mix_at_snr(speech(level=level), speech(level=0.3, seed=1), asked)
    assert snr_db(mixture.clean, mixture.noise) == pytest.approx(asked, abs=1e-3)
    assert np.allclose(mixture.noisy, mixture.clean + mixture.noise, atol=1e-6)


@pytest.mark.parametrize("n_noise", [800, 4000, RATE - 1, RATE, 5 * RATE])
def test_is_the_snr_right_after_repeating_or_cropping(n_noise):
    # The earlier code took the power before it repeated the clip, at most 5 times: asked 5 dB gave 11 to 14.
    loud_then_quiet = speech(n_noise, seed=2) * np.linspace(1, 0.02, n_noise, dtype=np.float32)
    clean = speech(8 * 800 + 5)
    noise = fit_length(loud_then_quiet, clean.size, rng())
    mixture = mix_at_snr(clean, noise, 5.0)
    assert snr_db(mixture.clean, mixture.noisy - mixture.clean) == pytest.approx(5.0, abs=1e-2)
    assert np.abs(noise.reshape(-1, 5)).max(axis=1).min() > 0  # filled to the end


def test_does_nothing_clip_and_the_snr_stay():
    clean = (0.9 * np.sin(np.arange(RATE) / 7)).astype(np.float32)
    mixture = mix_at_snr(clean, speech(), 0.0)
    assert mixture.gain < 1
    assert np.abs(mixture.noisy).max() <= PEAK + 1e-6
    assert snr_db(mixture.clean, mixture.noise) == pytest.approx(0.0, abs=1e-3)
    assert np.allclose(mixture.clean, mixture.gain * clean, atol=1e-6)


def test_is_the_level_of_the_speech_kept_when_nothing_clips():
    clean = speech()
    mixture = mix_at_snr(clean, speech(seed=3), 10.0)
    assert mixture.gain == 1
    assert np.array_equal(mixture.clean, clean)


def test_is_a_short_noise_repeated_without_a_limit_and_without_a_click():
    # A ramp jumps from 1 to -1 where it is repeated; the cross-fade spreads the jump over 10 ms.
    ramp = np.linspace(-1, 1, 1600, dtype=np.float32)
    fitted = fit_length(ramp, 20 * RATE, rng())
    assert fitted.shape == (20 * RATE,)
    assert np.abs(np.diff(fitted)).max() < 0.05
    period = 1600 - 160
    assert np.array_equal(fitted[:period], fitted[100 * period : 101 * period])


def test_does_the_start_differ_from_draw_to_draw():
    long, short = speech(4 * RATE), speech(RATE // 4)
    for noise in (long, short):
        crops = [fit_length(noise, RATE, rng(seed)) for seed in (1, 1, 2)]
        assert np.array_equal(crops[0], crops[1])
        assert not np.array_equal(crops[0], crops[2])


@pytest.mark.parametrize("n_noise", [1, 2, 3, 161, 320])
def test_is_a_very_short_noise_usable(n_noise):
    assert fit_length(np.full(n_noise, 0.5, np.float32), 1000, rng()).shape == (1000,)


def test_is_a_long_noise_cropped_from_itself():
    ramp = np.arange(1, 1001, dtype=np.float32)
    fitted = fit_length(ramp, 100, rng())
    assert np.array_equal(np.diff(fitted), np.ones(99))
    assert fit_length(ramp, 1000, rng()).tolist() == ramp.tolist()
    assert fit_length(ramp, 0, rng()).shape == (0,)


def test_is_a_silent_stretch_never_the_crop():
    noise = np.zeros(100 * RATE, np.float32)
    noise[50 * RATE : 50 * RATE + 100] = 0.1
    for seed in range(20):
        assert np.abs(fit_length(noise, RATE, rng(seed))).max() > 0


def test_can_a_drawn_crop_be_applied_again():
    noise = speech(3 * RATE)
    start = draw_crop(noise, RATE, rng(4))
    assert np.array_equal(crop(noise, RATE, start), fit_length(noise, RATE, rng(4)))


@pytest.mark.parametrize("n_noise", [0, 10, RATE, 3 * RATE])
def test_is_silent_noise_refused(n_noise):
    with pytest.raises(CorpusError, match="noise is silent"):
        fit_length(np.zeros(n_noise, np.float32), RATE, rng())


def test_are_inputs_without_an_snr_refused():
    x, silent = speech(), np.zeros(RATE, np.float32)
    with pytest.raises(CorpusError, match="speech is silent"):
        mix_at_snr(silent, x, 0)
    with pytest.raises(CorpusError, match="noise is silent"):
        mix_at_snr(x, silent, 0)
    with pytest.raises(CorpusError, match=r"speech \(16000,\) and noise \(15999,\)"):
        mix_at_snr(x, x[1:], 0)
    broken = x.copy()
    broken[5] = np.nan
    with pytest.raises(CorpusError, match="not finite"):
        mix_at_snr(x, broken, 0)
