"""The log of a run: lines that a resume does again, and what TensorBoard is given."""

import json
import math

import pytest
import torch

from miase import training_log
from miase.learner import Progress
from miase.training_log import TrainingLog, spectrogram

RATE = 16000


class Board:
    """Keeps what it is given."""

    def __init__(self):
        self.given = {}

    def add_audio(self, name, samples, step, sample_rate):
        self.given["sound", name, step] = samples, sample_rate

    def add_image(self, name, picture, step, dataformats):
        self.given["picture", name, step] = picture, dataformats

    def close(self):
        pass


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_lines_behind_the_step_of_a_resume_are_dropped(log):
    first = TrainingLog(log, 0)
    for step in range(1, 6):
        first.write({"loss": 1 / step}, "train", Progress(step))
    first.close()
    TrainingLog(log, 3).close()
    assert [line["step"] for line in lines_of(log)] == [1, 2, 3]


def test_a_process_that_does_not_lead_writes_nothing(tmp_path):
    log = TrainingLog(None, 0)
    log.write({"loss": 1.0}, "train", Progress(1))
    log.hear(torch.zeros(1, 99), torch.zeros(1, 99), RATE, Progress(1))
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_both_sounds_are_heard_at_the_level_of_the_recording(log):
    board = Board()
    written = TrainingLog(log, 0)
    written.board = board
    noisy, estimate = torch.full((2, 2000), -0.5), torch.full((2, 2000), 0.25)
    written.hear(noisy, estimate, RATE, Progress(7))
    written.close()
    assert len(board.given) == 8
    sound, rate = board.given["sound", "estimate/1", 7]
    assert rate == RATE
    torch.testing.assert_close(sound, torch.full((2000,), 0.5))
    assert board.given["picture", "noisy/0", 7][1] == "HW"


@pytest.mark.parametrize("level_db", [0.0, -40.0, -120.0])
def test_a_spectrogram_shows_a_tone_at_its_place_and_level(level_db):
    """1 kHz at 16 kHz is bin 32 of 257, counted from the lowest row."""
    tone = 10 ** (level_db / 20) * torch.sin(2 * math.pi * 1000 * torch.arange(16000) / RATE)
    picture = spectrogram(tone)
    assert picture.shape == (257, 126)
    middle = picture[:, 60]
    assert float(middle.max()) == pytest.approx(max(0.0, 1 + level_db / training_log.RANGE_DB), abs=0.01)
    if level_db > -training_log.RANGE_DB:
        assert int(middle.argmax()) == 256 - 32
