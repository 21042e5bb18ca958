"""Artificial noise of any length from a given random generator.

White, coloured, and a family that sounds like the world. Nothing here is recorded, so nothing needs a
licence. `white`, `coloured` and `synthetic` return shape (time,), float32, with a root mean square of one,
the same for the same state of the generator. Noise is made over its whole length and never repeats.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from miase.sounds import Samples

Curve = NDArray[np.float64]

COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0, "blue": -1.0, "violet": -2.0}
"""Name -> exponent of `coloured`."""

# Below this frequency (cycles per sample; 16 Hz at 16 kHz) coloured noise is flat. Without it the power of
# brown noise moves into ever lower, inaudible frequencies the longer the noise is.
FLAT_BELOW = 1e-3

TABLE_LENGTH = 2048  # samples of one period of a tone; linear interpolation leaves errors below -80 dB


def white(n: int, rng: np.random.Generator) -> Samples:
    """Make `n` samples of Gaussian white noise, shape (n,), unit RMS."""
    return _unit_rms(rng.standard_normal(n)).astype(np.float32)


def coloured(n: int, rng: np.random.Generator, exponent: float) -> Samples:
    """Make Gaussian noise whose power density falls as 1 / f ** exponent.

    Args:
        n: samples to make.
        rng: where the noise is drawn from.
        exponent: 0 white, 1 pink, 2 brown, -1 blue, -2 violet (see `COLOURS`); 3 dB per octave each.

    Returns:
        Shape (n,), unit RMS. Flat below `FLAT_BELOW`.
    """
    return _unit_rms(_filtered(n, rng, lambda f: np.maximum(f, FLAT_BELOW) ** (-exponent / 2))).astype(
        np.float32
    )


def synthetic(n: int, sample_rate: int, rng: np.random.Generator, kinds: tuple[str, ...] = ()) -> Samples:
    """Make one random noise of the family `SYNTHETIC`, or a sum of several.

    Args:
        n: samples to make.
        sample_rate: in Hz.
        rng: where everything is drawn from.
        kinds: names from `SYNTHETIC` to be summed at levels within 12 dB; drawn by `draw_kinds` when empty.

    Returns:
        Shape (n,), unit RMS.
    """
    total = np.zeros(n)
    for kind in kinds or draw_kinds(rng):
        total += 10 ** (rng.uniform(-12, 0) / 20) * _unit_rms(SYNTHETIC[kind](n, sample_rate, rng))
    return _unit_rms(total).astype(np.float32)


def draw_kinds(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw one to three different names of `SYNTHETIC`."""
    names = list(SYNTHETIC)
    return tuple(names[i] for i in rng.permutation(len(names))[: rng.integers(1, 4)])


def hiss(n: int, sample_rate: int, rng: np.random.Generator) -> Curve:
    """Steady noise with a random tilt and a random smooth equaliser: fans, rain, traffic, air."""
    octave = np.linspace(math.log2(30), math.log2(sample_rate / 2), 10)
    level_db = rng.normal(0, 5, octave.size) - rng.uniform(-1.5, 8) * (octave - octave[0])
    if rng.random() < 0.5:  # one band stands out
        centre, width = rng.uniform(math.log2(100), octave[-1]), rng.uniform(0.3, 1.2)
        level_db += rng.uniform(6, 30) * np.exp(-(((octave - centre) / width) ** 2))

    def gain(f: Curve) -> Curve:
        curve_db = np.interp(np.log2(np.maximum(f * sample_rate, 1)), octave, level_db)
        return np.asarray(10 ** (curve_db / 20))

    return _filtered(n, rng, gain)


def gusts(n: int, sample_rate: int, rng: np.random.Generator) -> Curve:
    """Hiss that swells and fades at random: wind, passing cars, waves."""
    swell = _slow(n, sample_rate, rng, _log_uniform(rng, 0.3, 6))
    return hiss(n, sample_rate, rng) * np.exp(rng.uniform(0.4, 1.3) * swell)


def pulses(n: int, sample_rate: int, rng: np.random.Generator) -> Curve:
    """Hiss struck 2 to 40 times a second: jackhammer, drill, engine, train."""
    rate = _log_uniform(rng, 2, 40)
    phase = _phase(rate * 2 ** (rng.uniform(0, 0.2) * _slow(n, sample_rate, rng, 1)), sample_rate, rng)
    stroke, place = phase.astype(np.int64), phase % 1
    strength = rng.lognormal(0, rng.uniform(0, 0.4), int(stroke.max(initial=0)) + 1)
    envelope = strength[stroke] * np.exp(-rng.uniform(2, 14) * place)
    return hiss(n, sample_rate, rng) * (envelope + rng.uniform(0, 0.25))


def hum(n: int, sample_rate: int, rng: np.random.Generator) -> Curve:
    """A slowly drifting stack of harmonics on 30 to 1000 Hz: mains, motors, compressors, fans."""
    drift = rng.uniform(0, 0.05) * _slow(n, sample_rate, rng, rng.uniform(0.2, 3))
    f0 = _log_uniform(rng, 30, 1000)
    tone = _tone(_phase(f0 * 2**drift, sample_rate, rng), _harmonics(f0, 64, sample_rate, rng))
    return tone * np.exp(rng.uniform(0, 0.5) * _slow(n, sample_rate, rng, rng.uniform(0.3, 8)))


def siren(n: int, sample_rate: int, rng: np.random.Generator) -> Curve:
    """A tone that sweeps within 300 to 3000 Hz, once in 0.2 to 5 seconds: sirens, alarms, horns."""
    low = rng.uniform(300, 1200)
    high = min(low * rng.uniform(1.2, 3.5), 3000.0, 0.4 * sample_rate)
    place = _phase(np.full(n, 1 / _log_uniform(rng, 0.2, 5)), sample_rate, rng) % 1
    shapes = (
        place,  # saw: yelp
        np.abs(2 * place - 1),  # triangle: wail
        0.5 - 0.5 * np.cos(2 * math.pi * place),  # sine
        (place < 0.5).astype(np.float64),  # two tones
    )
    pitch = low * (high / low) ** shapes[rng.integers(len(shapes))]
    return _tone(_phase(pitch, sample_rate, rng), _harmonics(high, int(rng.integers(1, 9)), sample_rate, rng))


def clatter(n: int, sample_rate: int, rng: np.random.Generator) -> Curve:
    """Knocks of one to three ringing objects over a faint hiss: dishes, keys, steps, tools."""
    total = rng.uniform(0.01, 0.2) * _unit_rms(hiss(n, sample_rate, rng))
    for _ in range(rng.integers(1, 4)):
        time = np.arange(int(0.3 * sample_rate)) / sample_rate
        knock = _unit_rms(hiss(time.size, sample_rate, rng)) * np.exp(-time / _log_uniform(rng, 0.004, 0.08))
        for _ in range(rng.integers(0, 6)):
            pitch = _log_uniform(rng, 150, 0.45 * sample_rate)
            knock += (
                rng.random()
                * np.sin(2 * math.pi * pitch * time)
                * np.exp(-time / _log_uniform(rng, 0.005, 0.08))
            )
        total += _unit_rms(_struck(n, sample_rate, rng, knock, _log_uniform(rng, 2, 20)))
    return total


def bursts(n: int, sample_rate: int, rng: np.random.Generator) -> Curve:
    """Longer bursts, tonal or not, over a faint hiss: barks, shots, slammed doors, car horns."""
    length = int(_log_uniform(rng, 0.08, 0.8) * sample_rate)
    time = np.arange(length) / sample_rate
    f0 = _log_uniform(rng, 120, 1000)
    glide = f0 * (1 + rng.uniform(-0.3, 0.6) * np.exp(-time / (0.3 * time.size / sample_rate)))
    tone = _unit_rms(_tone(_phase(glide, sample_rate, rng), _harmonics(1.6 * f0, 24, sample_rate, rng)))
    tonal = rng.random()
    burst = tonal * tone + (1 - tonal) * _unit_rms(hiss(length, sample_rate, rng))
    attack = np.minimum(time / rng.uniform(0.001, 0.02), 1)
    burst = burst * attack * np.exp(-rng.uniform(3, 8) * np.arange(length) / length)
    faint = rng.uniform(0.01, 0.2) * _unit_rms(hiss(n, sample_rate, rng))
    return faint + _unit_rms(_struck(n, sample_rate, rng, burst, _log_uniform(rng, 1, 5)))


def babble(n: int, sample_rate: int, rng: np.random.Generator) -> Curve:
    """Three to six voices without words: noise through moving formants, three to six syllables a second."""
    frame = 2 * (max(int(0.032 * sample_rate), 2) // 2)
    n_frames = 2 * n // frame + 2
    frame_rate = 2 * sample_rate / frame
    f = np.fft.rfftfreq(frame, 1 / sample_rate)
    power = np.zeros((n_frames, f.size))
    for _ in range(rng.integers(3, 7)):
        rate, size = rng.uniform(3, 6), 2 ** rng.uniform(-0.25, 0.25)  # size: of the head
        syllables = _slow(n_frames, frame_rate, rng, 2 * rate) + _slow(n_frames, frame_rate, rng, 0.7)
        for formant, level in ((500, 1.0), (1500, 0.25), (2600, 0.06)):
            centre = formant * size * 2 ** (0.35 * _slow(n_frames, frame_rate, rng, rate))
            detuning = (f - centre[:, None]) / rng.uniform(60, 200)
            power += (level * np.exp(2 * syllables))[:, None] / (1 + detuning * detuning)
    # Independent Gaussian voices add in power, so one draw serves all of them.
    spectra = np.sqrt(power) * _complex_normal(power.shape, rng)
    window = np.sin(math.pi * (np.arange(frame) + 0.5) / frame)
    halves = (window * np.fft.irfft(spectra, frame)).reshape(n_frames, 2, frame // 2)
    return np.asarray((halves[1:, 0] + halves[:-1, 1]).reshape(-1)[:n])


def melody(n: int, sample_rate: int, rng: np.random.Generator) -> Curve:
    """One to four plucked or held voices that play random notes: street music, chimes, ring tones."""
    total = np.zeros(n)
    for _ in range(rng.integers(1, 5)):
        place = _phase(np.full(n, 1 / _log_uniform(rng, 0.1, 0.8)), sample_rate, rng)
        note = place.astype(np.int64)
        pitches = _log_uniform(rng, 80, 800) * 2 ** (rng.integers(-7, 8, int(note.max(initial=0)) + 1) / 12)
        amplitudes = _harmonics(float(pitches.max()), 24, sample_rate, rng)
        tone = _tone(_phase(pitches[note], sample_rate, rng), amplitudes)
        total += rng.uniform(0.3, 1) * _unit_rms(tone * np.exp(-rng.uniform(0, 6) * (place % 1)))
    return total


SYNTHETIC: dict[str, Callable[[int, int, np.random.Generator], Curve]] = {
    "hiss": hiss,
    "gusts": gusts,
    "pulses": pulses,
    "hum": hum,
    "siren": siren,
    "clatter": clatter,
    "bursts": bursts,
    "babble": babble,
    "melody": melody,
}
"""Name -> (samples, sample rate in Hz, generator) -> shape (time,), of any level."""


def _unit_rms(noise: Curve) -> Curve:
    rms = math.sqrt(float(np.mean(noise**2))) if noise.size else 0.0
    return noise / rms if rms > 0 else noise


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _complex_normal(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.complex128]:
    return rng.standard_normal((shape[0], 2 * shape[1])).view(np.complex128)


def _fast_length(n: int) -> int:
    """Find a length from `n` to 1.25 `n` (for `n` above 16) whose prime factors are 2, 3, 5 and 7."""
    step = 1 << max(0, n.bit_length() - 3)
    return max(2, -(-n // step) * step)


def _filtered(n: int, rng: np.random.Generator, gain: Callable[[Curve], Curve]) -> Curve:
    """Make white Gaussian noise times `gain` of the frequency in cycles per sample, over the whole length."""
    length = _fast_length(n)
    f = np.asarray(np.fft.rfftfreq(length), dtype=np.float64)
    noise = np.fft.irfft(gain(f) * _complex_normal((1, f.size), rng)[0], length)
    return np.asarray(noise[:n], dtype=np.float64)


def _slow(n: int, sample_rate: float, rng: np.random.Generator, rate: float) -> Curve:
    """Join normal values, `rate` of them a second, by straight lines; shape (n,)."""
    knots = rng.standard_normal(int(n / sample_rate * rate) + 3)
    time = np.arange(n) * (rate / sample_rate) + rng.random()
    return np.asarray(np.interp(time, np.arange(knots.size), knots))


def _phase(frequency: Curve, sample_rate: int, rng: np.random.Generator) -> Curve:
    """Turn a frequency curve in Hz into a phase in periods, starting within the first; shape (n,)."""
    return np.asarray(np.cumsum(frequency) / sample_rate + rng.random())


def _harmonics(f0: float, most: int, sample_rate: int, rng: np.random.Generator) -> Curve:
    """Draw amplitudes of the harmonics of `f0` (Hz): at most `most`, all below 0.4 of the sample rate."""
    order = np.arange(1, max(1, min(most, int(0.4 * sample_rate / f0))) + 1)
    return np.asarray(order ** -rng.uniform(0.2, 2) * rng.lognormal(0, 0.6, order.size))


def _tone(phase: Curve, amplitudes: Curve) -> Curve:
    """Read one period, made of all harmonics at once, along `phase` in periods; shape (n,)."""
    spectrum = np.zeros(TABLE_LENGTH // 2 + 1, dtype=np.complex128)
    # Quadratic phases (Schroeder, 1970) keep the sum of harmonics from being one spike a period.
    order = np.arange(1, amplitudes.size + 1)
    spectrum[order] = amplitudes * np.exp(1j * math.pi * order**2 / amplitudes.size)
    period = np.fft.irfft(spectrum, TABLE_LENGTH)
    place = np.arange(TABLE_LENGTH + 1) / TABLE_LENGTH
    return np.asarray(np.interp(phase % 1, place, np.append(period, period[0])))


def _struck(n: int, sample_rate: int, rng: np.random.Generator, sound: Curve, rate: float) -> Curve:
    """Place `sound` at random times and levels, about `rate` a second and at least once; shape (n,)."""
    count = max(1, int(rng.poisson(rate * n / sample_rate)))
    strikes = np.zeros(n)
    if n:
        np.add.at(strikes, rng.integers(0, n, count), rng.lognormal(0, 0.4, count))
    length = _fast_length(n + sound.size)
    struck = np.fft.irfft(np.fft.rfft(strikes, length) * np.fft.rfft(sound, length), length)
    return np.asarray(struck[:n], dtype=np.float64)
