import importlib
from pathlib import Path

import numpy as np
import pystoi
import pytest
import soundfile

from miase.errors import EvaluationError
from miase.metrics import METRICS, contract, score
from miase.resampling import resample
from signals import speech_like, white

RATE = 16_000
CLEAN = speech_like(2, RATE, seed=11)
NOISY = CLEAN + 0.02 * white(2, RATE, seed=12)
FAST = [name for name in METRICS if not name.startswith("dnsmos")]
PAIRS = Path(__file__).parents[2] / "shared" / "data" / "pairs"


def test_the_table_is_keyed_by_the_names_that_its_functions_return():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert name in metric.function(np.zeros(1), np.zeros(1), RATE)


def test_the_direction_in_the_table_is_that_of_the_values():
    clean, noise = speech_like(5, RATE, seed=13), white(5, RATE)  # 5 s is doubled to one segment of DNSMOS
    weak, strong = (score(clean + level * noise, clean, RATE) for level in (1e-3, 0.1))
    name = "high_band_snr"  # of the same samples at a rate that has such a band
    weak[name], strong[name] = (
        METRICS[name].function(clean + g * noise, clean, 3 * RATE)[name] for g in (1e-3, 0.1)
    )
    for name, metric in METRICS.items():
        assert (weak[name] > strong[name]) == metric.higher_is_better, name
        assert weak[name] != strong[name]


@pytest.mark.parametrize("name", FAST)
def test_score_gives_what_the_metric_gives(name):
    rate = 3 * RATE if name == "high_band_snr" else RATE  # the same samples at a rate that has such a band
    expected = METRICS[name].function(NOISY, CLEAN, rate)[name]
    assert score(NOISY, CLEAN, rate, [name]) == {name: pytest.approx(expected, abs=1e-10)}


def test_score_keeps_the_order_asked_and_nothing_else():
    names = ["snr", "covl", "pesq_wb", "llr"]
    assert list(score(NOISY, CLEAN, RATE, names)) == names
    assert list(score(NOISY, CLEAN, RATE, names[::-1])) == names[::-1]


def test_score_takes_all_metrics_or_those_that_need_no_reference():
    assert list(score(CLEAN[:10], CLEAN[:10], RATE)) == list(METRICS)
    assert list(score(CLEAN[:10], None, RATE)) == [
        n for n, metric in METRICS.items() if not metric.needs_reference
    ]


def test_wide_band_pesq_runs_once_for_all_that_need_it(monkeypatch):
    calls = []
    pesq = importlib.import_module("pesq")
    real = pesq.pesq
    monkeypatch.setattr(pesq, "pesq", lambda *args: calls.append(args[-1]) or real(*args))
    score(NOISY, CLEAN, RATE, ["pesq_wb", "csig", "cbak", "covl", "pesq_nb"])
    assert sorted(calls) == ["nb", "wb"]


STRANGE = {
    "empty": (np.zeros(0), np.zeros(0)),
    "one sample": (CLEAN[8000:8001], CLEAN[8000:8001]),
    "silent pair": (np.zeros(RATE), np.zeros(RATE)),
    "silent reference": (NOISY, np.zeros_like(CLEAN)),
    "silent estimate": (np.zeros_like(CLEAN), CLEAN),
    "constant pair": (np.full(RATE, 0.5), np.full(RATE, 0.5)),
    "click": (np.eye(1, RATE, 100)[0], np.eye(1, RATE, 8000)[0]),
    "very quiet": (1e-20 * NOISY, CLEAN),
    "estimate not finite": (np.where(np.arange(len(CLEAN)) == 7, np.nan, NOISY), CLEAN),
    "reference not finite": (NOISY, np.where(np.arange(len(CLEAN)) == 7, np.inf, CLEAN)),
    "short": (NOISY[8000:8700], CLEAN[8000:8700]),
    "negated": (-CLEAN, CLEAN),
}


@pytest.mark.parametrize("case", STRANGE)
@pytest.mark.parametrize("sample_rate", [16_000, 48_000])
def test_every_name_has_a_value_and_every_nan_a_reason(case, sample_rate):
    values = score(*STRANGE[case], sample_rate, FAST)
    assert list(values) == FAST
    assert {name for name in FAST if np.isnan(values[name])} == set(values.reasons)
    assert all(values.reasons.values())


@pytest.mark.parametrize(
    ("estimate", "reference", "sample_rate", "names", "message"),
    [
        (CLEAN, CLEAN[:-1], RATE, ["snr"], "one length"),
        (CLEAN, CLEAN[:-1], RATE, [], "one length"),
        (np.zeros((2, 9)), np.zeros((2, 9)), RATE, ["snr"], "shape"),
        (CLEAN, None, RATE, ["dnsmos_p808", "snr"], "reference"),
        (CLEAN, CLEAN, RATE, ["psq"], "pesq_wb"),
        (CLEAN, CLEAN, 0, ["snr"], "positive"),
    ],
)
def test_wrong_inputs_raise(estimate, reference, sample_rate, names, message):
    with pytest.raises(EvaluationError, match=message):
        score(estimate, reference, sample_rate, names)


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.package])
def test_a_missing_package_is_named_with_its_install_line(monkeypatch, name):
    def missing(package):
        raise ImportError(package)

    dnsmos = importlib.import_module("miase.metrics.dnsmos")
    dnsmos._network.cache_clear()
    monkeypatch.setattr(contract.importlib, "import_module", missing)
    with pytest.raises(EvaluationError, match=r'pip install "miase\[eval\]"'):
        score(NOISY, CLEAN, RATE, [name])


@pytest.mark.shared
@pytest.mark.skipif(not PAIRS.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", ["p226_001", "p226_004", "p226_009"])
def test_a_real_pair_scores_alike_at_48_and_16_khz(name):
    folder = PAIRS / "voicebank-demand-train-48k"
    (clean, sample_rate), (noisy, _) = (
        soundfile.read(folder / x / f"{name}.flac") for x in ("clean", "noisy")
    )
    assert sample_rate == 48_000
    values = score(noisy, clean, sample_rate, FAST)
    assert not values.reasons
    clean16, noisy16 = (resample(x.astype(np.float32), sample_rate, RATE) for x in (clean, noisy))
    before = score(noisy16, clean16, RATE, FAST)
    for metric in METRICS.values():
        if metric.sample_rate == RATE and metric.needs_reference:
            assert values[metric.name] == before[metric.name], metric.name
    # To 10 kHz in one step, in two, or by MATLAB's filter is not the same to the bit.
    assert values["stoi"] == pytest.approx(before["stoi"], abs=1e-3)
    assert values["stoi"] == pytest.approx(pystoi.stoi(clean, noisy, sample_rate), abs=1e-3)


@pytest.mark.shared
@pytest.mark.skipif(not PAIRS.is_dir(), reason="needs ../shared/data")
def test_real_noisy_speech_scores_in_the_range_of_noisy_speech():
    noisy, sample_rate = soundfile.read(PAIRS / "voicebank-demand-train-16k" / "noisy" / "p287_003.flac")
    clean, _ = soundfile.read(PAIRS / "voicebank-demand-train-16k" / "clean" / "p287_003.flac")
    values = score(noisy, clean, sample_rate)
    assert list(values.reasons) == ["high_band_snr"]
    assert 2 < values["snr"] < 6  # mixed at 5 dB of active speech level
    assert abs(values["snr"] - values["si_sdr"]) < 0.5
    assert 1.1 < values["pesq_wb"] < values["pesq_nb"] < 2.5
    assert 0.4 < values["estoi"] < values["stoi"] < 0.85
    assert values["dnsmos_bak"] < 3
