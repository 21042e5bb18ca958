"""LLR, WSS, and the composite measures CSIG, CBAK and COVL that Hu and Loizou fitted to listeners' ratings.

Hu and Loizou, "Evaluation of objective quality measures for speech enhancement", IEEE TASLP 16(1), 2008, with
the details of the program that Loizou published with it, since papers report what that program gives. Where
the paper and the program differ (it does not limit the LLR of a frame to 2, and finds a spectral peak one
band early when it searches upwards), the program decides here.
"""

from collections.abc import Mapping

import numpy as np

from miase.metrics.contract import Signal, UndefinedError, Values, metric
from miase.metrics.perceptual import pesq_score
from miase.metrics.signal import frame_snr, frames

RATE = 16_000
LPC_ORDER = 16  # for rates of 10 kHz and above
KEPT_FRAMES = 0.95  # LLR and WSS leave out the worst 5 % of the frames
WHITE_NOISE = 1e-12  # -120 dB: keeps linear prediction defined in digital silence, and is heard by no measure

# Centres and bandwidths in Hz of the 25 critical bands of WSS.
CRITICAL_BANDS = (
    (50.0, 70.0), (120.0, 70.0), (190.0, 70.0), (260.0, 70.0), (330.0, 70.0),
    (400.0, 70.0), (470.0, 70.0), (540.0, 77.3724), (617.372, 86.0056), (703.378, 95.3398),
    (798.717, 105.411), (904.128, 116.256), (1020.38, 127.914), (1148.30, 140.423), (1288.72, 153.823),
    (1442.54, 168.154), (1610.70, 183.457), (1794.16, 199.776), (1993.93, 217.153), (2211.08, 235.631),
    (2446.71, 255.255), (2701.97, 276.072), (2978.04, 298.126), (3276.17, 321.465), (3597.63, 346.136),
)  # fmt: skip
BAND_FLOOR = np.exp(-30 / (2 * 2.303))  # the filters of WSS end where they are 30 dB down
GLOBAL_PEAK_DB, LOCAL_PEAK_DB = 20.0, 1.0  # Klatt's constants Kmax and Klocmax


@metric("csig", "cbak", "covl", "llr", "wss", "pesq_wb", rate=RATE)
def composite(estimate: Signal, reference: Signal, sample_rate: int) -> Values:
    """CSIG, CBAK and COVL, from 1 to 5: predicted ratings of the speech, of the background, and overall.

        CSIG = 3.093 - 1.029 LLR + 0.603 PESQ - 0.009 WSS
        CBAK = 1.634 + 0.478 PESQ - 0.007 WSS + 0.063 segSNR
        COVL = 1.594 + 0.805 PESQ - 0.512 LLR - 0.007 WSS

    PESQ is the wide-band MOS-LQO of `pesq_wb`, as nearly all papers on 16 kHz speech have it, though the
    weights were fitted with narrow-band PESQ at 8 kHz; segSNR is `segmental_snr`.

    Args:
        estimate: the samples, shape (time,).
        reference: the clean samples, shape (time,).
        sample_rate: in Hz; both signals are resampled to 16 kHz.

    Returns:
        `csig`, `cbak`, `covl`, and what they are made of, as the metrics of these names give it: `llr`, `wss`
        and `pesq_wb`. Without PESQ, its value and the three composites are NaN.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length, or the package pesq is
            missing.
    """
    parts = {"llr": _llr(estimate, reference), "wss": _wss(estimate, reference)}
    try:
        pesq = pesq_score(estimate, reference, "wb")
    except UndefinedError as reason:
        missing = ("csig", "cbak", "covl", "pesq_wb")
        return Values(parts | dict.fromkeys(missing, float("nan")), dict.fromkeys(missing, str(reason)))
    values = ratings(pesq, parts["llr"], parts["wss"], float(np.mean(frame_snr(estimate, reference, RATE))))
    return Values(values | parts | {"pesq_wb": pesq})


def ratings(pesq: float, llr: float, wss: float, segmental_snr: float) -> dict[str, float]:
    """The three regressions of Hu and Loizou, limited to 1 to 5; segmental_snr in dB."""
    return {
        "csig": float(np.clip(3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss, 1, 5)),
        "cbak": float(np.clip(1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * segmental_snr, 1, 5)),
        "covl": float(np.clip(1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss, 1, 5)),
    }


@metric("llr", rate=RATE)
def llr(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """Log-likelihood ratio of linear prediction at 16 kHz; 0 is best.

    Of each frame (30 ms under a Hann window, every 7.5 ms) log(a_e R a_e' / a_s R a_s'), with R the
    autocorrelation matrix of the reference and a_e, a_s the prediction filters of order 16 of estimate and
    reference. The mean of the lowest 95 % of the frames. White noise at -120 dB is added to R, so that
    digital silence has a value too.

    Args:
        estimate: the samples, shape (time,).
        reference: the clean samples, shape (time,).
        sample_rate: in Hz; both signals are resampled to 16 kHz.

    Returns:
        `llr`, without unit; NaN where the reference is silent or the clip is shorter than 37.5 ms.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length.
    """
    return {"llr": _llr(estimate, reference)}


@metric("wss", rate=RATE)
def wss(estimate: Signal, reference: Signal, sample_rate: int) -> Mapping[str, float]:
    """Weighted spectral slope distance at 16 kHz; 0 is best.

    Klatt, "Prediction of perceived phonetic distance from critical-band spectra", ICASSP 1982: the squared
    difference of the slopes between neighbouring critical bands, in 25 bands up to 3.6 kHz, weighted towards
    spectral peaks. Frames of 30 ms under a Hann window every 7.5 ms; the mean of the lowest 95 %.

    Args:
        estimate: the samples, shape (time,).
        reference: the clean samples, shape (time,).
        sample_rate: in Hz; both signals are resampled to 16 kHz.

    Returns:
        `wss` in dB^2; NaN where the reference is silent or the clip is shorter than 37.5 ms.

    Raises:
        EvaluationError: the signals are not one-dimensional or differ in length.
    """
    return {"wss": _wss(estimate, reference)}


def _llr(estimate: Signal, reference: Signal) -> float:
    clean = _autocorrelation(frames(reference, RATE))
    numerator = _prediction_error(clean, _prediction_filters(_autocorrelation(frames(estimate, RATE))))
    denominator = _prediction_error(clean, _prediction_filters(clean))
    return _mean_of_lowest(np.log(numerator / denominator))


def _autocorrelation(framed: Signal) -> Signal:
    """Lags 0 to LPC_ORDER of frames (frames, samples): shape (frames, LPC_ORDER + 1)."""
    length = framed.shape[-1]
    lags = np.stack(
        [np.sum(framed[:, : length - k] * framed[:, k:], axis=-1) for k in range(LPC_ORDER + 1)], axis=-1
    )
    lags[:, 0] += WHITE_NOISE * (1 + lags[:, 0])
    return lags


def _prediction_filters(lags: Signal) -> Signal:
    """Levinson-Durbin recursion on lags (frames, order + 1): filters (1, a_1, ...) of the same shape."""
    filters = np.zeros_like(lags)
    filters[:, 0] = 1
    error = lags[:, 0].copy()
    for order in range(1, lags.shape[-1]):
        reflection = -np.sum(filters[:, :order] * lags[:, order:0:-1], axis=-1) / error
        filters[:, 1 : order + 1] += reflection[:, None] * filters[:, order - 1 :: -1].copy()
        error *= 1 - reflection**2
    return filters


def _prediction_error(lags: Signal, filters: Signal) -> Signal:
    """The quadratic form a R a' for each frame, R being the Toeplitz matrix of the lags: shape (frames,)."""
    order = lags.shape[-1] - 1
    error = lags[:, 0] * np.sum(filters**2, axis=-1)
    for k in range(1, order + 1):
        error += 2 * lags[:, k] * np.sum(filters[:, : order + 1 - k] * filters[:, k:], axis=-1)
    return np.asarray(error)


def _wss(estimate: Signal, reference: Signal) -> float:
    clean, other = _band_levels(frames(reference, RATE)), _band_levels(frames(estimate, RATE))
    weights = (_slope_weights(clean) + _slope_weights(other)) / 2
    difference = np.diff(clean, axis=-1) - np.diff(other, axis=-1)
    return _mean_of_lowest(np.sum(weights * difference**2, axis=-1) / np.sum(weights, axis=-1))


def _band_levels(framed: Signal) -> Signal:
    """Critical-band levels of frames (frames, samples), in dB and at least -100: shape (frames, 25)."""
    n_fft = 2 ** int(np.ceil(np.log2(2 * framed.shape[-1])))
    power = np.abs(np.fft.rfft(framed, n_fft)[:, : n_fft // 2]) ** 2
    centres, widths = np.array(CRITICAL_BANDS).T[:, :, None] * n_fft / RATE
    shape = np.exp(-11 * ((np.arange(n_fft // 2) - np.floor(centres)) / widths) ** 2) * widths.min() / widths
    filters = np.where(shape > BAND_FLOOR, shape, 0)
    return np.asarray(10 * np.log10(np.maximum(power @ filters.T, 1e-10)))


def _slope_weights(levels: Signal) -> Signal:
    """Klatt's weights of the slopes, from levels (frames, bands) in dB: shape (frames, bands - 1)."""
    rising = np.diff(levels, axis=-1) > 0
    levels, highest = levels[:, :-1], levels.max(axis=-1, keepdims=True)
    peaks = (
        levels.copy()
    )  # of a rising slope the peak above it, less one band; of a falling one the peak below it
    n_slopes = peaks.shape[-1]
    for i in range(1, n_slopes):
        peaks[:, i] = np.where(~rising[:, i] & ~rising[:, i - 1], peaks[:, i - 1], peaks[:, i])
    for i in range(n_slopes - 2, -1, -1):
        peaks[:, i] = np.where(rising[:, i] & rising[:, i + 1], peaks[:, i + 1], peaks[:, i])
    global_weight = GLOBAL_PEAK_DB / (GLOBAL_PEAK_DB + highest - levels)
    return np.asarray(global_weight * LOCAL_PEAK_DB / (LOCAL_PEAK_DB + peaks - levels))


def _mean_of_lowest(distances: Signal) -> float:
    kept = int(np.floor(len(distances) * KEPT_FRAMES + 0.5))
    return float(np.mean(np.sort(distances)[:kept]))
