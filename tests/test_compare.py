"""Comparisons: the plan, what is run again and what not, and the table."""

import csv
import json
import math
from dataclasses import replace

import pytest
import soundfile as sf

from miase import cli, compare, learner, train
from miase.compare import compare as run_plan
from miase.comparison import rows_of
from miase.corpus import CorpusOptions, make_corpus
from miase.errors import ConfigError, TrainingError
from miase.models import MODELS
from miase.plan import Cell, Outcome, cells_of, config_of, load_plan
from signals import speech_like
from test_train import NARROW, RATE

PLAN = """
objectives = ["noise2clean", "iddp", "iddp_paper"]
networks = ["dcunet10"]
seeds = [0, 1]
metrics = ["si_sdr"]

[corpora.white]
noisy = "white"
test = "white"
noise = ["white"]

[model]
sample_rate = 8000
n_fft = 64
hop_length = 32

[data]
excerpt_seconds = 0.2
batch_size = 2
workers = 0

[objective]
warmup_steps = 1

[training]
max_steps = 2
threads = 1
device = "cpu"
"""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(MODELS, "dcunet10", NARROW)
    monkeypatch.setattr(train, "N_VALID", 4)
    monkeypatch.setattr(learner, "rate", lambda estimate, sample_rate: {})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for i in range(4):
        path = tmp_path / "speech" / f"s{i}.wav"
        path.parent.mkdir(exist_ok=True)
        sf.write(path, speech_like(0.5, RATE, i), RATE)
    output = tmp_path / "white"
    speech = (tmp_path / "speech",)
    make_corpus(CorpusOptions("white", speech=speech, output=output, sample_rate=RATE, quiet=True))
    (tmp_path / "plan.toml").write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan_of(folder, old="", new=""):
    path = folder / "plan.toml"
    path.write_text(PLAN.replace(old, new), encoding="utf-8")
    return load_plan(path)


def test_a_plan_gives_every_run_its_settings(folder):
    plan = plan_of(folder)
    assert len(cells_of(plan)) == 6
    config = config_of(plan, Cell("white", "dcunet10", "iddp_paper", 1))
    assert (config.model.sample_rate, config.training.seed, config.training.max_steps) == (8000, 1, 2)
    assert (config.objective.name, config.objective.noise) == ("iddp_paper", ("white",))
    # What the others share yields to what this objective fixes.
    assert config.objective.warmup_steps == 0
    assert config_of(plan, Cell("white", "dcunet10", "iddp", 0)).objective.warmup_steps == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds", "sedes", "unknown key 'sedes'.*did you mean 'seeds'"),
        ('noisy = "white"', 'noysi = "white"', "unknown key 'noysi'.*did you mean 'noisy'"),
        ('test = "white"', "", "test is missing in \\[corpora.white\\]"),
        ('["si_sdr"]', '["sdr"]', "no metric 'sdr'"),
        ('"iddp"', '"idpd"', "unknown objective 'idpd'"),
        ('["dcunet10"]', "[]", "networks is empty"),
        ("[0, 1]", "0", "seeds.*must be a list"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(folder, old, new, said):
    with pytest.raises(ConfigError, match=said) as caught:
        run_plan(plan_of(folder, old, new), folder / "out", quiet=True)
    assert "\n" not in str(caught.value)
    assert not (folder / "out").exists()


def test_the_command_writes_the_tables(folder, capsys):
    assert cli.run(["compare", "plan.toml", "-o", "out", "-q"]) == 0
    assert {path.name for path in (folder / "out").iterdir()} == {
        "white",
        "table.md",
        "table.csv",
        "table.json",
    }
    with (folder / "out" / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["objective"] for row in rows] == ["noisy", "noise2clean", "iddp", "iddp_paper"]
    assert [row["seeds"] for row in rows] == ["0", "2", "2", "2"]
    values = json.loads((folder / "out" / "table.json").read_text())
    runs = [run for run in values["runs"] if run["cell"]["objective"] == "iddp"]
    found = [run["values"]["estimate"]["si_sdr"] for run in runs]
    assert found[0] != found[1]
    assert float(rows[2]["si_sdr_mean"]) == pytest.approx(sum(found) / 2)
    assert float(rows[2]["si_sdr_std"]) == pytest.approx(abs(found[0] - found[1]) / math.sqrt(2))
    assert len(values["settings"]) == 6
    assert "| white" in (folder / "out" / "table.md").read_text()
    assert capsys.readouterr().out == ""


def test_what_is_done_is_not_done_again(folder, monkeypatch):
    plan = plan_of(folder)
    first = run_plan(plan, folder / "out", quiet=True)
    tables = [(folder / "out" / f"table.{kind}").read_bytes() for kind in ("md", "csv", "json")]
    monkeypatch.setattr(compare, "fit", lambda *args, **kwargs: pytest.fail("trained again"))
    assert run_plan(plan, folder / "out", quiet=True) == first
    assert [(folder / "out" / f"table.{kind}").read_bytes() for kind in ("md", "csv", "json")] == tables


def test_another_plan_does_not_take_the_runs_of_this_one(folder):
    plan = replace(plan_of(folder), objectives=("iddp",), seeds=(0,))
    run_plan(plan, folder / "out", quiet=True)
    other = replace(plan, training=replace(plan.training, lr=1e-5))
    (outcome,) = run_plan(other, folder / "out", quiet=True)
    assert "run with other settings" in outcome.error


def test_a_run_that_fails_does_not_stop_the_others(folder, monkeypatch):
    def fail_once(noisy_dir, out, config, **options):
        if config.objective.name == "iddp":
            raise TrainingError("it collapsed")
        return fit(noisy_dir, out, config, **options)

    fit = compare.fit
    monkeypatch.setattr(compare, "fit", fail_once)
    plan = replace(plan_of(folder), seeds=(0,))
    outcomes = run_plan(plan, folder / "out", quiet=True)
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
    assert "it collapsed" in (folder / "out" / "table.md").read_text()
    monkeypatch.setattr(compare, "fit", fit)
    assert not any(outcome.error for outcome in run_plan(plan, folder / "out", quiet=True))


def test_processes_change_nothing(folder, monkeypatch):
    """Their networks are whole ones, for a new process knows nothing of what is shrunk here."""
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    plan = replace(plan_of(folder), objectives=("iddp",))
    found = [run_plan(plan, folder / f"out{jobs}", jobs, quiet=True) for jobs in (1, 2)]
    assert [outcome.values for outcome in found[0]] == [outcome.values for outcome in found[1]]


def test_shares_are_of_the_supervised_gain(folder):
    plan = replace(plan_of(folder), seeds=(0,), objectives=("noise2clean", "iddp"))
    values = {"noise2clean": 9.0, "iddp": 8.0}
    outcomes = [
        Outcome(cell, {"noisy": {"si_sdr": 5.0}, "estimate": {"si_sdr": values[cell.objective]}}, 1, 1.0, 3)
        for cell in cells_of(plan)
    ]
    shares = {row.system: row.share for row in rows_of(plan, outcomes)}
    assert shares["noise2clean"] == 1.0
    assert shares["iddp"] == pytest.approx(0.75)
    assert math.isnan(shares["noisy"])
