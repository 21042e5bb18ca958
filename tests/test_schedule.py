"""The learning rate: its rise, and each schedule's fall."""

from itertools import pairwise

import pytest

from miase.config import TrainingConfig
from miase.schedule import LEAST, lr_factor


def factors(n=1000, **settings):
    config = TrainingConfig(max_steps=n, **settings)
    return [lr_factor(config, step, 0.0, step // 100) for step in range(n)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "exponential", "constant"])
def test_every_schedule_rises_to_the_highest_and_never_above(schedule):
    found = factors(lr_schedule=schedule)
    assert found[0] == pytest.approx(1 / 20)
    assert max(found) == 1.0
    assert found.index(1.0) == 19


def test_linear_and_cosine_fall_at_the_end_alone_and_to_the_least():
    for schedule in ("linear", "cosine"):
        found = factors(lr_schedule=schedule, lr_decay=0.25)
        assert set(found[19:751]) == {1.0}
        assert all(a > b for a, b in pairwise(found[751:986]))
        assert found[-1] == pytest.approx(LEAST, abs=1e-9)
    middle = factors(lr_schedule="cosine", lr_decay=0.25)[875]
    assert middle == pytest.approx(0.5, abs=1e-9)


def test_exponential_is_the_published_one():
    found = factors(lr_schedule="exponential")
    assert [found[epoch * 100 + 50] for epoch in range(4)] == pytest.approx([1, 0.95, 0.95**2, 0.95**3])


def test_constant_stays():
    assert set(factors(lr_schedule="constant")[19:]) == {1.0}


def test_without_a_limit_of_steps_the_minutes_count():
    config = TrainingConfig(max_minutes=10, lr_decay=0.5)
    assert lr_factor(config, 500, 299.0, 0) == 1.0
    assert lr_factor(config, 500, 450.0, 0) == pytest.approx(0.5)
