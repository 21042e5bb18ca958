"""DNSMOS: listeners' ratings as two small networks of Microsoft predict them from the estimate alone.

The networks are the .onnx files in the package speechmos. That package itself is not imported: it would bring
librosa for one mel filter bank, which is written out below.
"""

import functools
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from miase.errors import EvaluationError
from miase.metrics.contract import INSTALL, Signal, UndefinedError, metric, require_package

RATE = 16_000
SHORTEST = 0.25  # seconds; the networks answer anything, but a listener could not rate less
SEGMENT = 144_160  # samples, 9.01 s: the length on which the networks were trained
SEGMENT_HOP = 16_000  # samples

# From what the P.835 network gives to the rating; highest power first.
CALIBRATION = {
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovrl": (-0.06766283, 1.11546468, 0.04602535),
}

MEL_BANDS = 120
MEL_WINDOW, MEL_HOP = 321, 160  # samples
MEL_RANGE_DB = 80.0  # below the loudest value of the segment


@metric("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", rate=RATE, needs_reference=False)
def dnsmos_p835(estimate: Signal, reference: None, sample_rate: int) -> Mapping[str, float]:
    """DNSMOS P.835: ratings from 1 to 5 of the speech, of the background, and overall.

    Reddy et al., "DNSMOS P.835", ICASSP 2022; the network that is not personalised. Segments of 9.01 s that
    start every second are rated and the ratings averaged; a shorter clip is doubled until it is as long. The
    level of the signal matters: full scale is 1.

    The published script leaves out, by a rounding error, the segments that start 7 to 23 s into a clip; here
    they count, so clips longer than 16 s may differ by some hundredths.

    Args:
        estimate: the samples, shape (time,).
        reference: ignored, may be None.
        sample_rate: in Hz; the estimate is resampled to 16 kHz.

    Returns:
        `dnsmos_sig`, `dnsmos_bak` and `dnsmos_ovrl`; NaN where the clip is shorter than 0.25 s.

    Raises:
        EvaluationError: the estimate is not one-dimensional, or one of the packages onnxruntime and speechmos
            is missing.
    """
    network = _network("sig_bak_ovr.onnx")
    raw = np.array([_run(network, segment) for segment in _segments(estimate)])
    return {
        name: float(np.mean(np.polyval(powers, raw[:, column])))
        for column, (name, powers) in enumerate(CALIBRATION.items())
    }


@metric("dnsmos_p808", rate=RATE, needs_reference=False)
def dnsmos_p808(estimate: Signal, reference: None, sample_rate: int) -> Mapping[str, float]:
    """DNSMOS P.808: a rating from 1 to 5 of the overall quality.

    Reddy et al., "DNSMOS", ICASSP 2021; over the same segments as `dnsmos_p835`.

    Args:
        estimate: the samples, shape (time,).
        reference: ignored, may be None.
        sample_rate: in Hz; the estimate is resampled to 16 kHz.

    Returns:
        `dnsmos_p808`; NaN where the clip is shorter than 0.25 s.

    Raises:
        EvaluationError: the estimate is not one-dimensional, or one of the packages onnxruntime and speechmos
            is missing.
    """
    network = _network("model_v8.onnx")
    return {
        "dnsmos_p808": float(np.mean([_run(network, mel_features(s[:-160])) for s in _segments(estimate)]))
    }


def mel_features(signal: Signal) -> Signal:
    """Mel spectrogram in dB as the P.808 network expects it, from samples (time,): shape (time // 160, 120).

    Power spectra of 321 samples under a periodic Hann window, centred on every 160th sample with zeros beyond
    the ends, in dB below the largest value, mapped so that -40 dB is 0 and 0 dB is 1.
    """
    padded = np.pad(signal, MEL_WINDOW // 2)
    cut = np.lib.stride_tricks.sliding_window_view(padded, MEL_WINDOW)[::MEL_HOP]
    power = np.abs(np.fft.rfft(cut * np.hanning(MEL_WINDOW + 1)[:-1])) ** 2
    level = 10 * np.log10(np.maximum(power @ mel_filters().T, 1e-10))
    return np.asarray((np.maximum(level - level.max(), -MEL_RANGE_DB) + 40) / 40)


@functools.cache
def mel_filters() -> Signal:
    """Slaney's triangular mel filters of equal area from 0 to 8 kHz, shape (120, 161).

    The scale is linear up to 1 kHz, with 15 mel, and logarithmic above, with 27 mel for each factor of 6.4:
    Slaney, "Auditory Toolbox", Interval Research report 1998-010.
    """
    linear, step = 1000 / 15, np.log(6.4) / 27
    top = 15 + np.log(RATE / 2 / 1000) / step
    mels = np.linspace(0, top, MEL_BANDS + 2)
    corners = np.where(mels < 15, linear * mels, 1000 * np.exp(step * (mels - 15)))
    frequencies = np.fft.rfftfreq(MEL_WINDOW, 1 / RATE)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre))
    return np.asarray(np.maximum(triangles, 0) * 2 / (high - low))


def _segments(signal: Signal) -> Iterator[Signal]:
    if len(signal) < SHORTEST * RATE:
        raise UndefinedError(f"DNSMOS needs {SHORTEST} s or more")
    while len(signal) < SEGMENT:
        signal = np.concatenate([signal, signal])
    # As in the published script: whole seconds count, so a segment that ends within the last second is left
    # out.
    last = max(len(signal) // RATE * RATE - SEGMENT, 0) // SEGMENT_HOP
    return (signal[i * SEGMENT_HOP : i * SEGMENT_HOP + SEGMENT] for i in range(last + 1))


@functools.cache
def _network(name: str) -> Any:
    runtime = require_package("onnxruntime")
    package = importlib.util.find_spec("speechmos")
    if package is None or package.origin is None:
        raise EvaluationError(f"DNSMOS needs the networks of the package 'speechmos': {INSTALL}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(package.origin).parent / "dnsmos_models" / name
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(network: Any, features: Signal) -> Signal:
    (output,) = network.run(None, {"input_1": features[None].astype(np.float32)})
    return np.asarray(output[0], np.float64)
