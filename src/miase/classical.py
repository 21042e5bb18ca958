"""Classical enhancement without training: a low-pass filter, a noise tracker and three gain functions.

Those with a gain work on frames of 32 ms every 8 ms, under the square root of a Hann window at analysis and
synthesis, at any sample rate. In the equations Y is the noisy spectrum, sigma^2 the power of the noise, gamma
= |Y|^2 / sigma^2 the SNR a posteriori and xi the SNR a priori. Spectra have shape (frame, channel, freq).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from miase.errors import EvaluationError
from miase.sounds import Samples

Spectrum = npt.NDArray[np.complex128]
Power = npt.NDArray[np.float64]

CUTOFF = 2000.0  # Hz, of the low-pass filter
LOW_PASS_SECONDS = 0.004  # to each side; the filter then falls from -1 to -40 dB within 300 Hz
FRAME_SECONDS = 0.032
FLOOR = 1e-12  # power of a bin below which all is digital silence: keeps quotients defined
SMOOTHING = 0.96  # of the decision-directed SNR; the papers' 0.98 smears more and scores less
LOWEST_SNR = 10 ** (-15 / 10)  # a priori, as by Cappe 1994: it limits the musical noise


def low_pass(noisy: Samples, sample_rate: int) -> Samples:
    """What is below 2 kHz, by a windowed sinc of 8 ms without delay: any claim on white noise has to beat it.

    It knows nothing of speech or noise, yet at 16 kHz white noise loses three quarters of its power, and
    speech little of its own.

    Args:
        noisy: the samples, shape (channel, time).
        sample_rate: in Hz; up to 4 kHz all of the band is kept.

    Returns:
        The estimate, shape (channel, time).
    """
    half = round(LOW_PASS_SECONDS * sample_rate)
    places = np.arange(-half, half + 1)
    taps = np.sinc(min(2 * CUTOFF / sample_rate, 1.0) * places) * np.hanning(2 * half + 3)[1:-1]
    taps /= taps.sum()
    padded = np.pad(noisy.astype(np.float64), ((0, 0), (half, half)))
    return np.stack([np.convolve(row, taps, mode="valid") for row in padded]).astype(np.float32)


def spectral_subtraction(noisy: Samples, sample_rate: int) -> Samples:
    """Magnitude subtraction: Boll, IEEE TASSP 27(2), 1979.

    The magnitude averaged over three frames, less the noise's, rectified; residual noise reduced to the
    smallest of three frames where it stays below the noise; frames without speech attenuated by 30 dB.

    Args:
        noisy: the samples, shape (channel, time).
        sample_rate: in Hz.

    Returns:
        The estimate, shape (channel, time).
    """
    return _process(noisy, sample_rate, _subtract)


def wiener(noisy: Samples, sample_rate: int) -> Samples:
    """Wiener filter with the decision-directed SNR: Scalart and Vieira Filho, ICASSP 1996.

    G = xi / (1 + xi), with xi by Ephraim and Malah, IEEE TASSP 32(6), 1984, equation 51. Arguments and result
    as of `spectral_subtraction`.
    """
    return _process(noisy, sample_rate, lambda spectrum: _decision_directed(spectrum, wiener_gain))


def log_mmse(noisy: Samples, sample_rate: int) -> Samples:
    """Least mean-square error of the log spectrum: Ephraim and Malah, IEEE TASSP 33(2), 1985.

    Arguments and result as of `spectral_subtraction`.
    """
    return _process(noisy, sample_rate, lambda spectrum: _decision_directed(spectrum, log_mmse_gain))


def wiener_gain(xi: Power, gamma: Power) -> Power:
    """G = xi / (1 + xi); gamma has no part in it."""
    return xi / (1 + xi)


def log_mmse_gain(xi: Power, gamma: Power) -> Power:
    """G = xi / (1 + xi) exp(E1(v) / 2), v = gamma xi / (1 + xi): equation 20 of Ephraim and Malah 1985."""
    try:
        from scipy.special import exp1
    except ImportError as error:
        raise EvaluationError('log_mmse needs scipy: pip install "miase[eval]"') from error
    share: Power = xi / (1 + xi)
    return np.asarray(np.minimum(share * np.exp(exp1(np.maximum(gamma * share, 1e-10)) / 2), 1.0))


def track_noise(power: Power) -> Power:
    """Power of the noise in each bin, tracked through speech.

    Gerkmann and Hendriks, "Unbiased MMSE-based noise power estimation with low complexity and low tracking
    delay", IEEE TASLP 20(4), 2012: each frame's |Y|^2 enters by the probability that the bin holds no speech,
    for a fixed SNR a priori of 15 dB. The paper starts from frames without speech; here nothing is known of
    the beginning, so a low quantile of the first two seconds is taken, raised to the mean that stationary
    noise of this quantile has.

    Args:
        power: |Y|^2, shape (frame, channel, freq), frames 8 ms apart.

    Returns:
        Same shape.
    """
    snr, smoothing = 10 ** (15 / 10), 0.9  # the paper's 0.8, and 0.9 for the presence, are for 16 ms
    estimate = _first_noise(power)
    presence = np.full(power.shape[1:], 0.5)
    tracked = np.empty_like(power)
    for frame, current in enumerate(power):
        exponent = np.minimum(current / estimate * snr / (1 + snr), 200)
        speech = 1 / (1 + (1 + snr) * np.exp(-exponent))
        presence = 0.95 * presence + 0.05 * speech
        speech = np.where(presence > 0.99, np.minimum(speech, 0.99), speech)  # else it might never fall again
        noise = (1 - speech) * current + speech * estimate
        estimate = np.maximum(smoothing * estimate + (1 - smoothing) * noise, FLOOR)
        tracked[frame] = estimate
    return tracked


def _first_noise(power: Power) -> Power:
    sound = power[power.sum(axis=(1, 2)) > power.shape[2] * FLOOR]
    sound = sound[3:253]  # the first frames are partly padding
    if len(sound) < 10:
        return np.asarray(np.maximum(power.mean(axis=0), FLOOR))
    smooth = np.mean([sound[i : len(sound) - 9 + i] for i in range(10)], axis=0)
    # Of the mean of ten such frames of Gaussian noise, 20 % lie below 0.6 of their mean.
    return np.maximum(np.quantile(smooth, 0.2, axis=0) / 0.6, FLOOR)


def _subtract(spectrum: Spectrum) -> Power:
    magnitude = np.abs(spectrum)
    noise = np.sqrt(np.pi / 4 * track_noise(magnitude**2))  # mean of a Rayleigh variable from its mean square
    padded = np.pad(magnitude, ((1, 1), (0, 0), (0, 0)), mode="edge")
    mean = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    gain = np.maximum(1 - noise / np.maximum(mean, 1e-9), 0)
    left = np.pad(gain * magnitude, ((1, 1), (0, 0), (0, 0)), mode="edge")
    smallest = np.minimum(np.minimum(left[:-2], left[1:-1]), left[2:])
    left = np.where(left[1:-1] < noise, smallest, left[1:-1])
    pause = 20 * np.log10(np.mean(left / noise, axis=-1, keepdims=True) + 1e-9) < -12
    return np.asarray(np.where(pause, 10 ** (-30 / 20), left / np.maximum(magnitude, 1e-9)))


def _decision_directed(spectrum: Spectrum, gain_of: Callable[[Power, Power], Power]) -> Power:
    power = np.abs(spectrum) ** 2
    gamma = np.minimum(power / track_noise(power), 1e4)
    gains = np.empty_like(power)
    before = np.maximum(gamma[0] - 1, 0)  # G^2 gamma of the frame before
    for frame, current in enumerate(gamma):
        xi = SMOOTHING * before + (1 - SMOOTHING) * np.maximum(current - 1, 0)
        gains[frame] = gain_of(np.maximum(xi, LOWEST_SNR), current)
        before = gains[frame] ** 2 * current
    return gains


def _process(noisy: Samples, sample_rate: int, gains: Callable[[Spectrum], Power]) -> Samples:
    """Analysis, gain, synthesis; the squared windows of the four frames over a sample add up to two."""
    hop = max(1, round(FRAME_SECONDS * sample_rate / 4))
    n_samples = noisy.shape[1]
    n_frames = -(-n_samples // hop) + 3
    window = np.sqrt(0.5 - 0.5 * np.cos(np.pi * np.arange(4 * hop) / (2 * hop)))
    padded = np.pad(noisy.astype(np.float64), ((0, 0), (3 * hop, n_frames * hop - n_samples)))
    cut = np.stack([padded[:, i * hop : (i + 4) * hop] for i in range(n_frames)])
    spectrum = np.fft.rfft(cut * window)
    frames = np.fft.irfft(spectrum * gains(spectrum), 4 * hop) * window / 2
    estimate = np.zeros_like(padded)
    for i, frame in enumerate(frames):
        estimate[:, i * hop : (i + 4) * hop] += frame
    return estimate[:, 3 * hop : 3 * hop + n_samples].astype(np.float32)


@dataclass(frozen=True)
class Classical:
    """A classical method and where it is from."""

    enhance: Callable[[Samples, int], Samples]
    source: str


CLASSICAL = {
    "low_pass": Classical(low_pass, "windowed sinc of 8 ms, 2 kHz, no delay"),
    "spectral_subtraction": Classical(
        spectral_subtraction, "Boll 1979, noise by Gerkmann and Hendriks 2012, frames of 32 ms every 8 ms"
    ),
    "wiener": Classical(
        wiener,
        "Scalart and Vieira Filho 1996, decision-directed SNR by Ephraim and Malah 1984, "
        "noise by Gerkmann and Hendriks 2012, frames of 32 ms every 8 ms",
    ),
    "log_mmse": Classical(
        log_mmse, "Ephraim and Malah 1985, noise by Gerkmann and Hendriks 2012, frames of 32 ms every 8 ms"
    ),
}
"""The classical methods by name."""
