"""The command line's contract: flags, what is printed where, and exit codes."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
import torch

import miase
from miase import cli, dataset, registry, train
from miase.checkpoint import save_pretrained
from miase.config import ModelConfig
from miase.learner import Learner
from miase.manifest import read_manifest
from miase.models import MODELS, Architecture, Layer, build_model
from signals import speech_like

RATE = 8000
SMALL = {"sample_rate": RATE, "n_fft": 64, "hop_length": 32, "n_blocks": 1, "window_frames": 32}
NARROW = Architecture(
    tuple(Layer(4, (3, 3), stride) for stride in ((2, 2), (2, 2), (2, 2), (2, 2), (2, 1))), None
)
SMALL_FLAGS = ["--model", "dcunet10", "--sample-rate", "8000", "--n-fft", "64", "--hop-length", "32"]
QUICK_FLAGS = ["--excerpt-seconds", "0.2", "--batch-size", "2", "--workers", "0", "--threads", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save_pretrained(build_model(ModelConfig("dcunet10", **SMALL)), folder, card="# A card\n")
    return folder


@pytest.fixture
def miase_run(capsys):
    """Run the command in this process; gives exit code, standard output and standard error."""

    def run(*arguments):
        code = cli.run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def enhance(miase_run, model):
    return lambda *arguments: miase_run("enhance", "-m", model, "--device", "cpu", *arguments)


def write(path, seconds=0.2, seed=0, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.3 * speech_like(seconds, RATE, seed), RATE, **how)
    return path


def one_line(text):
    """The single line of an error message, without its prefix."""
    assert text.count("\n") == 1, text
    assert text.startswith("miase: ")
    return text.removeprefix("miase: ").rstrip()


# enhance


def test_enhance_writes_beside_the_input(enhance, tmp_path):
    code, out, _ = enhance(write(tmp_path / "a.wav"))
    assert (code, out) == (0, "1 enhanced, 0 failed\n")
    assert sf.info(tmp_path / "a_enhanced.wav").frames == 1600


def test_enhance_keeps_the_tree_and_takes_a_format(enhance, tmp_path):
    write(tmp_path / "in" / "x" / "a.wav")
    write(tmp_path / "in" / "b.aiff")
    code, _, _ = enhance(tmp_path / "in", "-o", tmp_path / "out", "--format", "flac")
    assert code == 0
    assert sf.info(tmp_path / "out" / "x" / "a.flac").format == "FLAC"
    assert sf.info(tmp_path / "out" / "b.flac").format == "FLAC"


def test_enhance_is_quiet_when_asked(enhance, tmp_path):
    assert enhance(write(tmp_path / "a.wav"), "-q") == (0, "", "")
    code, out, err = enhance(tmp_path / "missing.wav", "-q")
    assert (code, out) == (1, "")
    assert "missing.wav does not exist" in one_line(err)


def test_the_settings_of_enhance_arrive(enhance, tmp_path):
    source = write(tmp_path / "a.wav", subtype="FLOAT")
    x = sf.read(source)[0]
    written = {}
    for name, flags in {
        "none": ["--strength", "0"],
        "half": ["--strength", "0.5"],
        "limited": ["--atten-lim", "6"],
        "full": [],
        "short": ["--segment", "0.1", "--overlap", "0"],
    }.items():
        assert enhance(source, "-o", tmp_path / f"{name}.wav", *flags)[0] == 0
        written[name] = sf.read(tmp_path / f"{name}.wav")[0]
    np.testing.assert_array_equal(written["none"], x)
    np.testing.assert_allclose(written["half"], (x + written["full"]) / 2, atol=1e-6)
    share = 1 - 10 ** (-6 / 20)
    np.testing.assert_allclose(written["limited"], x + share * (written["full"] - x), atol=1e-6)
    np.testing.assert_array_equal(written["short"], written["full"])  # this model needs no segments


def test_enhance_lists_failures_at_the_end_and_does_the_rest(enhance, tmp_path):
    write(tmp_path / "good.wav")
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty.wav").touch()
    inputs = [tmp_path / name for name in ("text.wav", "missing.wav", "good.wav", "empty.wav")]
    code, out, err = enhance(*inputs, "-o", tmp_path / "out", "-q")
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("miase: ") for line in lines)
    for name in ("text.wav", "missing.wav", "empty.wav"):
        assert sum(name in line for line in lines) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.wav"]


def test_the_lines_of_log_json_are_json(enhance, tmp_path):
    write(tmp_path / "good.wav")
    (tmp_path / "text.wav").write_text("no sound")
    code, out, err = enhance(tmp_path, "--log-json")
    assert code == 1
    assert "text.wav" in one_line(err)
    outcomes = {line["source"]: line for line in map(json.loads, out.splitlines())}
    assert outcomes[str(tmp_path / "good.wav")]["status"] == "done"
    assert outcomes[str(tmp_path / "good.wav")]["seconds"] == 0.2
    assert outcomes[str(tmp_path / "good.wav")]["target"] == str(tmp_path / "good_enhanced.wav")
    assert outcomes[str(tmp_path / "text.wav")]["status"] == "failed"
    assert outcomes[str(tmp_path / "text.wav")]["error"]


def test_skip_existing_and_overwrite(enhance, tmp_path):
    source = write(tmp_path / "a.wav")
    assert enhance(source)[0] == 0
    code, _, err = enhance(source, "-q")
    assert code == 1
    assert "exists already" in one_line(err)
    assert enhance(source, "--skip-existing")[:2] == (0, "0 enhanced, 1 skipped, 0 failed\n")
    assert enhance(source, "--overwrite")[:2] == (0, "1 enhanced, 0 failed\n")


def test_a_folder_without_sounds_is_named(enhance, tmp_path):
    code, _, err = enhance(tmp_path, "-q")
    assert code == 1
    assert f"no sound files in {tmp_path}" in one_line(err)


def test_clipped_samples_are_told(enhance, tmp_path):
    sf.write(tmp_path / "a.wav", 3 * speech_like(0.3, RATE), RATE, subtype="FLOAT")
    assert "clipped" in enhance(tmp_path / "a.wav", "-o", tmp_path / "b.flac")[2]


@pytest.mark.parametrize("damage", ["cut", "none", "name"])
def test_a_model_that_cannot_be_loaded_gives_one_line(miase_run, model, tmp_path, damage):
    source, name = write(tmp_path / "a.wav"), tmp_path / "model"
    shutil.copytree(model, name)
    if damage == "cut":
        path = name / "model.safetensors"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "none":
        (name / "config.json").unlink()
    else:
        name = "nonsense"
    code, out, err = miase_run("enhance", source, "-m", name, "-q")
    assert (code, out) == (1, "")
    assert one_line(err)
    assert not (tmp_path / "a_enhanced.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["enhance"], "no input"),
        (["enhance", "a.wav", "--bogus"], "--bogus"),
        (["enhance", "a.wav", "--strength", "2"], "strength is 2.0"),
        (["enhance", "a.wav", "--strength", "much"], "--strength"),
        (["enhance", "a.wav", "--atten-lim", "-1"], "atten_lim"),
        (["enhance", "a.wav", "--high-band", "loud"], "--high-band"),
        (["enhance", "a.wav", "--segment", "0"], "segment"),
        (["enhance", "a.wav", "--format", "m4a"], "--format"),
        (["enhance", "a.wav", "--jobs", "0"], "jobs is 0"),
        (["enhance", "a.wav", "--overwrite", "--skip-existing"], "exclude each other"),
        (["enhance", __file__, "-m", "MODEL", "--device", "cuda:77"], "device 'cuda:77'"),
        (["train"], "give one with -o"),
        (["train", "-o", "run", "--max-steps", "1"], "nothing to learn from"),
        (
            [*["train", "noisy", "-o", "run", "--max-steps", "1", "--speech", "s", "--mix-noise", "n"]],
            "give one of the two",
        ),
        (["train", "noisy"], "give one with -o"),
        (["train", "noisy", "-o", "run"], "--max-steps"),
        (["train", "noisy", "-o", "run", "--objective", "x", "--max-steps", "1"], "unknown objective 'x'"),
        (["train", "noisy", "-o", "run", "--config", "no.toml", "--max-steps", "1"], "no.toml"),
        (["corpus", "white", "-o", "out"], "--speech"),
        (["corpus", "whit", "--speech", "s", "-o", "out"], "whit"),
        (["corpus", "white", "--speech", "s", "-o", "out", "--snr", "9", "1"], "snr"),
        (["corpus", "mix", "--speech", "s", "-o", "out"], "noise"),
        (["models", "info"], "name"),
        (["models", "x"], "x"),
        (["dance"], "dance"),
    ],
)
def test_a_command_that_is_not_understood_gives_2_and_one_line(
    miase_run, model, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    code, out, err = miase_run(*[model if argument == "MODEL" else argument for argument in arguments])
    assert (code, out) == (2, "")
    assert said.lower() in one_line(err).lower()
    assert list(tmp_path.iterdir()) == []


# train and corpus


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setitem(MODELS, "dcunet10", NARROW)
    monkeypatch.setattr(dataset, "MIN_EPOCH_STEPS", 3)
    monkeypatch.setattr(train, "N_VALID", 2)


@pytest.fixture
def corpus(miase_run, tmp_path):
    for i in range(4):
        write(tmp_path / "speech" / f"s{i}.wav", 0.5, i)
    output = tmp_path / "corpus"
    flags = ["--snr", "0", "10", "--sample-rate", str(RATE), "--seed", "3", "-q"]
    assert miase_run("corpus", "white", "--speech", tmp_path / "speech", "-o", output, *flags) == (0, "", "")
    return output


def test_corpus_writes_noisy_clean_and_manifest(corpus):
    items = read_manifest(corpus)
    assert len(items) == 4
    for item in items:
        noisy, clean = (sf.read(corpus / path)[0] for path in (item.noisy, item.clean))
        snr = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
        assert snr == pytest.approx(item.snr_db, abs=0.1)
        assert 0 <= item.snr_db <= 10


def test_corpus_says_what_it_did_and_what_it_left_out(miase_run, tmp_path):
    write(tmp_path / "speech" / "good.wav")
    (tmp_path / "speech" / "text.wav").write_text("no sound")
    code, out, err = miase_run("corpus", "white", "--speech", tmp_path / "speech", "-o", tmp_path / "out")
    assert code == 1
    assert out.startswith("1 noisy files, ")
    assert sum("text.wav" in line for line in err.splitlines() if line.startswith("miase: ")) == 1


def test_from_a_corpus_to_an_enhanced_file(miase_run, corpus, tmp_path, narrow):
    run = tmp_path / "run"
    flags = [*SMALL_FLAGS, *QUICK_FLAGS, "--noise", "white", "--max-steps", "4", "--device", "cpu"]
    assert miase_run("train", corpus, "-o", run, *flags, "-q") == (0, "", "")
    assert {"config.toml", "checkpoints", "metrics.jsonl", "model"} <= {path.name for path in run.iterdir()}
    code, out, _ = miase_run("enhance", corpus / "noisy", "-o", tmp_path / "out", "-m", run)
    assert (code, out) == (0, "4 enhanced, 0 failed\n")
    # The folder is taken, unless it is to be gone on with, and then it has its settings.
    code, _, err = miase_run("train", corpus, "-o", run, *flags, "-q")
    assert code == 1
    assert "--resume" in one_line(err)
    assert miase_run("train", corpus, "-o", run, "--resume", "--max-steps", "6", "-q") == (0, "", "")
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 6


def test_train_says_what_comes_next_and_what_was_left_out(miase_run, corpus, tmp_path, narrow):
    for path in list((corpus / "noisy").rglob("*.flac"))[:1]:
        path.write_text("no sound")
    flags = [*SMALL_FLAGS, *QUICK_FLAGS, "--noise", "white", "--max-steps", "2", "--device", "cpu"]
    code, out, err = miase_run("train", corpus, "-o", tmp_path / "run", *flags)
    assert code == 0
    assert f"miase enhance FILE -m {tmp_path / 'run' / 'model'}" in out
    assert sum("left out" in line for line in err.splitlines()) == 1


def test_an_interrupted_training_gives_130_and_says_how_to_go_on(
    miase_run, corpus, tmp_path, narrow, monkeypatch
):
    real = Learner.step

    def step_and_stop(self, batch):
        values = real(self, batch)
        os.kill(os.getpid(), 2)
        return values

    monkeypatch.setattr(Learner, "step", step_and_stop)
    flags = [*SMALL_FLAGS, *QUICK_FLAGS, "--noise", "white", "--max-steps", "9", "--device", "cpu"]
    code, _, err = miase_run("train", corpus, "-o", tmp_path / "run", *flags, "-q")
    assert code == 130
    assert f"miase train {corpus} -o {tmp_path / 'run'} --resume" in one_line(err)


def test_training_can_mix_speech_and_noise(miase_run, tmp_path, narrow):
    for i in range(4):
        write(tmp_path / "speech" / f"s{i}.wav", 0.5, i)
        write(tmp_path / "noise" / f"n{i}.wav", 0.3, 10 + i)
    (tmp_path / "noise" / "text.wav").write_text("no sound")
    run = tmp_path / "run"
    flags = [*SMALL_FLAGS, *QUICK_FLAGS, "--objective", "noise2clean", "--max-steps", "3", "--device", "cpu"]
    sources = ["--speech", tmp_path / "speech", "--mix-noise", tmp_path / "noise"]
    damage = ["--codec-share", "1", "--codecs", "mulaw", "--level-db", "-6", "6"]
    code, out, err = miase_run("train", *sources, *damage, "-o", run, *flags)
    assert code == 0
    assert out.startswith("3 steps done")
    assert "text.wav" in one_line("".join(line for line in err.splitlines(True) if "left out" in line))
    card = " ".join((run / "model" / "README.md").read_text().split())
    assert "4 recordings of speech" in card
    assert "4 recordings of noise" in card
    assert "Clean speech used**: yes" in card
    # A resumed run takes its folders from its config.toml, and goes on with those files alone.
    assert miase_run("train", "-o", run, "--resume", "--max-steps", "5", "-q")[:2] == (0, "")
    write(tmp_path / "noise" / "more.wav", 0.3, 20)
    code, _, err = miase_run("train", "-o", run, "--resume", "--max-steps", "6", "-q")
    assert code == 1
    assert "not those the run began with" in one_line(err)


@pytest.mark.parametrize(
    ("folder", "out", "said"),
    [("missing", "run", "missing"), ("empty", "run", "no sound"), ("noisy", "file/run", "file")],
)
def test_a_training_that_cannot_start_gives_one_line(miase_run, tmp_path, narrow, folder, out, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    write(tmp_path / "noisy" / "a.wav")
    flags = [*SMALL_FLAGS, *QUICK_FLAGS, "--noise", "white", "--max-steps", "2", "--device", "cpu", "-q"]
    code, stdout, err = miase_run("train", tmp_path / folder, "-o", tmp_path / out, *flags)
    assert (code, stdout) == (1, "")
    assert said in one_line(err)
    assert (tmp_path / "file").read_text() == "mine"


# models, doctor, version, help


@pytest.fixture
def packaged(monkeypatch, model, tmp_path):
    for name in ("default", "other"):
        shutil.copytree(model, tmp_path / "weights" / name)
    monkeypatch.setattr(registry, "_WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


def test_models_are_listed_shown_and_verified(miase_run, packaged, model):
    code, out, _ = miase_run("models", "list")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["default", "dcunet10", "8000", "Hz"],
        ["other", "dcunet10", "8000", "Hz"],
    ]
    assert miase_run("models", "info", "other")[:2] == (0, "# A card\n\n")
    assert miase_run("models", "info", model)[0] == 0
    code, out, _ = miase_run("models", "verify")
    assert (code, out.split()) == (0, ["ok", "default", "ok", "other"])


def test_damaged_models_are_found_and_the_others_still_listed(miase_run, packaged):
    path = packaged / "default" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    code, out, _ = miase_run("models", "verify")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["FAIL", "ok"]
    (packaged / "default" / "config.json").write_text("{")
    code, out, err = miase_run("models", "list")
    assert code == 1
    assert "other" in out
    assert "is damaged" in one_line(err)


def test_an_unknown_model_is_refused_by_info(miase_run, packaged):
    code, _, err = miase_run("models", "info", "nonsense")
    assert code == 1
    assert "unknown model 'nonsense'" in one_line(err)


def test_the_default_model_is_used(miase_run, packaged, tmp_path):
    assert miase_run("enhance", write(tmp_path / "a.wav"), "-q") == (0, "", "")


def test_doctor_says_what_there_is(miase_run, packaged):
    code, out, _ = miase_run("doctor")
    assert code == 0
    found = {line.split()[1]: line for line in out.splitlines()}
    assert miase.__version__ in found["miase"]
    assert torch.__version__ in found["torch"]
    assert {"python", "cuda", "ffmpeg", "numpy", "soundfile"} <= found.keys()
    assert all(line.startswith("ok ") for line in found.values())


def test_doctor_finds_damaged_and_missing_weights(miase_run, packaged):
    (packaged / "other" / "model.safetensors").unlink()
    code, out, _ = miase_run("doctor")
    assert code == 1
    assert [line.split()[1:3] for line in out.splitlines() if line.startswith("FAIL")] == [["model", "other"]]
    shutil.rmtree(packaged)
    code, out, _ = miase_run("doctor")
    assert code == 1
    assert "reinstall miase" in out


def test_what_is_packaged_verifies(miase_run):
    code, out, err = miase_run("models", "verify")
    assert (code, err) == (0, "")
    assert "FAIL" not in out


def test_version(miase_run):
    assert miase_run("--version") == (0, f"{miase.__version__}\n", "")


@pytest.mark.parametrize("verb", [[], *([verb] for verb in cli.VERBS), ["models"], ["models", "info"]])
def test_help_names_flags_without_noise(miase_run, verb):
    code, out, err = miase_run(*verb, "--help")
    assert (code, err) == (0, "")
    assert "Usage: miase" in out
    assert "--empty-" not in out
    assert "--no-" not in out.replace("--no-clean", "").replace("--noise", "").replace("--noisy", "")
    assert "[default: False]" not in out.replace("\n", "")


@pytest.mark.parametrize("verb", ["enhance", "train", "corpus"])
def test_every_flag_has_a_line_of_help(miase_run, monkeypatch, verb):
    """Two docstrings feed it, the verb's and the settings'; a misspelt name there would leave a flag bare."""
    monkeypatch.setenv("COLUMNS", "500")
    rows = [line.strip("│* ") for line in miase_run(verb, "--help")[1].splitlines() if line.startswith("│")]
    assert len(rows) > 15
    for row in rows:
        flag, *text = re.split(r"\s{2,}", re.sub(r"\[(default|choices|required).*?\]", "", row).strip())
        assert text, f"{flag} has no help"


# As a process of its own


def test_the_command_as_a_process(model, tmp_path):
    """The entry point, spawned workers, a failure among them, and the exit code."""
    for i in range(3):
        write(tmp_path / "in" / f"{i}.wav", 0.2, i)
    (tmp_path / "in" / "text.wav").write_text("no sound")
    command = [sys.executable, "-m", "miase", "enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    result = subprocess.run([*command, "-m", str(model), "--jobs", "2", "-q"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert "text.wav" in one_line(result.stderr)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.wav", "1.wav", "2.wav"]
