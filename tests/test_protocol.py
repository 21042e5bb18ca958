"""The published table's rows, made from tiny folders."""

import json
from functools import partial

import numpy as np
import pytest

from miase.cli import run
from miase.evaluate import Options
from miase.protocol import METRICS, PUBLISHED, ROWS, evaluate_n2n
from miase.report import as_markdown, as_text
from miase.report.page import as_html
from miase.sources import URBANSOUND_CLASSES
from miase.writing import save
from signals import speech_like, white

RATE = 16_000


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for speaker in range(3):
        path = folder / "speech" / f"s{speaker}" / "a.wav"
        path.parent.mkdir(parents=True)
        save(path, speech_like(1, RATE, seed=speaker)[None].astype(np.float32), RATE)
    (folder / "noise").mkdir()
    for number in range(10):
        for source in range(3):
            path = folder / "noise" / f"{source}{number}-{number}-0-0.wav"
            save(path, 0.1 * white(1, RATE, seed=source)[None].astype(np.float32), RATE)
    return folder


def test_every_row_has_its_noise_at_the_published_difficulty(folders):
    context = evaluate_n2n(
        [folders / "speech"], [folders / "noise"], ["wiener"], Options(quiet=True), limit=1
    )
    with context as evaluation:
        assert evaluation.groups == list(ROWS)
        assert evaluation.metrics == METRICS
        for row in ROWS:
            (snr_db,) = evaluation.column("noisy", "snr", row)
            assert abs(snr_db - PUBLISHED[row]["published: noisy"]["snr"]) < 5.1
        for write in (as_text, as_markdown, partial(as_html, summary_only=True)):
            text = write(evaluation)
            assert "published: noise2noise" in text
            assert "16.94" in text
            assert "ours: speech of speech, noise of noise" in text.split("Statistics")[0]
        assert evaluation.hear("white/s" + evaluation.scores[0].file.split("/s", 1)[1], "clean")[1] == RATE


def test_the_table_of_the_paper_is_whole():
    assert set(PUBLISHED) == {"white", "mixed", *URBANSOUND_CLASSES}
    for row in PUBLISHED.values():
        assert [len(means) for means in row.values()] == [4, 4, 4]
        noisy, supervised, noise2noise = row.values()
        assert noisy["snr"] < min(supervised["snr"], noise2noise["snr"])
        assert all(means["pesq_wb"] < means["pesq_nb"] for means in row.values())


def test_the_command_wants_either_files_or_a_protocol(folders, tmp_path, capsys):
    assert run(["evaluate", "--protocol", "n2n", "--speech", str(folders / "speech")]) == 1
    assert "--protocol with --speech DIR and --noise DIR" in capsys.readouterr().err
    assert run(["evaluate"]) == 1
    assert run(["evaluate", "--protocol", "n3n"]) == 2
    out = tmp_path / "table.json"
    arguments = ["evaluate", "--protocol", "n2n", "--limit", "1", "-q", "-o", str(out)]
    assert run([*arguments, "--speech", str(folders / "speech"), "--noise", str(folders / "noise")]) == 0
    found = json.loads(out.read_text())
    assert found["published"]["white"]["published: noise2noise"]["snr"] == 16.94
    assert set(found["groups"]) == set(ROWS)
