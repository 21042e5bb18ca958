"""Segments joined: identity to the bit, locality, constant memory."""

import numpy as np
import pytest

from miase.overlap import SegmentStream


def in_blocks(x, sizes):
    start = 0
    while start < x.shape[1]:
        for size in sizes:
            yield x[:, start : start + size]
            start += size


def run(process, x, sizes, segment=100, context=20, fade=10):
    stream = SegmentStream(process, segment, context, fade, n_outputs=len(process(x)))
    given = [stream.feed(block) for block in in_blocks(x, sizes)]
    return np.concatenate([*given, stream.feed(x[:, :0], last=True)], axis=1)


@pytest.mark.parametrize("n", [1, 99, 100, 101, 139, 140, 141, 250, 1000, 1037])
@pytest.mark.parametrize("sizes", [(7,), (64, 1, 500), (5000,)])
@pytest.mark.parametrize(("context", "fade"), [(20, 10), (20, 40), (0, 0), (20, 0)])
def test_identity_gives_the_input_back_to_the_bit(n, sizes, context, fade):
    x = np.random.default_rng(0).standard_normal((2, n)).astype(np.float32)
    np.testing.assert_array_equal(run(lambda s: s, x, sizes, context=context, fade=fade), x)


def test_a_local_process_gives_what_it_gives_for_the_whole():
    x = np.random.default_rng(0).standard_normal((1, 1000)).astype(np.float32)
    kernel = np.hanning(21).astype(np.float32)

    def smooth(s):
        return np.stack([np.convolve(row, kernel, "same") for row in s])

    np.testing.assert_allclose(run(smooth, x, (64,), context=20), smooth(x), atol=1e-5)


def test_segments_that_differ_are_cross_faded():
    calls = iter(range(10))
    stream = SegmentStream(lambda s: np.full_like(s, next(calls)), segment=100, context=20, fade=10)
    result = stream.feed(np.zeros((1, 300), np.float32), last=True)[0]
    assert result[:95].max() == 0
    assert (result[105:195] == 1).all()
    np.testing.assert_allclose(result[95:105], (np.arange(10) + 0.5) / 10, atol=1e-6)


def test_more_outputs_than_channels():
    x = np.random.default_rng(0).standard_normal((1, 500)).astype(np.float32)
    result = run(lambda s: np.concatenate((s, 2 * s)), x, (33,))
    np.testing.assert_array_equal(result, np.concatenate((x, 2 * x)))


def test_no_call_sees_more_than_a_segment_with_context():
    longest = 0

    def watch(s):
        nonlocal longest
        longest = max(longest, s.shape[1])
        return s

    stream = SegmentStream(watch, 100, 20, 10)
    for block in in_blocks(np.zeros((1, 5000), np.float32), (64,)):
        stream.feed(block)
    assert longest <= 100 + 2 * 20


def test_an_empty_stream_gives_nothing():
    stream = SegmentStream(lambda s: s, 100, 20, 10)
    assert stream.feed(np.zeros((1, 0), np.float32), last=True).shape == (1, 0)


def test_nothing_waits_longer_than_the_latency():
    stream = SegmentStream(lambda s: s, 100, 20, 10)
    given = 0
    for taken in range(1, 1001):
        given += stream.feed(np.zeros((1, 1), np.float32)).shape[1]
        assert taken - given <= stream.latency
