"""The first pass: all of the way where there is only noise, a part of it where there is speech."""

import numpy as np
import pytest
import torch

from miase.first_pass import part_way
from signals import speech_like, white

SPEECH, NOISE = slice(0, 12000), slice(20000, 32000)  # of two seconds, well within each half


def speech_then_noise(rate):
    """White noise all along; speech, which the estimate keeps, in the first half."""
    speech = np.concatenate([speech_like(1, rate, 0), np.zeros(rate)])
    noise = 0.1 * speech.std() * white(2, rate, 1) / white(2, rate, 1).std()
    noisy = torch.tensor(speech + noise).float().unsqueeze(0)
    return noisy, torch.tensor(speech).float().unsqueeze(0)


def share_of_noise(first, noisy, estimate, where):
    noise = (noisy - estimate)[:, where]
    return float(((first - estimate)[:, where] * noise).sum() / noise.square().sum())


def test_all_of_the_noise_goes_where_there_is_nothing_else():
    noisy, estimate = speech_then_noise(16000)
    first = part_way(noisy, estimate, 0.85, 0.3)
    assert share_of_noise(first, noisy, estimate, NOISE) == pytest.approx(0, abs=1e-4)


def test_speech_gets_back_what_the_estimate_lost_of_it():
    """The estimate halves the first half, so that what it removed has as much power as what it left."""
    noisy = torch.tensor(np.stack([white(2, 16000, 2)])).float()
    estimate = noisy * torch.cat([torch.full((16000,), 0.5), torch.zeros(16000)])
    for speech_share, share in ((0.25, 0.85), (0.5, 1 - 0.15 * 0.5 / 0.5), (1.0, 1 - 0.15 * 0.5)):
        first = part_way(noisy, estimate, 0.85, speech_share)
        expected = 1 - 0.5 * share  # p is 0.25 / (0.25 + 0.25) in the first half
        torch.testing.assert_close(first[:, SPEECH], expected * noisy[:, SPEECH], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(first[:, NOISE], torch.zeros(1, 12000), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate", [8000, 48000])
def test_a_place_is_speech_at_any_rate(rate):
    noisy, estimate = speech_then_noise(rate)
    first = part_way(noisy, estimate, 0.6, 0.01, rate)
    assert first.shape == noisy.shape
    assert 0.2 < share_of_noise(first, noisy, estimate, slice(rate // 4, rate * 3 // 4)) <= 0.4
    assert share_of_noise(first, noisy, estimate, slice(rate * 5 // 4, 2 * rate)) < 0.01


def test_as_published_the_first_pass_is_the_estimate():
    noisy, estimate = speech_then_noise(16000)
    assert torch.equal(part_way(noisy, estimate, 1.0, 0.3), estimate)
    assert torch.equal(part_way(noisy, estimate, 0.7, 0), noisy.lerp(estimate, 0.7))


@pytest.mark.parametrize("n_samples", [1, 100, 12345])
def test_any_length(n_samples):
    noisy = torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0))
    first = part_way(noisy, 0.9 * noisy, 0.5, 0.3)
    torch.testing.assert_close(first, 0.95 * noisy, atol=1e-5, rtol=1e-4)


def test_an_item_does_not_weigh_on_another():
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(3, 8000, generator=generator)
    estimate = noisy * torch.rand(3, 8000, generator=generator)
    whole = part_way(noisy, estimate, 0.85, 0.3)
    torch.testing.assert_close(whole[1:2], part_way(noisy[1:2], estimate[1:2], 0.85, 0.3))
    louder = part_way(1000 * noisy, 1000 * estimate, 0.85, 0.3)
    torch.testing.assert_close(louder / 1000, whole, atol=1e-6, rtol=1e-5)
