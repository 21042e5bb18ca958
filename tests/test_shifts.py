"""Several passes and their mean: known values, the same in any blocks, in step, on time."""

import numpy as np
import pytest
import torch

from miase import ConfigError, EnhanceConfig, Enhancer
from miase.config import ModelConfig
from miase.export import export_onnx
from miase.models import build_model
from miase.onnx_enhancer import OnnxEnhancer
from miase.shifts import ShiftedStreams, shifted
from miase.systems import describe_system, load_system
from signals import speech_like, white

RATE = 8000
HOP, STRIDE = 64, 16  # of the small model below
SPAN = (STRIDE + 1) * HOP


class Gate:
    """A stream that lets every other sample through, from the first on, ``late`` samples late."""

    latency = 5

    def __init__(self, late=5):
        self._late, self._held, self._n = late, np.zeros(0, np.float32), 0

    def feed(self, samples, *, last=False):
        self._held = np.concatenate((self._held, samples))
        n_given = len(self._held) if last else max(0, len(self._held) - self._late)
        given, self._held = self._held[:n_given], self._held[n_given:]
        even = (np.arange(self._n, self._n + n_given) % 2 == 0).astype(np.float32)
        self._n += n_given
        return np.stack((given * even, given))


@pytest.fixture(scope="module")
def enhancer():
    torch.manual_seed(0)
    config = ModelConfig(sample_rate=RATE, n_fft=128, hop_length=HOP, n_blocks=1, window_frames=32)
    return Enhancer(build_model(config), "cpu")


def noisy(seconds, sample_rate=RATE, seed=0):
    return (speech_like(seconds, sample_rate, seed) + 0.1 * white(seconds, sample_rate, seed)).astype(
        "float32"
    )


def test_two_passes_let_half_of_each_sample_through_a_gate_that_opens_at_every_other():
    x = white(1, 100, 0).astype("float32")
    stream = ShiftedStreams(Gate, 2, 2)  # delays of 0 and 1 sample
    gated, passed = stream.feed(x, last=True)
    np.testing.assert_allclose(gated, x / 2, atol=1e-7)
    np.testing.assert_allclose(passed, x, atol=1e-7)


@pytest.mark.parametrize("size", [1, 7, 99])
def test_passes_in_blocks_of_any_size_give_the_same(size):
    x = white(1, 100, 0).astype("float32")
    whole = ShiftedStreams(Gate, 3, 40).feed(x, last=True)
    stream = ShiftedStreams(Gate, 3, 40)
    blocks = [stream.feed(x[i : i + size]) for i in range(0, len(x), size)]
    np.testing.assert_array_equal(np.concatenate([*blocks, stream.feed(x[:0], last=True)], axis=1), whole)


def test_one_pass_is_the_stream_itself():
    def opener(with_cut):
        return Gate()

    assert shifted(opener, 1, STRIDE, HOP) is opener


@pytest.mark.parametrize("n_shifts", [2, 5])
def test_the_estimate_is_the_mean_of_those_of_delayed_sounds(enhancer, n_shifts):
    x = noisy(3)
    expected = np.zeros_like(x)
    for i in range(n_shifts):
        delay = i * SPAN // n_shifts
        expected += enhancer.enhance(np.pad(x, (delay, 0)), RATE)[delay:] / n_shifts
    estimate = enhancer.enhance(x, RATE, EnhanceConfig(shifts=n_shifts))
    np.testing.assert_allclose(estimate, expected, atol=1e-5)
    assert np.abs(estimate - enhancer.enhance(x, RATE)).max() > 1e-3


@pytest.mark.parametrize("sample_rate", [RATE, 11025, 16000])
def test_what_lies_above_the_band_is_mean_too_and_nothing_moves(enhancer, sample_rate):
    x = np.stack((noisy(2, sample_rate), noisy(2, sample_rate, seed=1)))
    estimate = enhancer.enhance(x, sample_rate, EnhanceConfig(shifts=3))
    assert estimate.shape == x.shape
    lags = [np.vdot(estimate[0, 50:-50], x[0, 50 + lag : x.shape[1] - 50 + lag]) for lag in range(-40, 41)]
    assert int(np.argmax(lags)) == 40  # of no lag


@pytest.mark.parametrize("lookahead", [None, 0.2])
def test_no_sample_of_a_stream_of_passes_comes_later_than_the_latency(enhancer, lookahead):
    streamer = enhancer.streamer(11025, config=EnhanceConfig(shifts=3), lookahead=lookahead)
    step, given, latest = 110, 0, 0.0
    x = noisy(4, 11025)
    blocks = []
    for start in range(0, x.size, step):
        blocks.append(streamer.feed(x[start : start + step]))
        given += blocks[-1].size
        latest = max(latest, (min(start + step, x.size) - given) / 11025)
    blocks.append(streamer.flush())
    assert latest <= streamer.latency_seconds
    estimate = np.concatenate(blocks)
    assert estimate.size == x.size
    if lookahead is None:
        whole = enhancer.enhance(x, 11025, EnhanceConfig(shifts=3))
        np.testing.assert_allclose(estimate, whole, atol=1e-5)


def test_an_evaluated_name_may_ask_for_passes(enhancer, tmp_path):
    enhancer.save_pretrained(tmp_path / "model")
    name = str(tmp_path / "model")
    assert describe_system(f"{name}@3") == describe_system(name) | {"shifts": "3"}
    x = noisy(1)[None]
    estimate = load_system(f"{name}@3")(x, RATE)
    np.testing.assert_allclose(estimate, enhancer.enhance(x, RATE, EnhanceConfig(shifts=3)), atol=1e-6)
    np.testing.assert_array_equal(load_system(name)(x, RATE), enhancer.enhance(x, RATE))


@pytest.mark.parametrize("ending", ["@hear@2", "@2@hear"])
def test_an_evaluated_name_may_ask_for_the_high_band(enhancer, tmp_path, ending):
    enhancer.save_pretrained(tmp_path / "model")
    name = str(tmp_path / "model")
    assert describe_system(name + ending) == describe_system(name) | {"shifts": "2", "high_band": "hear"}
    x = noisy(1)[None]
    expected = enhancer.enhance(x, 2 * RATE, EnhanceConfig(shifts=2, high_band="hear"))
    np.testing.assert_allclose(load_system(name + ending)(x, 2 * RATE), expected, atol=1e-6)


def test_a_folder_whose_name_ends_like_that_keeps_its_name(enhancer, tmp_path):
    enhancer.save_pretrained(tmp_path / "model@3")
    assert "shifts" not in describe_system(str(tmp_path / "model@3"))


def test_a_name_that_asks_for_no_pass_is_refused(enhancer, tmp_path):
    enhancer.save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match="shifts is 0; it must be 1 to 64"):
        describe_system(f"{tmp_path / 'model'}@0")


def test_an_exported_model_takes_passes_too(enhancer, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    enhancer.save_pretrained(tmp_path)
    export_onnx(tmp_path, tmp_path / "model.onnx")
    x, config = noisy(3), EnhanceConfig(shifts=2)
    estimate = OnnxEnhancer(tmp_path / "model.onnx").enhance(x, RATE, config)
    np.testing.assert_allclose(estimate, enhancer.enhance(x, RATE, config), atol=1e-4)
