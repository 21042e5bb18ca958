"""Values of whole evaluations, from files, equal the packages pesq and pystoi and plain numpy in float64."""

from pathlib import Path

import numpy as np
import pesq
import pystoi
import pytest
import soundfile

from miase.evaluate import Options, evaluate
from miase.resampling import resample
from miase.writing import save
from signals import speech_like, white

RATE = 16_000
N_PAIRS = 20
METRICS = ("snr", "si_sdr", "segmental_snr", "pesq_wb", "pesq_nb", "stoi", "estoi")
OPTIONS = Options(metrics=METRICS, quiet=True)
PAIRS = Path(__file__).parents[2] / "shared" / "data" / "pairs"


def decibels(signal, noise):
    return 10 * np.log10(np.sum(signal**2) / np.sum(noise**2))


def si_sdr(noisy, clean):
    """By projection with numpy's least squares, of signals without their means."""
    clean, noisy = clean - np.mean(clean), noisy - np.mean(noisy)
    gain, *_ = np.linalg.lstsq(clean[:, None], noisy, rcond=None)
    return decibels(gain * clean, gain * clean - noisy)


def segmental_snr(noisy, clean):
    """Frames of 480 samples every 120 at 16 kHz; the window is Hann's without its zeros."""
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, 481) / 481))
    values = []
    for start in range(0, 120 * ((len(clean) - 480) // 120), 120):
        part = slice(start, start + 480)
        error = (clean[part] - noisy[part]) * window
        ratio = np.sum((clean[part] * window) ** 2) / (np.sum(error**2) + 1e-16)
        values.append(min(max(10 * np.log10(ratio + 1e-16), -10), 35))
    return np.mean(values)


def at(rate, signal, source_rate):
    return resample(signal.astype(np.float32), source_rate, rate).astype(np.float64)


def expected(noisy, clean, rate):
    noisy16, clean16 = (signal if rate == RATE else at(RATE, signal, rate) for signal in (noisy, clean))
    noisy10, clean10 = (at(10_000, signal, rate) for signal in (noisy, clean))
    return {
        "snr": decibels(clean, clean - noisy),
        "si_sdr": si_sdr(noisy, clean),
        "segmental_snr": segmental_snr(noisy16, clean16),
        "pesq_wb": pesq.pesq(RATE, clean16, noisy16, "wb"),
        "pesq_nb": pesq.pesq(RATE, clean16, noisy16, "nb"),
        "stoi": pystoi.stoi(clean10, noisy10, 10_000),
        "estoi": pystoi.stoi(clean10, noisy10, 10_000, extended=True),
    }


def differences(folder):
    """The largest difference of each metric over the files in noisy/ and clean/, and their number."""
    evaluation = evaluate(folder / "noisy", folder / "clean", options=OPTIONS)
    largest = dict.fromkeys(METRICS, 0.0)
    for score in evaluation.scores:
        (noisy, rate), (clean, _) = (soundfile.read(folder / x / score.file) for x in ("noisy", "clean"))
        for name, value in expected(noisy, clean, rate).items():
            largest[name] = max(largest[name], abs(score.values[name] - value))
    return largest, len(evaluation.scores)


def check(largest):
    assert largest["pesq_wb"] == largest["pesq_nb"] == 0
    assert max(largest[name] for name in ("snr", "si_sdr", "segmental_snr")) < 1e-6  # dB
    assert max(largest["stoi"], largest["estoi"]) < 1e-9  # pystoi adds random numbers of rounding size


def test_twenty_made_pairs(tmp_path):
    """Of 1 to 2 s, at 16 kHz, in white noise and in noise of falling spectrum, at -5 to 20 dB."""
    for i in range(N_PAIRS):
        seconds = 1 + i / N_PAIRS
        clean, noise = speech_like(seconds, RATE, seed=i), white(seconds, RATE, seed=100 + i)
        if i % 2:
            noise = np.cumsum(noise - noise.mean()) / 100
        noise *= np.sqrt(np.sum(clean**2) / np.sum(noise**2) * 10 ** ((5 - 25 * i / (N_PAIRS - 1)) / 10))
        for part, samples in (("clean", clean), ("noisy", clean + noise)):
            (tmp_path / part).mkdir(exist_ok=True)
            save(tmp_path / part / f"{i}.wav", samples[None].astype(np.float32), RATE, subtype="FLOAT")
    largest, n = differences(tmp_path)
    assert n == N_PAIRS
    check(largest)


@pytest.mark.parametrize("decibels_made", [-5, 0, 10])
def test_orthogonal_noise_has_the_ratio_that_was_made(tmp_path, decibels_made):
    """Sines of whole periods are orthogonal."""
    t = np.arange(RATE) / RATE
    clean = 0.1 * np.sin(2 * np.pi * 440 * t)
    noise = 0.1 * 10 ** (-decibels_made / 20) * np.sin(2 * np.pi * 1000 * t)
    for part, samples in (("clean", clean), ("noisy", clean + noise)):
        (tmp_path / part).mkdir()
        soundfile.write(tmp_path / part / "a.wav", samples, RATE, subtype="DOUBLE")
    evaluation = evaluate(
        tmp_path / "noisy", tmp_path / "clean", options=Options(metrics=("snr", "si_sdr"), quiet=True)
    )
    for value in evaluation.scores[0].values.values():
        assert value == pytest.approx(decibels_made, abs=1e-6)


@pytest.mark.shared
@pytest.mark.skipif(not PAIRS.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(("corpus", "n_pairs"), [("16k", 6), ("48k", 10)])
def test_sixteen_real_pairs(corpus, n_pairs):
    largest, n = differences(PAIRS / f"voicebank-demand-train-{corpus}")
    assert n == n_pairs
    check(largest)
