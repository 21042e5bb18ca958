"""Metrics computed from the samples alone: SNR (of segments and of the high band, too), SI-SDR and LSD."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from miase.metrics.contract import Signal, UndefinedError, metric

FRAME_SECONDS = 0.030  # frames of Hu and Loizou's measures; they advance by a quarter of their length
SEGMENT_RANGE = (-10.0, 35.0)  # dB; a frame outside says no more than one at the border (Hansen and Pellom)
HIGH_BAND = 8000  # Hz
LSD_WINDOW, LSD_HOP = 512, 128  # samples at 16 kHz: 32 ms and 8 ms
LSD_FLOOR = 1e-10  # of the reference's largest power: -100 dB


@metric("snr")
def snr(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """Signal-to-noise ratio in dB, 10 log10(sum s^2 / sum (s - e)^2), of the whole clip.

    Args:
        estimate: the samples e, shape (time,).
        reference: the clean samples s, shape (time,).
        sample_rate: in Hz; not used, the signals are compared at the rate they come in.

    Returns:
        `snr` in dB; inf where the estimate equals the reference, NaN where the reference is silent.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length.
    """
    return {"snr": _decibels(np.sum(reference**2), np.sum((reference - estimate) ** 2))}


@metric("high_band_snr")
def high_band_snr(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """SNR in dB, as `snr`, of what lies above `HIGH_BAND`, where PESQ and STOI hear nothing.

    Both signals lose what lies below in the transform of the whole clip. An estimate without sound there has
    0 dB.

    Args:
        estimate: the samples, shape (time,).
        reference: the clean samples, shape (time,).
        sample_rate: in Hz.

    Returns:
        `high_band_snr` in dB; inf where both are equal there, NaN where the reference has nothing there.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length.
    """
    if sample_rate <= 2 * HIGH_BAND:
        raise UndefinedError(f"a sample rate of {sample_rate} Hz holds nothing above {HIGH_BAND} Hz")
    above = np.fft.rfftfreq(len(reference), 1 / sample_rate) > HIGH_BAND
    clean, error = np.fft.rfft(reference)[above], np.fft.rfft(reference - estimate)[above]
    energy = np.sum(np.abs(clean) ** 2)
    if energy == 0:
        raise UndefinedError(f"the reference holds nothing above {HIGH_BAND} Hz")
    return {"high_band_snr": _decibels(energy, np.sum(np.abs(error) ** 2))}


@metric("si_sdr")
def si_sdr(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """Scale-invariant signal-to-distortion ratio in dB, of signals whose means are removed.

    With a = <e, s> / <s, s> it is 10 log10(|a s|^2 / |a s - e|^2): equation 4 of Le Roux et al., "SDR -
    half-baked or well done?", ICASSP 2019. They define it for signals of zero mean; here the means are
    subtracted first, so that an offset, which nobody hears, costs nothing.

    Args:
        estimate: the samples e, shape (time,).
        reference: the clean samples s, shape (time,).
        sample_rate: in Hz; not used, the signals are compared at the rate they come in.

    Returns:
        `si_sdr` in dB; 300 or inf where the estimate is the reference times a number, NaN where either signal
        is constant.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length.
    """
    estimate, reference = _without_mean(estimate, "estimate"), _without_mean(reference, "reference")
    target = np.dot(estimate, reference) / np.dot(reference, reference) * reference
    return {"si_sdr": _decibels(np.sum(target**2), np.sum((target - estimate) ** 2))}


@metric("segmental_snr", rate=16_000)
def segmental_snr(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """Segmental SNR in dB at 16 kHz: the mean of the SNR of short frames, each limited to [-10, 35] dB.

    Hansen and Pellom, "An effective quality evaluation protocol for speech enhancement algorithms", ICSLP
    1998, with the frames that Hu and Loizou use: 30 ms (480 samples) under a Hann window, advancing by 7.5
    ms, all frames counted, those of speech pauses too. It is taken at 16 kHz, so that clips of higher rates
    are not judged by frequencies that hold no speech and values of different corpora can be compared. As in
    Loizou's program, a frame in which the reference is digital silence counts as -10 dB, whatever the
    estimate.

    Args:
        estimate: the samples, shape (time,).
        reference: the clean samples, shape (time,).
        sample_rate: in Hz; both signals are resampled to 16 kHz.

    Returns:
        `segmental_snr` in dB; NaN where the reference is silent or shorter than a frame and its advance, 37.5
        ms.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length.
    """
    return {"segmental_snr": float(np.mean(frame_snr(estimate, reference, sample_rate)))}


def frame_snr(estimate: Signal, reference: Signal, sample_rate: int) -> Signal:
    """SNR of each frame in dB, shape (frames,), limited to [-10, 35] dB."""
    clean, error = frames(reference, sample_rate), frames(reference - estimate, sample_rate)
    # Frames without error get the upper end of the range, silent ones the lower.
    tiny = np.finfo(np.float64).eps
    ratio = np.sum(clean**2, axis=-1) / (np.sum(error**2, axis=-1) + tiny)
    return np.asarray(np.clip(10 * np.log10(ratio + tiny), *SEGMENT_RANGE))


def frames(signal: Signal, sample_rate: int) -> Signal:
    """Cuts a signal (time,) into the windowed frames (frames, samples) of Hu and Loizou's measures.

    Frames of 30 ms advance by 7.5 ms under a Hann window without its zero ends. There are floor((time -
    length) / advance) of them, one less than fit, as in the program that Loizou published with the measures.

    Raises:
        UndefinedError: the signal is too short for one frame.
    """
    length = round(FRAME_SECONDS * sample_rate)
    advance = length // 4
    count = (len(signal) - length) // advance
    if count < 1:
        raise UndefinedError(f"the clip is shorter than {1000 * (length + advance) / sample_rate:g} ms")
    cut = np.lib.stride_tricks.sliding_window_view(signal, length)[: count * advance : advance]
    return np.asarray(cut * np.hanning(length + 2)[1:-1])


@metric("lsd", rate=16_000)
def lsd(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """Log-spectral distance in dB at 16 kHz; 0 is best.

    The mean over frames of sqrt(mean over frequencies of (10 log10 |S|^2 / |E|^2)^2), after Gray and Markel,
    "Distance measures for speech processing", IEEE Trans. ASSP 24(5), 1976. The spectra are those of 32 ms
    (512 samples) under a Hann window every 8 ms, without padding, 257 frequencies from 0 to 8 kHz. Powers
    below -100 dB of the reference's largest count as that, or digital silence would decide the value.

    Args:
        estimate: the samples, shape (time,).
        reference: the clean samples, shape (time,).
        sample_rate: in Hz; both signals are resampled to 16 kHz.

    Returns:
        `lsd` in dB; NaN where the reference is silent or shorter than 32 ms.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length.
    """
    if len(reference) < LSD_WINDOW:
        raise UndefinedError(f"the clip is shorter than {1000 * LSD_WINDOW / sample_rate:g} ms")
    clean, other = _power_spectra(reference), _power_spectra(estimate)
    floor = LSD_FLOOR * clean.max()
    difference = 10 * np.log10(np.maximum(clean, floor) / np.maximum(other, floor))
    return {"lsd": float(np.mean(np.sqrt(np.mean(difference**2, axis=-1))))}


def _power_spectra(signal: Signal) -> Signal:
    cut = np.lib.stride_tricks.sliding_window_view(signal, LSD_WINDOW)[::LSD_HOP]
    window = np.hanning(LSD_WINDOW + 1)[:-1]
    return np.asarray(np.abs(np.fft.rfft(cut * window)) ** 2)


def _without_mean(signal: Signal, role: str) -> Signal:
    centred: Signal = signal - signal.mean()
    if np.max(np.abs(centred)) <= 1e-12 * np.max(np.abs(signal)):  # what rounding leaves of a constant
        raise UndefinedError(f"the {role} is constant")
    return centred


def _decibels(signal: npt.ArrayLike, noise: npt.ArrayLike) -> float:
    with np.errstate(divide="ignore"):  # an estimate without any error has a ratio of inf
        return float(10 * np.log10(np.divide(signal, noise)))
