import numpy as np
import pytest

from miase.errors import EvaluationError
from miase.metrics.dnsmos import dnsmos_p808, dnsmos_p835, mel_features, mel_filters
from signals import speech_like, white

RATE = 16_000


def noisy(seconds):
    return speech_like(seconds, RATE, seed=1) + 0.01 * white(seconds, RATE, seed=2)


# Made by the published code, speechmos 0.0.1.1 with librosa 0.11.0 in an environment of its own:
#     speechmos.dnsmos.run(noisy(seconds), 16000)
# 4 s is doubled twice to 16 s and gives 7 segments, 12 s gives 3. Order: SIG, BAK, OVRL, P.808.
PUBLISHED = {
    4: (3.389469573934016, 2.1554515975716284, 2.0340105681070866, 2.3900487422943115),
    12: (3.456824622483745, 2.1587721141071587, 2.1026472287195355, 2.4815752506256104),
}


@pytest.mark.parametrize("seconds", PUBLISHED)
def test_dnsmos_equals_the_published_code(seconds):
    values = {**dnsmos_p835(noisy(seconds), None, RATE), **dnsmos_p808(noisy(seconds), None, RATE)}
    assert list(values) == ["dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808"]
    assert list(values.values()) == pytest.approx(PUBLISHED[seconds], abs=2e-3)


def test_mel_features_equal_librosa():
    # librosa 0.11.0: (power_to_db(feature.melspectrogram(y=noisy(4), sr=16000, n_fft=321, hop_length=160,
    # n_mels=120), ref=np.max) + 40) / 40, transposed; mean, standard deviation and a few values.
    features = mel_features(noisy(4))
    assert features.shape == (400, 120)
    assert features.max() == 1
    assert (features.mean(), features.std()) == pytest.approx(
        (0.02151801814400549, 0.2826522084028902), abs=1e-6
    )
    expected = (-0.8150389803309913, -0.17657107226888052, -0.2799650841410951, 0.07497030140970065)
    assert features[100, [0, 40, 80, 119]] == pytest.approx(expected, abs=1e-6)
    assert features[0, :3] == pytest.approx((-1.0, -0.24128246492332348, -0.931740371409299), abs=1e-6)


def test_mel_filters_have_equal_areas_and_lie_on_slaneys_scale():
    filters = mel_filters()
    assert filters.shape == (120, 161)
    frequencies = np.fft.rfftfreq(321, 1 / RATE)
    # Wide filters hold enough lines for the sum to be an integral.
    assert filters[-20:].sum(axis=1) * frequencies[1] == pytest.approx(np.ones(20), abs=0.05)
    # 1 kHz is 15 mel of the 15 + ln 8 / (ln 6.4 / 27) = 45.25 mel up to 8 kHz:
    # filter 15 / 45.25 * 121 - 1 = 39.
    assert abs(np.argmax(filters[:, np.argmin(abs(frequencies - 1000))]) - 39) <= 1


def test_more_noise_lowers_the_rating_of_the_background():
    clean, noise = speech_like(9.5, RATE, seed=3), white(9.5, RATE)
    values = [dnsmos_p835(clean + level * noise, None, RATE)["dnsmos_bak"] for level in (0.001, 0.01, 0.1)]
    assert values == sorted(values, reverse=True)


def test_the_reference_is_ignored():
    estimate = noisy(9.5)
    assert dnsmos_p808(estimate, None, RATE) == dnsmos_p808(estimate, np.zeros(3), RATE)


def test_other_rates_are_resampled():
    at_48 = speech_like(9.5, 48_000, seed=3)
    at_16 = at_48.reshape(-1, 3).mean(axis=1)
    assert dnsmos_p808(at_48, None, 48_000)["dnsmos_p808"] == pytest.approx(
        dnsmos_p808(at_16, None, RATE)["dnsmos_p808"], abs=0.1
    )


@pytest.mark.parametrize("metric", [dnsmos_p835, dnsmos_p808])
def test_too_short_is_undefined_with_a_reason(metric):
    values = metric(noisy(1)[:3999], None, RATE)
    assert np.isnan(list(values.values())).all()
    assert set(values.reasons) == set(values)


def test_a_silent_estimate_has_a_value():
    """A model that mutes everything must not drop out of the mean."""
    assert 1 <= dnsmos_p808(np.zeros(RATE), None, RATE)["dnsmos_p808"] <= 5


def test_several_channels_raise():
    with pytest.raises(EvaluationError):
        dnsmos_p808(np.zeros((2, RATE)), None, RATE)
