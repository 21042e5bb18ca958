"""Streams fed block by block: the same samples for any blocks, those of the whole, and an honest latency."""

import numpy as np
import pytest
import torch

from miase import AudioError, ConfigError, Enhancer
from miase.config import ModelConfig
from miase.models import build_model
from signals import speech_like, white

RATE = 8000


@pytest.fixture(scope="module")
def enhancer():
    torch.manual_seed(0)
    config = ModelConfig(sample_rate=RATE, n_fft=128, hop_length=64, n_blocks=1, window_frames=32)
    return Enhancer(build_model(config), "cpu")


def noisy(seconds, sample_rate, seed=0):
    return (speech_like(seconds, sample_rate, seed) + 0.1 * white(seconds, sample_rate, seed)).astype(
        "float32"
    )


def streamed(streamer, x, size):
    blocks = [streamer.feed(x[..., i : i + size]) for i in range(0, x.shape[-1], size)]
    return np.concatenate([*blocks, streamer.flush()], axis=-1)


@pytest.mark.parametrize("sample_rate", [RATE, 11025, 48000])
@pytest.mark.parametrize("size", [1, 160, 1000, 48000])
def test_blocks_of_any_size_give_the_samples_of_the_whole(enhancer, sample_rate, size):
    x = noisy(1.0 if size == 1 else 3.0, sample_rate)[: 10_000 if size == 1 else None]
    estimate = streamed(enhancer.streamer(sample_rate), x, size)
    np.testing.assert_allclose(estimate, enhancer.enhance(x, sample_rate), atol=1e-5)


def test_the_channels_of_a_stream_do_not_hear_each_other(enhancer):
    x = np.stack((noisy(2.0, 16000), noisy(2.0, 16000, seed=1)))
    both = streamed(enhancer.streamer(16000, 2), x, 777)
    assert both.shape == x.shape
    for channel, estimate in zip(x, both, strict=True):
        np.testing.assert_allclose(streamed(enhancer.streamer(16000), channel, 999), estimate, atol=1e-5)


@pytest.mark.parametrize("sample_rate", [RATE, 11025, 44100])
@pytest.mark.parametrize("lookahead", [None, 0.0, 0.2])
def test_no_sample_comes_later_than_the_latency(enhancer, sample_rate, lookahead):
    streamer = enhancer.streamer(sample_rate, lookahead=lookahead)
    step, given, latest = sample_rate // 100, 0, 0.0
    x = noisy(5.0, sample_rate)
    for start in range(0, x.size - step, step):
        given += streamer.feed(x[start : start + step]).size
        latest = max(latest, (start + step - given) / sample_rate)
    assert streamer.latency_seconds - 0.1 < latest <= streamer.latency_seconds
    assert given + streamer.flush().size == start + step


def test_a_shorter_lookahead_comes_sooner_and_near(enhancer):
    x = noisy(6.0, RATE)
    whole = enhancer.enhance(x, RATE)
    soon = enhancer.streamer(RATE, lookahead=0.2)
    assert soon.latency_seconds < 0.5 < enhancer.streamer(RATE).latency_seconds
    estimate = streamed(soon, x, 100)
    assert estimate.shape == x.shape
    assert np.linalg.norm(estimate - whole) < 0.3 * np.linalg.norm(whole)


def test_misuse_is_refused(enhancer):
    streamer = enhancer.streamer(RATE)
    with pytest.raises(AudioError, match="2 channels"):
        streamer.feed(np.zeros((2, 10), np.float32))
    with pytest.raises(AudioError, match="int16"):
        streamer.feed(np.zeros(10, np.int16))
    streamer.flush()
    with pytest.raises(AudioError, match="flushed"):
        streamer.feed(np.zeros(10, np.float32))
    with pytest.raises(ConfigError, match="lookahead"):
        enhancer.streamer(RATE, lookahead=-1)
