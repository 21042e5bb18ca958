"""PESQ (ITU-T P.862) and STOI, by the packages that the literature uses."""

import warnings
from collections.abc import Mapping

import numpy as np

from miase.metrics.contract import Signal, UndefinedError, metric, require_package

PESQ_RATE = 16_000
STOI_RATE = 10_000
# Seconds. The P.862 reference code refuses less than the first. It holds 50 utterances and writes beyond its
# arrays for more: 60 bursts of 1 s ended Python with a segmentation fault.
PESQ_RANGE = (0.25, 30.0)


@metric("pesq_wb", rate=PESQ_RATE)
def pesq_wb(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """Wide-band PESQ, as MOS-LQO from 1.04 to 4.64: ITU-T P.862.2 (2007) at 16 kHz.

    Args:
        estimate: the samples, shape (time,).
        reference: the clean samples, shape (time,).
        sample_rate: in Hz; both signals are resampled to 16 kHz.

    Returns:
        `pesq_wb`; NaN where the clip is shorter than 0.25 s or longer than 30 s, either signal is
            silent, or P.862 finds no utterance.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length, or the package pesq is
            missing.
    """
    return {"pesq_wb": pesq_score(estimate, reference, "wb")}


@metric("pesq_nb", rate=PESQ_RATE)
def pesq_nb(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """Narrow-band PESQ, as MOS-LQO from 1.02 to 4.55: ITU-T P.862 (2001) mapped by P.862.1, at 16 kHz.

    P.862 filters to the telephone band itself and takes 8 or 16 kHz; the papers on Noise2Noise give it 16
    kHz.

    Args:
        estimate: the samples, shape (time,).
        reference: the clean samples, shape (time,).
        sample_rate: in Hz; both signals are resampled to 16 kHz.

    Returns:
        `pesq_nb`; NaN where the clip is shorter than 0.25 s or longer than 30 s, either signal is
            silent, or P.862 finds no utterance.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length, or the package pesq is
            missing.
    """
    return {"pesq_nb": pesq_score(estimate, reference, "nb")}


def pesq_score(estimate: Signal, reference: Signal, mode: str) -> float:
    """PESQ of signals (time,) at 16 kHz, mode "wb" or "nb"; raises UndefinedError where it has no answer."""
    pesq = require_package("pesq")
    shortest, longest = PESQ_RANGE
    if not shortest * PESQ_RATE <= len(reference) <= longest * PESQ_RATE:
        raise UndefinedError(
            f"PESQ takes clips of {shortest:g} to {longest:g} s, not of {len(reference) / PESQ_RATE:.4g} s"
        )
    if not estimate.any():
        raise UndefinedError("PESQ aligns the levels of both signals, and the estimate is silent")
    try:
        value = float(pesq.pesq(PESQ_RATE, reference, estimate, mode))
    except pesq.NoUtterancesError as error:
        raise UndefinedError("PESQ found no utterance in the clip") from error
    except pesq.BufferTooShortError as error:
        raise UndefinedError("PESQ found the clip too short") from error
    if not np.isfinite(value):
        raise UndefinedError("PESQ returned no number")
    return value


@metric("stoi", rate=STOI_RATE)
def stoi(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """Short-time objective intelligibility, up to 1: Taal et al., IEEE TASLP 19(7), 2011, by pystoi.

    STOI is defined at 10 kHz. The signals are resampled to it here, like for every other metric, so pystoi's
    own resampling, which imitates MATLAB's, is not used; the values of both ways agree to about 0.001.

    Args:
        estimate: the samples, shape (time,).
        reference: the clean samples, shape (time,).
        sample_rate: in Hz; both signals are resampled to 10 kHz.

    Returns:
        `stoi`; NaN where fewer than 30 frames (0.4 s) are within 40 dB of the reference's loudest.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length, or the package pystoi is
            missing.
    """
    return {"stoi": _stoi_score(estimate, reference, extended=False)}


@metric("estoi", rate=STOI_RATE)
def estoi(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """Extended STOI, up to 1, for fluctuating noise: Jensen and Taal, IEEE TASLP 24(11), 2016, by pystoi.

    Args:
        estimate: the samples, shape (time,).
        reference: the clean samples, shape (time,).
        sample_rate: in Hz; both signals are resampled to 10 kHz, as for `stoi`.

    Returns:
        `estoi`; NaN where fewer than 30 frames (0.4 s) are within 40 dB of the reference's loudest.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length, or the package pystoi is
            missing.
    """
    return {"estoi": _stoi_score(estimate, reference, extended=True)}


def _stoi_score(estimate: Signal, reference: Signal, extended: bool) -> float:
    pystoi = require_package("pystoi")
    if len(reference) <= 256:  # one frame; pystoi divides by the number of frames before it counts them
        raise UndefinedError("STOI needs 30 frames of speech, 0.4 s")
    with warnings.catch_warnings():
        # pystoi reports a clip that is too short as a warning and the value 1e-5
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(pystoi.stoi(reference, estimate, STOI_RATE, extended=extended))
        except RuntimeWarning as error:
            raise UndefinedError("STOI needs 30 frames of speech, 0.4 s") from error
