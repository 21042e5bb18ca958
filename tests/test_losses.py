"""Losses against a float64 numpy version, and what each of them must forbid."""

from functools import partial

import numpy as np
import pytest
import torch

from miase.losses import (
    compressed_spectrum_error,
    multi_resolution_stft_error,
    relative_time_error,
    squared_error,
    stft_error,
    trust_in_bins,
    weighted_sdr,
)
from miase.loudness import loudness_error
from signals import speech_like, white


@pytest.fixture
def signals():
    rng = np.random.default_rng(0)
    target = rng.standard_normal((3, 4000)) * np.array([[0.01], [0.1], [1.0]])
    noisy = target + 0.3 * target.std() * rng.standard_normal((3, 4000))
    estimate = target + 0.3 * (noisy - target) + 0.01 * rng.standard_normal((3, 4000))
    return noisy, estimate, target


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def test_weighted_sdr_equals_its_equation(signals):
    noisy, estimate, target = signals

    def cosine(a, b):
        return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))

    noise, noise_estimate = noisy - target, noisy - estimate
    share = (target**2).sum(-1) / ((target**2).sum(-1) + (noise**2).sum(-1))
    expected = -share * cosine(target, estimate) - (1 - share) * cosine(noise, noise_estimate)
    np.testing.assert_allclose(weighted_sdr(*tensors(noisy, estimate, target)), expected, rtol=1e-5)


def test_weighted_sdr_of_the_target_is_minus_one(signals):
    noisy, _, target = tensors(*signals)
    torch.testing.assert_close(
        weighted_sdr(noisy, target, target), torch.full((3,), -1.0, dtype=torch.float64)
    )


def test_time_error_equals_its_equation(signals):
    _, estimate, target = signals
    expected = np.abs(estimate - target).mean(-1) / np.sqrt((target**2).mean(-1))
    np.testing.assert_allclose(relative_time_error(*tensors(estimate, target)), expected, rtol=1e-3)


def float64_spectrum(x, target):
    """Of x over the target's RMS, (batch, frame, freq)."""
    x = x / np.sqrt((target**2).mean(-1, keepdims=True))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    padded = np.pad(x, ((0, 0), (256, 256)))
    frames = np.stack([padded[:, t * 256 : t * 256 + 512] for t in range(1 + x.shape[1] // 256)], axis=1)
    return np.fft.rfft(frames * window) / 16


def test_spectrum_error_equals_a_float64_version(signals):
    _, estimate, target = signals

    def compressed(x):
        spectrum = float64_spectrum(x, target)
        magnitude = np.abs(spectrum) ** 0.3
        return magnitude, magnitude * np.exp(1j * np.angle(spectrum))

    (a, a_complex), (b, b_complex) = compressed(estimate), compressed(target)
    expected = ((a - b) ** 2).mean((1, 2)) + 0.5 * (np.abs(a_complex - b_complex) ** 2).mean((1, 2))
    result = compressed_spectrum_error(*tensors(estimate, target))
    np.testing.assert_allclose(result, expected, rtol=0.01)


@pytest.mark.parametrize("least", [0.25, 1.0])
def test_a_bin_counts_by_what_the_estimate_left_of_it(signals, least):
    _, _, target = signals
    removed = np.random.default_rng(1).standard_normal(target.shape) * np.linspace(0, 2, target.shape[-1])

    def power(x):
        power = np.pad(np.abs(float64_spectrum(x, target)) ** 2, ((0, 0), (1, 1), (1, 1)))
        n_frames, n_bins = power.shape[1] - 2, power.shape[2] - 2
        return sum(power[:, i : i + n_frames, j : j + n_bins] for i in range(3) for j in range(3)) / 9

    left, gone = power(target), power(removed)
    expected = least + (1 - least) * left / (left + gone)
    expected /= expected.mean((1, 2), keepdims=True)
    weights = trust_in_bins(*tensors(target, removed), least)
    np.testing.assert_allclose(weights.transpose(1, 2), expected, rtol=1e-3)
    assert (weights == 1).all() == (least == 1)


def test_weights_of_bins_choose_what_of_the_spectrum_counts(signals):
    _, estimate, target = tensors(*signals)
    error = compressed_spectrum_error(estimate, target)
    ones = torch.ones(len(target), 257, 1 + target.shape[-1] // 256)
    torch.testing.assert_close(compressed_spectrum_error(estimate, target, ones), error)
    below, above = ones.clone(), ones.clone()
    below[:, 100:], above[:, :100] = 0, 0
    parts = [compressed_spectrum_error(estimate, target, half) for half in (below, above)]
    torch.testing.assert_close(sum(parts), error)
    assert (parts[0] > 0).all()


def test_the_published_time_loss_is_the_mean_squared_error(signals):
    _, estimate, target = signals
    expected = ((estimate - target) ** 2).mean(-1)
    np.testing.assert_allclose(squared_error(*tensors(estimate, target)), expected, rtol=1e-12)


@pytest.mark.parametrize("n_samples", [4000, 512, 300, 1])
def test_the_published_stft_loss_equals_a_float64_version(signals, n_samples):
    """By the definition of the transform, frame by frame, with a periodic Hamming window."""
    _, estimate, target = (signal[:, :n_samples] for signal in signals)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(512) / 512)
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512)

    def magnitudes(x):
        x = np.pad(x, ((0, 0), (0, max(0, 512 - x.shape[1]))))
        frames = [x[:, start : start + 512] * window for start in range(0, x.shape[1] - 511, 256)]
        spectrum = np.stack(frames, 1) @ matrix.T
        return np.abs(spectrum.real) + np.abs(spectrum.imag)

    expected = np.abs(magnitudes(estimate) - magnitudes(target)).mean((1, 2))
    np.testing.assert_allclose(stft_error(*tensors(estimate, target)), expected, rtol=1e-4)


def test_the_multi_resolution_loss_equals_a_float64_version(signals):
    _, estimate, target = signals
    scale = np.sqrt((target**2).mean(-1, keepdims=True))

    def magnitudes(x, n_fft, hop, length):
        window = np.zeros(n_fft)
        left = (n_fft - length) // 2
        window[left : left + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        padded = np.pad(x / scale, ((0, 0), (n_fft // 2, n_fft // 2)))
        frames = [padded[:, t : t + n_fft] * window for t in range(0, padded.shape[1] - n_fft + 1, hop)]
        return np.maximum(np.abs(np.fft.rfft(np.stack(frames, 1))), 1e-7**0.5)

    expected = 0
    for resolution in ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200)):
        a, b = magnitudes(estimate, *resolution), magnitudes(target, *resolution)
        convergence = np.sqrt(((b - a) ** 2).sum((1, 2)) / (b**2).sum((1, 2)))
        expected = expected + (convergence + np.abs(np.log(b) - np.log(a)).mean((1, 2))) / 3
    result = multi_resolution_stft_error(*tensors(estimate, target))
    np.testing.assert_allclose(result, expected, rtol=1e-3)


@pytest.mark.parametrize(
    "loss", [relative_time_error, compressed_spectrum_error, multi_resolution_stft_error]
)
@pytest.mark.parametrize("gain", [0.0, 0.01, 0.5])
def test_level_losses_forbid_silence_and_shrinking(loss, gain, signals):
    _, _, target = tensors(*signals)
    assert (loss(gain * target, target) > loss(0.95 * target, target) + 1e-3).all()
    assert (loss(target, target) < 1e-6 + 1e-3 * (loss is multi_resolution_stft_error)).all()


def test_one_item_does_not_weigh_on_another(signals):
    noisy, estimate, target = tensors(*signals)
    losses = (relative_time_error, compressed_spectrum_error, stft_error, multi_resolution_stft_error)
    for loss in (*losses, partial(loudness_error, sample_rate=16000)):
        torch.testing.assert_close(loss(estimate, target)[1:2], loss(estimate[1:2], target[1:2]))
    alone = weighted_sdr(noisy[1:2], estimate[1:2], target[1:2])
    torch.testing.assert_close(weighted_sdr(noisy, estimate, target)[1:2], alone)


def disturbance(estimate, target, rate):
    """`loudness_error` of one item, by loops and sums of single bins in float64."""
    n_fft, edges = rate * 32 // 1000, []
    top = 6 * np.arcsinh(min(8000, rate / 2) / 600)
    edges = 600 * np.sinh(np.linspace(0, top, 50) / 6)
    level = np.sqrt(np.mean(target**2) + 1e-8) / 10 ** (79 / 20)

    def powers(samples):
        padded = np.pad(samples / level, n_fft // 2)
        frames = []
        for start in range(0, len(padded) - n_fft + 1, n_fft // 2):
            window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
            bins = np.abs(np.fft.rfft(padded[start : start + n_fft] * window)) ** 2 / (0.1875 * n_fft**2)
            bands = np.zeros(49)
            for k, power in enumerate(bins):
                low, high = (k - 0.5) * rate / n_fft, (k + 0.5) * rate / n_fft
                for i in range(49):
                    bands[i] += power * max(0, min(high, edges[i + 1]) - max(low, edges[i])) * n_fft / rate
            frames.append(bands)
        return np.array(frames)

    ours, theirs = powers(estimate), powers(target)
    speech = theirs.sum(1) > 1e5
    theirs = theirs * np.clip((ours[speech].sum(0) + 1e3) / (theirs[speech].sum(0) + 1e3), 0.01, 100)
    gain = np.clip((theirs.sum(1) + 5e3) / (ours.sum(1) + 5e3), 3e-4, 5)
    ours = ours * gain[:, None]
    khz = (edges[1:] + edges[:-1]) / 2000
    hearing = 3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    threshold, bark = 10 ** (np.minimum(hearing, 40) / 10), 6 * np.arcsinh(khz / 0.6)
    exponent = 0.23 * np.where(bark < 4, np.minimum(6 / (bark + 2), 2) ** 0.15, 1)
    ours_sone, theirs_sone = (
        np.maximum(0.19 * (threshold / 0.5) ** exponent * ((0.5 + 0.5 * p / threshold) ** exponent - 1), 0)
        for p in (ours, theirs)
    )
    d = np.maximum(np.abs(ours_sone - theirs_sone) - 0.25 * np.minimum(ours_sone, theirs_sone), 0)
    h = ((ours + 50) / (theirs + 50)) ** 1.2
    h[h < 3] = 0
    loudest = ((theirs.sum(1) + 1e5) / 1e7) ** -0.04 * top**2 / 49
    symmetric = np.minimum(np.sqrt(np.mean(d**2, 1) + 1e-6) * loudest, 45)
    asymmetric = np.minimum(np.mean(d * np.minimum(h, 12), 1) * loudest, 45)
    return np.mean(0.1 * symmetric + 0.0309 * asymmetric)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_loudness_error_equals_a_float64_version(rate):
    target = np.stack([speech_like(1.0, rate, seed) for seed in range(3)])
    estimate = 0.5 * target + np.array([[0.1], [0.01], [0.0]]) * white(1.0, rate)
    expected = [disturbance(*pair, rate) for pair in zip(estimate, target, strict=True)]
    torch.testing.assert_close(
        loudness_error(*tensors(estimate, target), rate), torch.tensor(expected).float(), rtol=1e-4, atol=1e-4
    )


def test_loudness_error_ranks_noises_as_pesq_does():
    pesq = pytest.importorskip("pesq").pesq
    clean = speech_like(4.0, 16000)
    noise = white(4.0, 16000)
    hum = np.sin(2 * np.pi * 300 * np.arange(64000) / 16000)
    spoilt = [clean + gain * n for n in (noise, hum) for gain in (0.003, 0.01, 0.03, 0.1)]
    target = np.stack([clean] * len(spoilt))
    ours = loudness_error(*tensors(np.stack(spoilt), target), 16000).numpy()
    theirs = np.array([pesq(16000, clean, x, "wb") for x in spoilt])
    ranks = [values.argsort().argsort() for values in (ours, -theirs)]
    assert np.corrcoef(*ranks)[0, 1] > 0.9


def test_loudness_error_takes_level_and_response_for_granted_but_no_noise():
    clean = speech_like(2.0, 16000)
    louder, duller = 2 * clean, np.convolve(clean, [0.7, 0.3], mode="same")
    noisy = clean + 0.003 * white(2.0, 16000)  # weaker than the other two changes
    assert np.sum((noisy - clean) ** 2) < np.sum((duller - clean) ** 2)
    target = np.stack([clean] * 3)
    errors = loudness_error(*tensors(np.stack([louder, duller, noisy]), target), 16000)
    assert errors[0] < 0.05
    assert errors[1] < 0.5 * errors[2]


def test_losses_and_gradients_are_finite_in_silence():
    estimate = torch.zeros(1, 2000, requires_grad=True)
    silent = torch.zeros(1, 2000)
    loss = weighted_sdr(silent, estimate, silent) + relative_time_error(estimate, silent)
    loss = loss + compressed_spectrum_error(estimate, silent) + multi_resolution_stft_error(estimate, silent)
    loss = loss + loudness_error(estimate, silent, 16000)
    (loss + stft_error(estimate, silent) + squared_error(estimate, silent)).sum().backward()
    assert torch.isfinite(estimate.grad).all()
