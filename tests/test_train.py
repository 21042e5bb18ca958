"""Training: what a run leaves behind, that it can be repeated and resumed to the bit, and how it fails."""

import dataclasses
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file
from torch import nn

from miase import Enhancer, cli, dataset, learner, train
from miase.checkpoint import load_state, sha256
from miase.config import DataConfig, ModelConfig, ObjectiveConfig, RunConfig, TrainingConfig
from miase.config_file import dump_toml, load_toml
from miase.corpus import CorpusOptions, make_corpus
from miase.errors import ConfigError, CorpusError, TrainingError, WeightsError
from miase.models import MODELS, Architecture, Layer
from miase.objectives import OBJECTIVES
from miase.train import fit
from signals import speech_like, white

RATE = 8000
TINY = RunConfig(
    ModelConfig("dcunet10", sample_rate=RATE, n_fft=64, hop_length=32, n_blocks=1, window_frames=32),
    DataConfig(excerpt_seconds=0.2, batch_size=2, workers=0),
    ObjectiveConfig(noise=("white", "residual"), warmup_steps=2),
    TrainingConfig(max_steps=7, lr=1e-3, threads=1, device="cpu"),
)


# Ten layers as in dcunet10, with few channels.
NARROW = Architecture(
    tuple(Layer(4, (3, 3), stride) for stride in ((2, 2), (2, 2), (2, 2), (2, 2), (2, 1))), None
)


def having(**changes):
    """TINY with some fields changed, wherever they are; `model` and `objective` stand for the names."""
    config = TINY
    if changes.get("objective") == "iddp_paper":
        changes = {"warmup_steps": ObjectiveConfig.warmup_steps} | changes  # it has none of its own
    for table in ("model", "data", "objective", "training"):
        part = getattr(config, table)
        fields = {f.name: f.name for f in dataclasses.fields(part)}
        if "name" in fields:
            fields[table] = fields.pop("name")
        mine = {field: changes.pop(key) for key, field in fields.items() if key in changes}
        config = dataclasses.replace(config, **{table: dataclasses.replace(part, **mine)})
    assert not changes
    return config


def make_small():
    """Shrink the network, the epochs and the validation, and leave out DNSMOS, which takes its time."""
    MODELS["dcunet10"] = NARROW
    dataset.MIN_EPOCH_STEPS = 3
    train.N_VALID = 2
    learner.rate = lambda estimate, sample_rate: {}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(MODELS, "dcunet10", NARROW)
    monkeypatch.setattr(dataset, "MIN_EPOCH_STEPS", 3)
    monkeypatch.setattr(train, "N_VALID", 2)
    monkeypatch.setattr(learner, "rate", lambda estimate, sample_rate: {})


def write(path, seconds=0.5, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, speech_like(seconds, RATE, seed) + 0.05 * white(seconds, RATE, seed), RATE)


@pytest.fixture
def noisy(tmp_path):
    for i in range(5):
        write(tmp_path / "noisy" / f"r{i}.wav", 0.4 + 0.1 * i, i)
    return tmp_path / "noisy"


def rows(run, split=None):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if split in (None, line["split"])]


def weights(run):
    return (run / "model" / "model.safetensors").read_bytes()


def child_environment():
    """Of a process of its own that finds this file."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def stop_after(monkeypatch, step, number=signal.SIGINT):
    """Send this process a signal at the end of a step, as Ctrl-C does."""
    real = learner.Learner.step

    def step_and_stop(self, batch):
        values = real(self, batch)
        if self.progress.step == step:
            os.kill(os.getpid(), number)
        return values

    monkeypatch.setattr(learner.Learner, "step", step_and_stop)


def test_a_run_leaves_what_it_should(noisy, tmp_path):
    run, config = tmp_path / "run", having(valid_steps=3)
    result = fit(noisy, run, config, quiet=True)
    assert (result.step, result.finished, result.failures) == (7, True, ())
    assert {path.name for path in run.iterdir()} - {"tensorboard"} == {
        "config.toml",
        "checkpoints",
        "metrics.jsonl",
        "model",
    }
    assert load_toml(run / "config.toml") == config
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == [
        "step-00000006.pt",
        "step-00000007.pt",
    ]
    model = {path.name for path in (run / "model").iterdir()}
    assert model == {"config.json", "model.safetensors", "README.md"}
    assert [row["step"] for row in rows(run, "train")] == list(range(1, 8))
    assert [row["step"] for row in rows(run, "valid")] == [3, 6, 7]
    assert all(np.isfinite([v for v in row.values() if not isinstance(v, str)]).all() for row in rows(run))
    assert {"loss", "wsdr", "time", "spectrum", "lr", "grad_norm"} <= rows(run, "train")[-1].keys()
    assert {"loss", "energy_db", "removed_db"} <= rows(run, "valid")[0].keys()


def test_the_card_says_what_the_model_is(noisy, tmp_path):
    run = tmp_path / "run"
    fit(noisy, run, TINY, quiet=True)
    card = " ".join((run / "model" / "README.md").read_text().split())
    for said in ("dcunet10", "`iddp`", "8000 Hz", "5 noisy recordings", "7 steps", "white, residual"):
        assert said in card
    assert sha256(run / "model" / "model.safetensors") in card
    assert "Clean speech used**: none" in card


def test_the_model_enhances(noisy, tmp_path):
    fit(noisy, tmp_path / "run", TINY, quiet=True)
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        estimate = Enhancer.from_pretrained(folder, "cpu").enhance(np.ones(100, np.float32), 44100)
        assert estimate.shape == (100,)


def test_the_average_is_kept_and_the_weights_moved(noisy, tmp_path):
    run = tmp_path / "run"
    fit(noisy, run, TINY, quiet=True)
    kept = load_file(run / "model" / "model.safetensors")
    state = load_state(run / "checkpoints" / "step-00000007.pt")
    assert kept.keys() == state["average"].keys()
    assert all(torch.equal(kept[name], state["average"][name]) for name in kept)
    assert any(not torch.equal(kept[name], state["model"][name]) for name in kept)


def test_the_average_follows_its_rule(noisy, tmp_path):
    """With a decay of zero the average is the network itself."""
    run = tmp_path / "run"
    fit(noisy, run, having(average_decay=0.0), quiet=True)
    state = load_state(run / "checkpoints/step-00000007.pt")
    for name, value in state["model"].items():
        torch.testing.assert_close(state["average"][name], value)


def test_a_seed_gives_the_same_weights_and_another_gives_others(noisy, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(noisy, tmp_path / name, having(seed=seed), quiet=True)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_readers_change_nothing(noisy, tmp_path):
    for workers in (0, 2):
        fit(noisy, tmp_path / str(workers), having(workers=workers), quiet=True)
    assert weights(tmp_path / "0") == weights(tmp_path / "2")


@pytest.mark.parametrize(
    ("prior", "stop", "number"),
    [
        ("current", 2, signal.SIGINT),
        ("current", 3, signal.SIGTERM),
        ("average", 3, signal.SIGINT),
        ("average", 5, signal.SIGINT),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(noisy, tmp_path, monkeypatch, prior, stop, number):
    config = having(prior=prior)
    fit(noisy, tmp_path / "whole", config, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, stop, number)
        result = fit(noisy, tmp_path / "parts", config, quiet=True)
    assert (result.step, result.finished) == (stop, False)
    assert Enhancer.from_pretrained(tmp_path / "parts", "cpu").sample_rate == RATE
    assert fit(noisy, tmp_path / "parts", config, resume=True, quiet=True).finished
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    marks = [(row["step"], row["split"]) for row in rows(tmp_path / "parts")]
    assert len(set(marks)) == len(marks)
    # The loss of each step, too, is that of the whole run; the validations that the stop adds are others.
    for one, other in zip(rows(tmp_path / "whole", "train"), rows(tmp_path / "parts", "train"), strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}


def test_a_run_killed_ten_times_goes_on_to_the_same_bits(noisy, tmp_path):
    """At moments that chance picks, each within the steps that the last checkpoint left to be done."""
    config = having(max_steps=150, checkpoint_minutes=0.001, workers=1, valid_steps=10)
    (tmp_path / "config.toml").write_text(dump_toml(config), encoding="utf-8")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    arguments = ["train", str(noisy), "-o", str(killed), "-q"]
    code = "import sys, test_train; test_train.make_small(); from miase.cli import main; main(sys.argv[1:])"
    metrics, moments = killed / "metrics.jsonl", random.Random()
    for _ in range(10):
        start = len(metrics.read_text().splitlines()) if metrics.exists() else 0
        how = ["--resume"] if start else ["--config", str(tmp_path / "config.toml")]
        with subprocess.Popen(
            [sys.executable, "-c", code, *arguments, *how], env=child_environment()
        ) as process:
            goal = start + moments.randrange(2, 14)
            while process.poll() is None and (not metrics.exists() or metrics.read_text().count("\n") < goal):
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.05))
            process.kill()
    done = rows(killed, "train")[-1]["step"]
    assert done < 150, "the run ended before it was killed ten times"
    assert not (killed / "model").exists()
    with metrics.open("a") as file:
        file.write('{"step": 4, "spl')  # what a full disk or a loss of power may leave
    assert cli.run([*arguments, "--resume"]) == 0
    fit(noisy, whole, config, quiet=True)
    assert weights(killed) == weights(whole), f"last killed after step {done}"
    assert [row["step"] for row in rows(killed, "train")] == list(range(1, 151))


def test_resuming_a_run_that_is_over_changes_nothing(noisy, tmp_path):
    fit(noisy, tmp_path / "run", TINY, quiet=True)
    before = weights(tmp_path / "run"), (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert fit(noisy, tmp_path / "run", TINY, resume=True, quiet=True).step == 7
    assert (weights(tmp_path / "run"), (tmp_path / "run" / "metrics.jsonl").read_bytes()) == before


def test_a_resumed_run_may_be_made_longer(noisy, tmp_path):
    fit(noisy, tmp_path / "run", TINY, quiet=True)
    assert fit(noisy, tmp_path / "run", having(max_steps=9), resume=True, quiet=True).step == 9


def test_minutes_end_a_run_too(noisy, tmp_path):
    result = fit(noisy, tmp_path / "run", having(max_steps=0, max_minutes=0.005), quiet=True)
    assert result.finished
    assert result.step > 0
    assert rows(tmp_path / "run", "train")[-1]["seconds"] >= 0.3


def test_the_learning_rate_rises_stays_and_falls(noisy, tmp_path):
    fit(noisy, tmp_path / "run", having(max_steps=30, lr_decay=0.2), quiet=True)
    lr = [row["lr"] for row in rows(tmp_path / "run", "train")]
    assert np.all(np.diff(lr[:20]) > 0)
    assert max(lr) == pytest.approx(1e-3)
    assert np.all(np.diff(lr[-6:]) < 0)
    assert lr[-1] < 0.2e-3


@pytest.mark.parametrize("objective", ["iddp", "noisy_target"])
def test_the_loss_falls(noisy, tmp_path, objective):
    config = having(objective=objective, noise=("white",), max_steps=40, lr=3e-3)
    fit(noisy, tmp_path / "run", config, quiet=True)
    losses = [row["loss"] for row in rows(tmp_path / "run", "train")]
    assert np.mean(losses[-5:]) < np.mean(losses[2:7])


def test_one_recording_is_enough(tmp_path):
    write(tmp_path / "noisy" / "one.wav", 1.0)
    assert fit(tmp_path / "noisy", tmp_path / "run", TINY, quiet=True).finished
    assert rows(tmp_path / "run", "valid")


def test_fewer_recordings_than_the_batch_are_enough(noisy, tmp_path):
    assert fit(noisy, tmp_path / "run", having(batch_size=9, max_steps=2), quiet=True).finished


def test_recordings_shorter_than_the_excerpt_are_enough(tmp_path):
    for i in range(3):
        write(tmp_path / "noisy" / f"{i}.wav", 0.05, i)
    assert fit(tmp_path / "noisy", tmp_path / "run", having(max_steps=2), quiet=True).finished


def test_the_residual_alone_teaches_from_the_first_step(noisy, tmp_path):
    """A warm-up whose first pass removes nothing would teach to do nothing; that of a filter removes."""
    alone = {"noise": ("residual",), "warmup_steps": 5, "target_share": 0.0}
    none = having(**alone | {"warmup_steps": 0})
    fit(noisy, tmp_path / "none", none, quiet=True)
    fit(noisy, tmp_path / "run", having(**alone, warmup="recorrupted"), quiet=True)
    assert weights(tmp_path / "run") == weights(tmp_path / "none")
    fit(noisy, tmp_path / "filter", having(**alone), quiet=True)
    assert weights(tmp_path / "filter") != weights(tmp_path / "none")


# Bad recordings


def test_bad_recordings_are_named_and_the_run_goes_on(noisy, tmp_path):
    (noisy / "text.wav").write_text("no sound")
    sf.write(noisy / "nan.wav", np.full(8000, np.nan), RATE, subtype="FLOAT")
    for share in (0.01, 0.6):  # in the part for training, and in that for validation
        result = fit(noisy, tmp_path / str(share), having(valid_share=share, max_steps=9), quiet=True)
        assert result.finished
        assert [name for name in ("text.wav", "nan.wav") if name in " ".join(result.failures)] == [
            "text.wav",
            "nan.wav",
        ]


@pytest.mark.parametrize("content", ["missing", "empty", "text"])
def test_a_folder_without_recordings_is_refused(tmp_path, content):
    folder = tmp_path / "noisy"
    if content != "missing":
        folder.mkdir()
    if content == "text":
        (folder / "a.wav").write_text("no sound")
    with pytest.raises(CorpusError) as caught:
        fit(folder, tmp_path / "run", TINY, quiet=True)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


# Clean speech


@pytest.fixture
def corpus(tmp_path):
    for i in range(4):
        write(tmp_path / "speech" / f"s{i}.wav", 0.5, i)
    speech = (tmp_path / "speech",)
    output = tmp_path / "corpus"
    options = {"takes": 2, "sample_rate": RATE, "quiet": True}
    make_corpus(CorpusOptions("white", speech=speech, output=output, **options))
    return output


NOISY_ONLY = [name for name, objective in OBJECTIVES.items() if not objective.needs & {"clean", "noisy2"}]


@pytest.mark.parametrize("objective", NOISY_ONLY)
@pytest.mark.parametrize("poison", ["garbage", "gone", "not numbers"])
def test_clean_files_have_no_part_in_training_on_noisy_ones(corpus, tmp_path, objective, poison):
    config = having(objective=objective, noise=("white", "pauses", "residual"), max_steps=4)
    fit(corpus, tmp_path / "with", config, quiet=True)
    for path in [*(corpus / "clean").rglob("*.flac"), *(corpus / "noisy2").rglob("*.flac")]:
        if poison == "not numbers":
            sf.write(path, np.full(4000, np.nan), RATE, format="WAV", subtype="FLOAT")
        else:
            path.write_text("not for you")
    if poison == "gone":
        shutil.rmtree(corpus / "clean")
    result = fit(corpus, tmp_path / "without", config, quiet=True)
    assert result.failures == ()
    assert weights(tmp_path / "with") == weights(tmp_path / "without")


@pytest.mark.parametrize(("objective", "folder"), [("noise2clean", "clean"), ("noise2noise", "noisy2")])
def test_what_an_objective_learns_from_is_read(corpus, tmp_path, objective, folder):
    config = having(objective=objective)
    assert fit(corpus, tmp_path / "run", config, quiet=True).finished
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"Clean speech used**: {'yes' if folder == 'clean' else 'none'}" in card
    for path in (corpus / folder).rglob("*.flac"):
        path.write_text("not for you")
    with pytest.raises(CorpusError):
        fit(corpus, tmp_path / "other", config, quiet=True)


@pytest.mark.parametrize(
    ("objective", "said"), [("noise2clean", "clean files"), ("noise2noise", "second take")]
)
def test_a_folder_that_cannot_serve_is_refused_and_others_named(noisy, tmp_path, objective, said):
    with pytest.raises(CorpusError) as caught:
        fit(noisy, tmp_path / "run", having(objective=objective), quiet=True)
    message = str(caught.value)
    assert said in message or "manifest.jsonl" in message
    others = "noisy_target, wiener_target, recorrupted, only_noisy, iddp, iddp_paper, remixit"
    assert message.endswith(others)
    assert "\n" not in message
    assert not (tmp_path / "run").exists()


def test_a_corpus_with_one_take_serves_supervised_training_alone(corpus, tmp_path):
    lines = [line for line in (corpus / "manifest.jsonl").read_text().splitlines() if '"take": 1' in line]
    (corpus / "manifest.jsonl").write_text("\n".join(lines))
    with pytest.raises(CorpusError, match=r"--takes 2.*does without: noise2clean, noisy_target"):
        fit(corpus, tmp_path / "run", having(objective="noise2noise"), quiet=True)


# Steps, validations, and what is kept


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_repeats_to_the_bit(corpus, tmp_path, objective):
    config = having(objective=objective, max_steps=100)
    for name in "ab":
        fit(corpus, tmp_path / name, config, quiet=True)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize("network", ["dcunet10_rtstm", "dcunet10_ctstm", "dcunet10_ctstm_fine", "dcunet20"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_network_trains_with_every_objective(corpus, tmp_path, network, objective):
    result = fit(
        corpus, tmp_path / "run", having(model=network, objective=objective, max_steps=1), quiet=True
    )
    assert result.finished


def test_the_last_validation_as_good_as_the_best_is_kept(noisy, tmp_path, monkeypatch):
    """Of qualities 1, 3, 2.95, 2 at steps 2, 4, 6, 8 the average of step 6 is what the run leaves."""
    found = iter([1.0, 3.0, 2.95, 2.0, 0.0])
    monkeypatch.setattr("miase.learner.quality", lambda values: next(found))
    config = having(valid_steps=2, max_steps=9)
    fit(noisy, tmp_path / "run", config, quiet=True)
    state = load_state(tmp_path / "run" / "checkpoints" / "step-00000009.pt")
    kept = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert state["progress"]["best_step"] == 6
    assert state["progress"]["best_quality"] == 3.0
    assert state["progress"]["stale"] == 3
    assert all(torch.equal(kept[name], state["best"][name]) for name in kept)
    assert any(not torch.equal(kept[name], state["average"][name]) for name in kept)


def test_a_run_without_a_better_validation_ends_early(noisy, tmp_path, monkeypatch):
    found = iter([2.0, 1.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr("miase.learner.quality", lambda values: next(found))
    result = fit(noisy, tmp_path / "run", having(valid_steps=2, patience=3, max_steps=50), quiet=True)
    assert (result.step, result.finished) == (8, True)


def test_accumulated_batches_make_the_step_of_one_large_batch(noisy, tmp_path, monkeypatch):
    """Without batch norms, whose statistics are those of the smaller batch."""
    monkeypatch.setattr(
        nn.functional, "batch_norm", lambda x, mean, var, weight, *rest: x * weight[:, None, None]
    )
    config = {"noise": ("white",), "max_steps": 3, "average_decay": 0.0, "valid_share": 0.0}
    fit(noisy, tmp_path / "whole", having(batch_size=4, **config), quiet=True)
    fit(noisy, tmp_path / "parts", having(batch_size=2, accumulate=2, **config), quiet=True)
    for one, other in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_two_processes_make_the_steps_of_one_with_the_doubled_batch(noisy, tmp_path):
    """Over gloo; norms, draws and gradients are those of the whole batch."""
    # A low rate: Adam turns the rounding of gradients that should be zero into whole steps.
    both = having(noise=("white",), batch_size=2, max_steps=6, valid_share=0.3, valid_steps=3, lr=1e-4)
    path = tmp_path / "config.toml"
    path.write_text(dump_toml(both), encoding="utf-8")
    code = tmp_path / "one.py"
    code.write_text(
        "import sys, test_train; test_train.make_small(); from miase.cli import main; main(sys.argv[1:])"
    )
    arguments = ["train", str(noisy), "-o", str(tmp_path / "two"), "--config", str(path), "-q"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, code, *arguments], env=child_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    one = dataclasses.replace(both, data=dataclasses.replace(both.data, batch_size=4))
    fit(noisy, tmp_path / "one", one, quiet=True)
    for one, other in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
    ours, theirs = (load_file(tmp_path / n / "model" / "model.safetensors") for n in ("one", "two"))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-4, rtol=1e-3)


# Refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "remixing"}, "unknown objective 'remixing'.*iddp"),
        ({"max_steps": 0}, "--max-steps or --max-minutes"),
        ({"objective": "noisy_target", "noise": ("residual",)}, "has no residual"),
        ({"device": "cuda:99"}, "device 'cuda:99'.*not to be had"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"device": "cpu:x"}, "device 'cpu:x'"),
        ({"precision": "7-bit"}, "precision '7-bit'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(noisy, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said) as caught:
        fit(noisy, tmp_path / "run", having(**changes), quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_unknown_network_is_refused(noisy, tmp_path):
    with pytest.raises(ConfigError, match="unknown network 'dcunet99'"):
        fit(noisy, tmp_path / "run", having(model="dcunet99"), quiet=True)


def test_a_noise_source_that_is_not_there_is_refused(noisy, tmp_path):
    with pytest.raises(CorpusError, match="'nowhere' is not there"):
        fit(noisy, tmp_path / "run", having(noise=("nowhere",)), quiet=True)


def test_a_folder_with_a_run_is_not_used_again(noisy, tmp_path):
    fit(noisy, tmp_path / "run", TINY, quiet=True)
    before = weights(tmp_path / "run")
    with pytest.raises(TrainingError, match="holds a run already; add --resume"):
        fit(noisy, tmp_path / "run", having(seed=5), quiet=True)
    assert weights(tmp_path / "run") == before


def test_a_run_does_not_go_on_with_other_recordings(noisy, tmp_path):
    fit(noisy, tmp_path / "run", TINY, quiet=True)
    write(noisy / "new.wav")
    with pytest.raises(TrainingError, match="recordings are not those"):
        fit(noisy, tmp_path / "run", TINY, resume=True, quiet=True)


def test_a_run_does_not_go_on_as_another_network(noisy, tmp_path):
    fit(noisy, tmp_path / "run", TINY, quiet=True)
    with pytest.raises(WeightsError, match="does not fit") as caught:
        fit(noisy, tmp_path / "run", having(model="dcunet10_ctstm"), resume=True, quiet=True)
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(noisy, tmp_path):
    run = tmp_path / "run"
    fit(noisy, run, TINY, quiet=True)
    before, last = weights(run), run / "checkpoints" / "step-00000007.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"step-00000007\.pt is damaged; delete it"):
        fit(noisy, run, TINY, resume=True, quiet=True)
    last.unlink()
    fit(noisy, run, TINY, resume=True, quiet=True)
    assert weights(run) == before


def test_a_run_that_diverges_stops(noisy, tmp_path):
    with pytest.raises(TrainingError, match="the loss is nan") as caught:
        fit(noisy, tmp_path / "run", having(lr=1e30, max_steps=50), quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "model").exists()


def test_a_model_that_falls_silent_stops_the_run(noisy, tmp_path, monkeypatch):
    def build_silent(config):
        model = real(config)
        for parameter in model.mask_out.parameters():
            nn.init.zeros_(parameter)
        return model

    real = train.build_model
    monkeypatch.setattr(train, "build_model", build_silent)
    with pytest.raises(TrainingError, match="collapsed"):
        fit(noisy, tmp_path / "run", having(lr=1e-12), quiet=True)


FAULTS = """
import resource, sys, torch
from miase.parallel import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
for _ in range(12):  # what comes between may need a second place or a third
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16_000_000)  # 64 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_kept_memory_is_not_fetched_again():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True).stdout)
        for how in ("kept", "given back")
    }
    assert faults["kept"] * 10 < faults["given back"]
