"""The yardstick of the speed measurements gives the numbers of the networks that it is compared with."""

import sys
from pathlib import Path

import pytest
import torch

from miase.models import MODELS
from miase.models.inference import FusedNetwork
from miase.streaming import ModelStream
from test_inference import trained

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from plain import PlainDCUNet


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_samples", [1, 1023, 5001])
@pytest.mark.parametrize("window_frames", [0, 32])
def test_the_plain_network_equals_ours(name, n_samples, window_frames):
    model = trained(name=name, n_fft=128, hop_length=32, window_frames=window_frames)
    noisy = torch.randn(1, n_samples)
    plain = PlainDCUNet(model, window_frames)(noisy)
    torch.testing.assert_close(plain, model(noisy), rtol=0, atol=1e-4)
    streamed = ModelStream(model, FusedNetwork(model), 16).feed(noisy[0].numpy(), last=True)
    torch.testing.assert_close(torch.from_numpy(streamed), plain, rtol=0, atol=1e-4)
