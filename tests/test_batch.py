"""Many files: which output belongs to which input, what is never overwritten, and a batch that goes on."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch

from miase.batch import FORMATS, BatchOptions, Outcome, enhance_files
from miase.checkpoint import save_pretrained
from miase.config import ModelConfig
from miase.errors import ConfigError, WeightsError
from miase.models import build_model
from signals import speech_like

RATE = 8000
SMALL = {"sample_rate": RATE, "n_fft": 64, "hop_length": 32, "n_blocks": 1, "window_frames": 32}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save_pretrained(build_model(ModelConfig("dcunet10", **SMALL)), folder)
    return str(folder)


@pytest.fixture
def run(model):
    def enhance(inputs, out=None, **options):
        options = BatchOptions(model=model, device="cpu", quiet=True, **options)
        return list(enhance_files([inputs] if not isinstance(inputs, list) else inputs, out, None, options))

    return enhance


def write(path, seconds=0.1, seed=0, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.3 * speech_like(seconds, RATE, seed), RATE, **how)
    return path


def files(folder):
    """Every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def targets(outcomes):
    assert [o.error for o in outcomes if o.status == "failed"] == []
    return {outcome.target for outcome in outcomes}


def failure(outcomes):
    """The message of the only outcome, which must be a failure in one line."""
    (outcome,) = outcomes
    assert outcome.status == "failed"
    assert outcome.error
    assert "\n" not in outcome.error
    return outcome.error


def test_an_output_stands_beside_its_input(run, tmp_path):
    source = write(tmp_path / "a.b.wav")
    (outcome,) = run(source)
    assert outcome == Outcome(source, tmp_path / "a.b_enhanced.wav", "done", "", 0.1, RATE, 1, 0)
    assert files(tmp_path) == {"a.b.wav", "a.b_enhanced.wav"}


def test_a_single_file_goes_to_a_name_or_a_folder(run, tmp_path):
    source = write(tmp_path / "a.wav")
    assert targets(run(source, tmp_path / "deep" / "b.flac")) == {tmp_path / "deep" / "b.flac"}
    assert sf.info(tmp_path / "deep" / "b.flac").format == "FLAC"
    assert targets(run(source, tmp_path / "out")) == {tmp_path / "out" / "a.wav"}
    (tmp_path / "folder.wav").mkdir()
    assert targets(run(source, tmp_path / "folder.wav")) == {tmp_path / "folder.wav" / "a.wav"}


def test_a_folder_keeps_its_tree(run, tmp_path):
    for name in ("a.wav", "x/a.wav", "x/y/b.flac"):
        write(tmp_path / "in" / name)
    (tmp_path / "in" / "x" / "notes.txt").write_text("no sound")
    assert len(targets(run(tmp_path / "in", tmp_path / "out"))) == 3
    assert files(tmp_path / "out") == {"a.wav", "x/a.wav", "x/y/b.flac"}


def test_several_inputs_share_a_folder(run, tmp_path):
    one, other = write(tmp_path / "p" / "a.wav"), write(tmp_path / "q" / "b.wav")
    assert len(targets(run([one, other.parent], tmp_path / "out"))) == 2
    assert files(tmp_path / "out") == {"a.wav", "b.wav"}


def test_a_folder_without_out_is_not_enhanced_twice(run, tmp_path):
    write(tmp_path / "x" / "a.wav")
    write(tmp_path / "only_enhanced.wav")  # a name that ends so, but no output of ours
    assert len(targets(run(tmp_path))) == 2
    again = run(tmp_path, overwrite=True)
    assert {outcome.source.name for outcome in again} == {"a.wav", "only_enhanced.wav"}


def test_an_out_within_the_input_is_not_enhanced_again(run, tmp_path):
    write(tmp_path / "a.wav")
    for _ in range(2):
        assert targets(run(tmp_path, tmp_path / "out", overwrite=True)) == {tmp_path / "out" / "a.wav"}


@pytest.mark.parametrize("file_format", FORMATS)
def test_another_format_can_be_asked_for(run, tmp_path, file_format):
    source = write(tmp_path / "a.b.aiff", 0.2)
    (target,) = targets(run(source, tmp_path / "out", file_format=file_format))
    assert target == tmp_path / "out" / f"a.b.{file_format}"
    kinds = {"ogg": "OGG", "opus": "OGG", "mp3": "MP3"}
    assert sf.info(target).format == kinds.get(file_format, file_format.upper())
    assert targets(run(source, file_format=file_format)) == {tmp_path / f"a.b_enhanced.{file_format}"}


def test_what_cannot_be_written_back_becomes_wav(run, tmp_path):
    source = write(tmp_path / "a.wav", subtype="MS_ADPCM")
    assert targets(run(source)) == {tmp_path / "a_enhanced.wav"}
    assert sf.info(tmp_path / "a_enhanced.wav").subtype == "PCM_16"


def test_an_output_that_is_there_stays_unless_told_otherwise(run, tmp_path):
    source, target = write(tmp_path / "a.wav"), tmp_path / "a_enhanced.wav"
    target.write_text("mine")
    assert "exists already" in failure(run(source))
    (outcome,) = run(source, skip_existing=True)
    assert outcome.status == "skipped"
    assert target.read_text() == "mine"
    assert targets(run(source, overwrite=True)) == {target}
    assert sf.info(target).frames == 800


def test_skipping_does_the_rest(run, tmp_path):
    first, second = write(tmp_path / "a.wav"), write(tmp_path / "b.wav", seed=1)
    run(first)
    assert [o.status for o in run([first, second], skip_existing=True)] == ["skipped", "done"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_inputs_are_never_overwritten(run, tmp_path, overwrite):
    one = write(tmp_path / "p" / "a.wav")
    other = write(tmp_path / "q" / "a.wav", seed=1)
    beside = write(tmp_path / "p" / "a_enhanced.wav", seed=2)
    before = {path: path.read_bytes() for path in (one, other, beside)}
    calls = [
        (one, one),
        (one, one.parent),
        (one.parent, one.parent),
        ([one, other], other.parent),  # the first would be written over the second
        ([one, beside], None),
        ([other.parent, one], tmp_path / "p" / ".." / "q"),
    ]
    for inputs, out in calls:
        outcomes = run(inputs, out, overwrite=overwrite)
        assert any("never overwritten" in outcome.error for outcome in outcomes)
        assert {path: path.read_bytes() for path in before} == before


def test_two_inputs_never_share_an_output(run, tmp_path):
    one, other = write(tmp_path / "p" / "a.wav"), write(tmp_path / "q" / "a.wav", seed=1)
    outcomes = run([one, other], tmp_path / "out", overwrite=True)
    assert sorted(outcome.status for outcome in outcomes) == ["done", "failed"]
    assert "written twice" in next(outcome.error for outcome in outcomes if outcome.error)


@pytest.fixture
def broken(tmp_path):
    """A folder with two good files and one of each bad kind."""
    folder = tmp_path / "in"
    write(folder / "a_good.wav")
    write(folder / "z_good.flac", seed=1)
    (folder / "text.wav").write_text("this is no sound")
    (folder / "empty.wav").touch()
    whole = write(folder / "cut.flac", 2.0)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    samples = np.zeros(9000, np.float32)
    samples[5000] = np.nan
    sf.write(folder / "nan.wav", samples, RATE, subtype="FLOAT")
    return folder


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_fails_does_not_stop_the_others(run, broken, tmp_path, jobs):
    outcomes = run([broken, tmp_path / "missing.wav"], tmp_path / "out", jobs=jobs)
    by_name = {outcome.source.name: outcome for outcome in outcomes}
    assert len(by_name) == len(outcomes) == 7
    good = {name for name, outcome in by_name.items() if outcome.status == "done"}
    assert good == {"a_good.wav", "z_good.flac"}
    for name, outcome in by_name.items():
        if outcome.status == "failed":
            assert name in outcome.error
            assert "\n" not in outcome.error
    assert "does not exist" in by_name["missing.wav"].error
    assert "empty" in by_name["empty.wav"].error
    assert "truncated" in by_name["cut.flac"].error
    assert "NaN" in by_name["nan.wav"].error
    assert files(tmp_path / "out") == {"a_good.wav", "z_good.flac"}  # and no half-written file


def test_several_jobs_give_the_same_bytes(run, tmp_path):
    for i in range(4):
        write(tmp_path / "in" / f"{i}.wav", 0.3, i)
    for jobs in (1, 2):
        assert len(targets(run(tmp_path / "in", tmp_path / str(jobs), jobs=jobs, threads=jobs))) == 4
    for i in range(4):
        assert (tmp_path / "1" / f"{i}.wav").read_bytes() == (tmp_path / "2" / f"{i}.wav").read_bytes()


def test_a_folder_that_cannot_be_written_is_named(run, tmp_path):
    source = write(tmp_path / "a.wav")
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in failure(run(source, tmp_path / "file" / "out"))
    assert "file" in failure(run(source, tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_name_without_a_sound_format_means_a_folder(run, tmp_path):
    source = write(tmp_path / "a.wav")
    assert targets(run(source, tmp_path / "b.txt")) == {tmp_path / "b.txt" / "a.wav"}
    assert "no format that can be written" in failure(run(source, tmp_path / "b.m4a"))


def test_a_bad_model_is_found_before_any_file(tmp_path, model):
    source = write(tmp_path / "a.wav")
    for jobs in (1, 2):
        with pytest.raises(WeightsError, match="unknown model 'nonsense'"):
            list(enhance_files([source, tmp_path], None, None, BatchOptions(model="nonsense", jobs=jobs)))
    assert files(tmp_path) == {"a.wav"}


@pytest.mark.parametrize(
    "options",
    [
        {"jobs": 0},
        {"threads": -1},
        {"skip_existing": True, "overwrite": True},
        {"file_format": "m4a"},
        {"file_format": "doc"},
        {"file_format": ""},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError):
        BatchOptions(**options)


def test_an_outcome_is_a_line_of_json(tmp_path):
    name = tmp_path / b"caf\xe9\n.wav".decode("utf-8", "surrogateescape")
    line = Outcome(name, None, "failed", 'said "no"').as_json()
    assert "\n" not in line
    assert line.encode("ascii")
    assert json.loads(line) == {
        "source": str(name),
        "target": None,
        "status": "failed",
        "error": 'said "no"',
        "seconds": 0.0,
        "sample_rate": 0,
        "n_channels": 0,
        "n_clipped": 0,
    }


def test_clipping_is_counted(run, tmp_path):
    sf.write(tmp_path / "a.wav", 3 * speech_like(0.5, RATE), RATE, subtype="FLOAT")
    (outcome,) = run(tmp_path / "a.wav", tmp_path / "b.flac")
    assert outcome.n_clipped > 0
