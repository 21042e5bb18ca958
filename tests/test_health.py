"""What is measured while learning: silence, doing nothing and consistency tell themselves apart."""

import numpy as np
import pytest
import torch

from miase.health import PROBE_SNR_DB, health, rate, si_sdr
from miase.metrics import score
from miase.metrics.signal import si_sdr as reference_si_sdr
from signals import speech_like, white

RATE = 8000


@pytest.fixture
def batch():
    speech = torch.tensor(np.stack([speech_like(1, RATE, seed) for seed in range(3)])).float()
    noise = torch.tensor(np.stack([white(1, RATE, seed) for seed in range(6)])).float()
    return speech + 0.02 * noise[:3], noise[3:]


def low_pass(samples):
    spectrum = torch.fft.rfft(samples)
    spectrum[..., spectrum.shape[-1] // 2 :] = 0
    return torch.fft.irfft(spectrum, samples.shape[-1])


def test_silence_and_doing_nothing_are_told_apart(batch):
    silent, same = health(torch.zeros_like, *batch), health(torch.clone, *batch)
    assert silent["energy_db"] < -100
    assert abs(silent["removed_db"]) < 1e-4
    assert abs(same["energy_db"]) < 1e-4
    assert same["removed_db"] < -100
    assert abs(same["consistency_db"]) < 1e-4


def test_consistency_is_what_comes_out_of_the_noise_that_was_added(batch):
    """A low-pass over half the band lets half of the white noise through: 3 dB, and leaves its own output."""
    assert health(low_pass, *batch)["consistency_db"] == pytest.approx(3.0, abs=0.2)


def test_the_blind_measure_ranks_networks_as_clean_speech_does():
    """Gains with and without a low-pass, by the error against the clean speech, for noise like the probe."""
    speech = torch.tensor(np.stack([speech_like(2, RATE, seed) for seed in range(8)])).float()
    noises = torch.tensor(np.stack([white(2, RATE, seed) for seed in range(16)])).float()
    share = 10 ** (-PROBE_SNR_DB / 10)  # of the noise in the noisy signal
    level = (speech.square().mean(-1, keepdim=True) * share / (1 - share)).sqrt()
    noisy, noise = speech + level * noises[:8], noises[8:]
    networks = [
        lambda x, gain=gain, keep=keep: gain * (low_pass(x) if keep else x)
        for gain in (0.0, 0.3, 0.6, 0.9, 1.2)
        for keep in (False, True)
    ]
    louder = noisy + level * noise  # where the measure looks, too
    true = [float((network(louder) - speech).square().mean()) for network in networks]
    blind = [float(health(network, noisy, noise)["blind_sdr_db"]) for network in networks]
    order = np.argsort(true)
    assert order[0] == np.argmax(blind)
    assert np.corrcoef(np.argsort(order), np.argsort(np.argsort(blind)))[0, 1] < -0.95


def test_a_batch_is_rated_as_one_clip():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("speechmos")
    speech = np.stack([speech_like(2, 16000, seed) for seed in range(4)])
    found = rate(torch.tensor(speech), 16000)
    whole = np.resize(speech, 144_160)  # 9.01 s
    expected = score(whole, None, 16000, ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"))
    assert found.keys() == set(expected)
    assert found == pytest.approx(dict(expected), abs=1e-3)


def test_si_sdr_is_the_metric(batch):
    noisy, noise = batch
    ours = si_sdr(noisy + 0.1 * noise, noisy)
    for i in range(len(noisy)):
        theirs = reference_si_sdr((noisy[i] + 0.1 * noise[i]).numpy(), noisy[i].numpy(), RATE)["si_sdr"]
        assert float(ours[i]) == pytest.approx(theirs, abs=0.05)
    assert si_sdr(torch.zeros(1, 9), torch.ones(1, 9)).isfinite().all()
