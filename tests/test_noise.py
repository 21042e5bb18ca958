import numpy as np
import pytest

from miase import noise

RATE = 16000


def power_density(x, length=4096):
    """Average the power spectra of windowed pieces (Welch); shape (length // 2 + 1,)."""
    pieces = x[: x.size // length * length].reshape(-1, length) * np.hanning(length)
    return np.mean(np.abs(np.fft.rfft(pieces)) ** 2, axis=0)


@pytest.mark.parametrize(("colour", "exponent"), noise.COLOURS.items())
def test_is_the_slope_of_the_colour_right(colour, exponent):
    x = noise.coloured(20 * RATE, np.random.default_rng(1), exponent).astype(np.float64)
    f = np.fft.rfftfreq(4096, 1 / RATE)
    band = (f > 100) & (f < 6000)
    slope = np.polyfit(np.log(f[band]), np.log(power_density(x)[band]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.06)


@pytest.mark.parametrize("exponent", noise.COLOURS.values())
def test_does_the_second_second_differ_from_the_first(exponent):
    # One second made and repeated is the well-known defect; its autocorrelation has a peak of 1 at some lag.
    x = noise.coloured(4 * RATE, np.random.default_rng(2), exponent).astype(np.float64)
    first = x[:RATE] - x[:RATE].mean()
    for start in range(RATE, 3 * RATE + 1, RATE):
        later = x[start : start + RATE] - x[start : start + RATE].mean()
        assert abs(np.corrcoef(first, later)[0, 1]) < 0.5
        assert not np.array_equal(first, later)


def test_is_the_whole_length_free_of_periods():
    x = noise.white(4 * RATE, np.random.default_rng(3)).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(x, 2 * x.size)) ** 2
    autocorrelation = np.fft.irfft(spectrum)[: x.size] / x.size
    assert np.abs(autocorrelation[1:]).max() < 0.05


def test_does_brown_noise_stay_audible_when_it_is_long():
    # Without the flat part below 16 Hz, nearly all power of a long brown noise lies below 20 Hz.
    x = noise.coloured(60 * RATE, np.random.default_rng(4), noise.COLOURS["brown"]).astype(np.float64)
    power = np.abs(np.fft.rfft(x)) ** 2
    f = np.fft.rfftfreq(x.size, 1 / RATE)
    assert power[f > 20].sum() / power.sum() > 0.3


KINDS = {
    "white": lambda n, rate, rng: noise.white(n, rng),
    "brown": lambda n, rate, rng: noise.coloured(n, rng, 2),
    "any": noise.synthetic,
} | {name: lambda n, rate, rng, name=name: noise.synthetic(n, rate, rng, (name,)) for name in noise.SYNTHETIC}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_is_noise_as_long_and_as_loud_as_promised(make):
    for seed in range(5):
        for rate in (8000, 16000, 48000):
            x = make(rate + 37 * seed, rate, np.random.default_rng(seed))
            assert x.shape == (rate + 37 * seed,)
            assert x.dtype == np.float32
            assert np.isfinite(x).all()
            assert np.sqrt(np.mean(x.astype(np.float64) ** 2)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("n", [0, 1, 2, 3, 17, 1000])
def test_is_short_noise_possible(make, n):
    x = make(n, RATE, np.random.default_rng(0))
    assert x.shape == (n,)
    assert np.isfinite(x).all()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_does_the_generator_alone_decide(make):
    first, again, other = (make(5000, RATE, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_are_one_to_three_different_kinds_drawn_and_all_of_them_at_some_time():
    rng = np.random.default_rng(0)
    drawn = [noise.draw_kinds(rng) for _ in range(300)]
    assert {len(kinds) for kinds in drawn} == {1, 2, 3}
    assert all(len(set(kinds)) == len(kinds) for kinds in drawn)
    assert {kind for kinds in drawn for kind in kinds} == set(noise.SYNTHETIC)


def envelope(x, rate=RATE, step=100):
    return np.sqrt(np.mean(x[: x.size // step * step].astype(np.float64).reshape(-1, step) ** 2, axis=1))


def test_do_pulses_beat_two_to_forty_times_a_second():
    for seed in range(5):
        beat = envelope(noise.synthetic(8 * RATE, RATE, np.random.default_rng(seed), ("pulses",)))
        spectrum = np.abs(np.fft.rfft((beat - beat.mean()) * np.hanning(beat.size)))
        f = np.fft.rfftfreq(beat.size, 100 / RATE)
        assert 1.5 < f[spectrum.argmax()] < 60


def test_is_hum_made_of_lines_and_hiss_not():
    def peakiness(kind, seed):
        x = noise.synthetic(4 * RATE, RATE, np.random.default_rng(seed), (kind,)).astype(np.float64)
        density = power_density(x, 2048)
        return np.sort(density)[-20:].sum() / density.sum()

    hum = np.median([peakiness("hum", seed) for seed in range(9)])
    hiss = np.median([peakiness("hiss", seed) for seed in range(9)])
    assert hum > 0.7
    assert hum > hiss


def test_does_a_siren_stay_within_its_band():
    for seed in range(5):
        x = noise.synthetic(4 * RATE, RATE, np.random.default_rng(seed), ("siren",)).astype(np.float64)
        density = power_density(x)
        f = np.fft.rfftfreq(4096, 1 / RATE)
        assert density[f < 250].sum() / density.sum() < 0.01


@pytest.mark.parametrize("kind", ["clatter", "bursts", "gusts", "babble"])
def test_do_these_kinds_swing_in_level_and_hiss_does_not(kind):
    def swing(name):
        levels = [
            envelope(noise.synthetic(4 * RATE, RATE, np.random.default_rng(s), (name,))) for s in range(9)
        ]
        return np.median([level.std() / level.mean() for level in levels])

    assert swing(kind) > 1.5 * swing("hiss")
