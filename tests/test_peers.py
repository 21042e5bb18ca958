"""The adapters around tools of others; the tools themselves where they are installed."""

import numpy as np
import pytest

from miase.errors import EvaluationError
from miase.peers import PEERS, Peer, _at_rate
from signals import speech_like


@pytest.mark.parametrize("sample_rate", [16_000, 48_000])
@pytest.mark.parametrize("delay", [0, 93])
def test_a_constant_delay_is_taken_out(sample_rate, delay):
    noisy = np.stack([speech_like(1, sample_rate, seed) for seed in range(2)]).astype(np.float32)
    noisy = noisy[:, : 3 * 5000]

    def late(samples):
        return np.pad(samples, (delay, 0))[: len(samples)]

    estimate = _at_rate(late, 16_000, delay, noisy, sample_rate)
    assert estimate.shape == noisy.shape
    if sample_rate == 16_000:
        assert (estimate == noisy).all()
    else:
        assert np.corrcoef(estimate[0], noisy[0])[0, 1] > 0.99


def test_a_missing_package_is_named_with_its_install_line():
    peer = Peer("no-such-package", "no_such_module", "", lambda: pytest.fail("not reached"))
    assert not peer.installed
    with pytest.raises(EvaluationError, match="pip install no-such-package"):
        peer.load()


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("sample_rate", [16_000, 48_000])
def test_an_installed_tool_keeps_shape_and_place(name, sample_rate):
    if not PEERS[name].installed:
        pytest.skip(f"{PEERS[name].package} is not installed")
    system = PEERS[name].load()
    clean = speech_like(3, sample_rate)[None].astype(np.float32)
    estimate = system(clean, sample_rate)
    assert estimate.shape == clean.shape
    spectra = [np.fft.rfft(x[0], 2 * clean.shape[1]) for x in (estimate, clean)]
    lag = int(np.argmax(np.fft.irfft(spectra[0] * np.conj(spectra[1]))))
    assert min(lag, 2 * clean.shape[1] - lag) <= 0.002 * sample_rate
    assert system(np.zeros((1, 1), np.float32), sample_rate).shape == (1, 1)
