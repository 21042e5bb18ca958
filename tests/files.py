"""What the tests of sound files share: samples, and the message of a refusal."""

import numpy as np
import pytest

from miase.errors import AudioError

RATE = 16000  # Hz


def noise(n_channels=2, n_frames=20000, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(-0.5, 0.5, (n_channels, n_frames)).astype(np.float32)


def tone(frequency, sample_rate, seconds=1.0):
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)[None]


def refusal(call, *args, **kwargs):
    with pytest.raises(AudioError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message
