"""Losses against a float64 numpy version, and what each of them must forbid."""

import numpy as np
import pytest
import torch

from miase.losses import compressed_spectrum_error, relative_time_error, weighted_sdr


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


def test_spectrum_error_equals_a_float64_version(signals):
    _, estimate, target = signals

    def compressed(x):
        x = x / np.sqrt((target**2).mean(-1, keepdims=True))
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
        padded = np.pad(x, ((0, 0), (256, 256)))
        frames = np.stack([padded[:, t * 256 : t * 256 + 512] for t in range(1 + x.shape[1] // 256)], axis=1)
        spectrum = np.fft.rfft(frames * window) / 16
        magnitude = np.abs(spectrum) ** 0.3
        return magnitude, magnitude * np.exp(1j * np.angle(spectrum))

    (a, a_complex), (b, b_complex) = compressed(estimate), compressed(target)
    expected = ((a - b) ** 2).mean((1, 2)) + 0.5 * (np.abs(a_complex - b_complex) ** 2).mean((1, 2))
    result = compressed_spectrum_error(*tensors(estimate, target))
    np.testing.assert_allclose(result, expected, rtol=0.01)


@pytest.mark.parametrize("loss", [relative_time_error, compressed_spectrum_error])
@pytest.mark.parametrize("gain", [0.0, 0.01, 0.5])
def test_level_losses_forbid_silence_and_shrinking(loss, gain, signals):
    _, _, target = tensors(*signals)
    assert (loss(gain * target, target) > loss(0.95 * target, target) + 1e-3).all()
    assert (loss(target, target) < 1e-6).all()


def test_one_item_does_not_weigh_on_another(signals):
    noisy, estimate, target = tensors(*signals)
    for loss in (relative_time_error, compressed_spectrum_error):
        torch.testing.assert_close(loss(estimate, target)[1:2], loss(estimate[1:2], target[1:2]))
    alone = weighted_sdr(noisy[1:2], estimate[1:2], target[1:2])
    torch.testing.assert_close(weighted_sdr(noisy, estimate, target)[1:2], alone)


def test_losses_and_gradients_are_finite_in_silence():
    estimate = torch.zeros(1, 2000, requires_grad=True)
    silent = torch.zeros(1, 2000)
    loss = weighted_sdr(silent, estimate, silent) + relative_time_error(estimate, silent)
    (loss + compressed_spectrum_error(estimate, silent)).sum().backward()
    assert torch.isfinite(estimate.grad).all()
