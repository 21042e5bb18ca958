"""What is measured while learning."""

import torch

from miase.learner import health


def test_health_tells_silence_from_doing_nothing():
    noisy = torch.randn(3, 1000)
    silent, same = health(noisy, torch.zeros_like(noisy)), health(noisy, noisy)
    assert silent["energy_db"] < -100
    assert abs(silent["removed_db"]) < 1e-4
    assert abs(same["energy_db"]) < 1e-4
    assert same["removed_db"] < -100
