"""The STFT pair: reconstruction and independent values."""

import math

import numpy as np
import pytest
import torch

from miase.stft import Stft


@pytest.mark.parametrize(("n_fft", "hop_length"), [(512, 256), (512, 128), (3072, 768), (1022, 256)])
@pytest.mark.parametrize("n_samples", [1, 255, 5000, 16001])
def test_synthesis_inverts_analysis(n_fft, hop_length, n_samples):
    stft = Stft(n_fft, hop_length)
    samples = torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0))
    spectrum = stft.analyse(samples)
    assert spectrum.shape == (2, n_fft // 2 + 1, 1 + math.ceil(n_samples / hop_length), 2)
    torch.testing.assert_close(stft.synthesise(spectrum, n_samples), samples, rtol=1e-4, atol=1e-5)


def test_a_frame_is_the_transform_of_windowed_samples():
    n_fft, hop_length = 64, 16
    samples = np.random.default_rng(0).standard_normal(400)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    centre = 7 * hop_length
    expected = np.fft.rfft(samples[centre - n_fft // 2 : centre + n_fft // 2] * window)
    spectrum = Stft(n_fft, hop_length).analyse(torch.from_numpy(samples)[None].float())
    result = torch.view_as_complex(spectrum)[0, :, 7].numpy()
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_a_tone_leaks_little():
    """The earlier code used no window: -35 dB beyond 200 Hz of a tone; a Hann window has far less."""
    sample_rate, n_fft = 16000, 512
    tone = torch.sin(2 * torch.pi * 1010.0 * torch.arange(16000) / sample_rate)[None]
    power = Stft(n_fft, 256).analyse(tone).square().sum(-1)[0, :, 5:-5].mean(-1)
    freqs = torch.arange(n_fft // 2 + 1) * sample_rate / n_fft
    leaked = power[(freqs - 1010).abs() > 200].max()
    assert 10 * torch.log10(leaked / power.max()) < -60


@pytest.mark.parametrize(("n_fft", "hop_length"), [(16, 4), (14, 4)])
def test_the_way_back_of_synthesis_is_that_of_finite_differences(n_fft, hop_length):
    stft = Stft(n_fft, hop_length).double()
    spectrum = torch.randn(1, n_fft // 2 + 1, 4, 2)

    def samples(spectrum):
        return stft.synthesise(spectrum, 11)

    given = spectrum.clone().requires_grad_()
    weights = torch.randn(1, 11)
    (gradient,) = torch.autograd.grad((samples(given) * weights).sum(), given)
    step = torch.randn_like(spectrum)  # synthesis is linear: a step of any size tells its slope
    expected = ((samples(spectrum + step) - samples(spectrum)) * weights).sum()
    torch.testing.assert_close((gradient * step).sum(), expected.to(gradient.dtype), rtol=1e-4, atol=1e-4)
