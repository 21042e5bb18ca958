"""The band above a model's: known answers of streams that do nothing but scale."""

import numpy as np
import pytest

from miase.full_band import FullBandStream

NARROW, WIDE = 16_000, 48_000


class Scaler:
    """Gives its input, scaled, after a delay; with three outputs, the input and a share to cut, too."""

    def __init__(self, gain, latency, share=None):
        self.gain, self.latency, self.share = gain, latency, share
        self.waiting = np.zeros(0, np.float32)

    def feed(self, samples, *, last=False):
        self.waiting = np.concatenate((self.waiting, samples))
        n_given = len(self.waiting) if last else max(0, len(self.waiting) - self.latency)
        given, self.waiting = self.waiting[:n_given], self.waiting[n_given:]
        outputs = [self.gain * given]
        if self.share is not None:
            outputs += [given, np.full_like(given, self.share)]
        return np.stack(outputs)


def tone(frequency, n_samples):
    return np.sin(2 * np.pi * frequency / WIDE * np.arange(n_samples)).astype(np.float32)


@pytest.mark.parametrize("n_samples", [48_000, 48_001, 48_002])
@pytest.mark.parametrize("latencies", [(0, 0), (700, 100), (100, 3000)])
@pytest.mark.parametrize(("share", "kept"), [(0.25, 0.75), (0.0, 1.0), (1.2, 0.0)])
def test_below_is_the_narrow_model_and_above_both(n_samples, latencies, share, kept):
    low, high = tone(1000, n_samples), tone(12_000, n_samples)
    stream = FullBandStream(Scaler(0.5, latencies[0], share), Scaler(0.8, latencies[1], 0.3), NARROW, WIDE)
    blocks = np.array_split(low + high, 13)
    outputs = [stream.feed(block) for block in blocks[:-1]] + [stream.feed(blocks[-1], last=True)]
    estimate, noisy, cut = np.concatenate(outputs, axis=1)
    assert len(estimate) == n_samples
    middle = slice(1000, -1000)
    expected = 0.5 * low + 0.8 * kept * high
    np.testing.assert_allclose(estimate[middle], expected[middle], atol=2e-3)
    np.testing.assert_array_equal(noisy, low + high)
    np.testing.assert_array_equal(cut, np.full(n_samples, 0.3, np.float32))


@pytest.mark.parametrize("latencies", [(0, 0), (700, 100), (100, 3000)])
def test_no_sample_comes_later_than_stated(latencies):
    stream = FullBandStream(Scaler(1.0, latencies[0], 0.0), Scaler(1.0, latencies[1]), NARROW, WIDE)
    taken = given = 0
    for _ in range(300):
        given += stream.feed(np.zeros(160, np.float32)).shape[1]
        taken += 160
        assert taken - given <= stream.latency + 160
    assert given > 0
