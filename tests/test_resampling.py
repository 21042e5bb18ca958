"""Is resampling in phase, of the stated length, and the same block by block?"""

import numpy as np
import pytest
import soxr

from files import noise, tone
from miase.resampling import StreamResampler, resample, resampled_length


@pytest.mark.parametrize(
    ("source", "target"), [(44100, 16000), (16000, 48000), (48000, 44100), (8000, 16001), (16000, 16000)]
)
def test_stream_resampler_equals_the_whole(source, target):
    generator = np.random.default_rng(source + target)
    samples = noise(n_channels=3, n_frames=30_011)
    stream = StreamResampler(source, target, 3)
    outputs, start = [], 0
    while start < samples.shape[1]:
        size = int(generator.choice([0, 1, 7, 160, 4097]))
        outputs.append(stream.process(samples[:, start : start + size]))
        start += size
    outputs.append(stream.process(samples[:, :0], last=True))
    whole = resample(samples, source, target)
    assert np.array_equal(np.concatenate(outputs, axis=1), whole)
    reference = samples.T if source == target else soxr.resample(samples.T, source, target)
    assert np.array_equal(whole, reference.T)
    assert np.array_equal(resample(samples[1], source, target), whole[1])


def test_resampled_length_is_what_comes_out():
    for source in (8000, 16000, 22050, 44100, 48000):
        for target in (8000, 16000, 44100, 48000):
            for n_frames in (0, 1, 2, 3, 99, 1000, 12345):
                output = resample(np.zeros(n_frames, np.float32), source, target)
                assert len(output) == resampled_length(n_frames, source, target)


def test_resampling_keeps_a_low_tone_in_place_and_removes_a_high_one():
    middle = slice(2000, -2000)
    low = resample(tone(1000, 44100), 44100, 16000)
    assert np.abs(low - tone(1000, 16000))[:, middle].max() < 1e-4
    high = resample(tone(10_000, 44100), 44100, 16000)
    assert np.abs(high)[:, middle].max() < 1e-4
