"""Matching, scoring, what is done with files that do not fit, and one result for any number of processes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from miase.audio import load
from miase.checkpoint import save_pretrained
from miase.classical import CLASSICAL
from miase.cli import run
from miase.config import ModelConfig
from miase.errors import EvaluationError, WeightsError
from miase.evaluate import WITH_CLEAN, Options, choose_metrics, evaluate, evaluate_items
from miase.judge import MEASURES
from miase.matching import Item
from miase.metrics import METRICS
from miase.models import build_model
from miase.systems import describe_system, load_system
from miase.writing import save
from signals import speech_like, white

RATE = 16_000
FAST = ("snr", "si_sdr")
QUICK = Options(metrics=FAST, quiet=True)
NAMES = ("a.wav", "b.wav", "sub/c.wav")


def write(folder, name, samples, sample_rate=RATE):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, np.atleast_2d(samples).astype(np.float32), sample_rate, subtype="FLOAT")


@pytest.fixture
def folders(tmp_path):
    """Three files of one second: clean, noisy at 10 dB by orthogonal noise, and half of the noise removed."""
    for i, name in enumerate(NAMES):
        clean, noise = speech_like(1, RATE, seed=i), white(1, RATE, seed=i)
        noise -= clean * (noise @ clean) / (clean @ clean)
        noise *= np.sqrt((clean @ clean) / (noise @ noise) / 10)
        write(tmp_path / "clean", name, clean)
        write(tmp_path / "noisy", name, clean + noise)
        write(tmp_path / "better", name, clean + noise / 2)
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    config = ModelConfig(sample_rate=8000, n_fft=256, hop_length=128, n_blocks=1, window_frames=32)
    folder = tmp_path_factory.mktemp("run") / "tiny" / "model"
    save_pretrained(build_model(config), folder)
    return folder


def score_of(evaluation, file, system="noisy"):
    return next(s for s in evaluation.scores if (s.file, s.system) == (file, system))


def test_known_answers_for_each_file_and_system(folders):
    result = evaluate(folders / "noisy", folders / "clean", [folders / "better"], ["wiener"], QUICK)
    assert result.systems == ("noisy", "better", "wiener")
    assert [(s.file, s.system) for s in result.scores] == [(f, s) for f in NAMES for s in result.systems]
    assert result.column("noisy", "snr") == pytest.approx([10] * 3, abs=1e-4)
    assert result.column("better", "snr") == pytest.approx([16.0206] * 3, abs=1e-4)
    noisy, _ = load(folders / "noisy" / "a.wav")
    clean, _ = load(folders / "clean" / "a.wav")
    estimate = CLASSICAL["wiener"].enhance(noisy, RATE)
    expected = METRICS["snr"].function(estimate[0], clean[0], RATE)["snr"]
    assert score_of(result, "a.wav", "wiener").values["snr"] == expected
    assert not result.failed


def test_the_default_metrics_all_have_values(folders):
    result = evaluate(folders / "noisy", folders / "clean", options=Options(quiet=True))
    assert result.metrics == WITH_CLEAN
    assert all(np.isfinite(list(score.values.values())).all() for score in result.scores)


def test_one_process_and_two_give_the_same_bytes(folders, model):
    reports = []
    for jobs in ("1", "2", "1"):
        out = folders / f"report{len(reports)}"
        arguments = ["evaluate", "--noisy", str(folders / "noisy"), "--clean", str(folders / "clean"), "-q"]
        arguments += ["-m", str(model), "-m", "log_mmse", "--enhanced", str(folders / "better")]
        arguments += ["--metrics", "snr", "stoi", "self_consistency", "speech_lost", "--jobs", jobs]
        for suffix in ("json", "csv", "md", "html"):
            arguments += ["-o", str(out.with_suffix(f".{suffix}"))]
        assert run(arguments) == 0
        reports.append(
            [out.with_suffix(f".{suffix}").read_bytes() for suffix in ("json", "csv", "md", "html")]
        )
    assert reports[0] == reports[1] == reports[2]
    found = json.loads(reports[0][0])
    assert found["stamp"]["systems"]["tiny"]["weights_sha256"]
    assert found["stamp"]["files"]["n"] == 3


def test_the_hash_of_the_files_follows_names_and_contents(folders):
    def digest():
        return evaluate(folders / "noisy", folders / "clean", options=QUICK).stamp["files"]["sha256"]

    first = digest()
    assert digest() == first
    write(folders / "clean", "a.wav", 0.5 * speech_like(1, RATE, seed=9))
    assert digest() != first


@pytest.mark.parametrize(
    ("folder", "lacking"), [("clean", "clean"), ("better", "better"), ("noisy", "noisy")]
)
def test_a_missing_partner_is_named_and_counted(folders, folder, lacking):
    (folders / folder / "sub" / "c.wav").unlink()
    (folders / folder / "b.wav").unlink()
    with pytest.raises(EvaluationError, match=rf"2 of the files .* no partner in .*{lacking}: b, sub/c;"):
        evaluate(folders / "noisy", folders / "clean", [folders / "better"], options=QUICK)


def test_partners_may_have_another_suffix_but_not_two(folders):
    for name in NAMES:
        samples, _ = load(folders / "clean" / name)
        write(folders / "flac", name, samples)
        (folders / "flac" / name).rename((folders / "flac" / name).with_suffix(".rf64"))
    assert not evaluate(folders / "noisy", folders / "flac", options=QUICK).failed
    write(folders / "flac", "a.wav", samples)
    with pytest.raises(EvaluationError, match="two formats"):
        evaluate(folders / "noisy", folders / "flac", options=QUICK)


@pytest.mark.parametrize(("extra", "ok"), [(160, True), (161, False), (-160, True), (-161, False)])
@pytest.mark.parametrize("folder", ["clean", "better"])
def test_lengths_may_differ_by_10_ms(folders, folder, extra, ok):
    samples, _ = load(folders / folder / "b.wav")
    write(folders / folder, "b.wav", np.pad(samples[0], (0, 200))[: samples.shape[1] + extra])
    result = evaluate(folders / "noisy", folders / "clean", [folders / "better"], options=QUICK)
    score = score_of(result, "b.wav", "better")
    if ok:
        assert "10.0 ms" in score.warnings[0]
        assert score.values["snr"] == pytest.approx(16.02, abs=0.2)
    else:
        assert "10.1 ms are not" in score.error
        assert np.isnan(score.values["snr"])
    assert not score_of(result, "a.wav", "better").error


def test_another_rate_or_number_of_channels_is_an_error_of_that_file(folders, capsys):
    write(folders / "clean", "a.wav", speech_like(1, 8000), 8000)
    write(folders / "better", "b.wav", np.stack([speech_like(1, RATE)] * 2))
    result = evaluate(folders / "noisy", folders / "clean", [folders / "better"], options=QUICK)
    errors = {(s.file, s.system): s.error for s in result.failed}
    assert set(errors) == {("a.wav", "noisy"), ("a.wav", "better"), ("b.wav", "better")}
    assert "8000 Hz and the noisy file 16000 Hz" in errors["a.wav", "noisy"]
    assert "2 and the noisy file 1 channels" in errors["b.wav", "better"]
    assert np.isfinite(score_of(result, "b.wav").values["snr"])
    arguments = ["evaluate", "--noisy", str(folders / "noisy"), "--clean", str(folders / "clean"), "-q"]
    assert run([*arguments, "--metrics", "snr"]) == 1
    assert "miase: a.wav: error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("samples", "reason"), [(np.zeros(RATE), "silent"), (np.ones(1), "short|sample|energy")]
)
def test_silent_and_one_sample_files_keep_their_row_with_the_reason(folders, model, samples, reason):
    for folder in ("noisy", "clean"):
        write(folders / folder, "b.wav", samples)
    options = Options(metrics=("si_sdr", "pesq_wb", "stoi", *MEASURES), quiet=True)
    result = evaluate(folders / "noisy", folders / "clean", models=["wiener", str(model)], options=options)
    for system in result.systems:
        score = score_of(result, "b.wav", system)
        assert not score.error
        assert np.isnan(score.values["pesq_wb"])
        assert score.reasons["pesq_wb"]
        undefined = {name for name, value in score.values.items() if np.isnan(value)}
        assert undefined == set(score.reasons)
    assert np.isfinite(result.column("noisy", "si_sdr")).sum() == 2


def test_a_file_that_cannot_be_read_stops_no_other(folders):
    (folders / "noisy" / "a.wav").write_bytes(b"no sound")
    result = evaluate(folders / "noisy", folders / "clean", options=QUICK)
    assert [score.file for score in result.failed] == ["a.wav"]
    assert np.isfinite(result.column("noisy", "snr")[1:]).all()


def test_channels_are_averaged(tmp_path):
    clean, noise = speech_like(1, RATE), white(1, RATE)
    write(tmp_path / "clean", "a.wav", np.stack([clean, clean]))
    write(tmp_path / "noisy", "a.wav", np.stack([clean + 0.1 * noise, clean + 0.01 * noise]))
    (value,) = evaluate(tmp_path / "noisy", tmp_path / "clean", options=QUICK).column("noisy", "snr")
    expected = [METRICS["snr"].function(clean + g * noise, clean, RATE)["snr"] for g in (0.1, 0.01)]
    assert value == pytest.approx(np.mean(expected), abs=1e-3)


def test_without_clean_speech_it_names_what_got_worse(folders):
    for name in NAMES:
        samples, _ = load(folders / "noisy" / name)
        write(folders / "silenced", name, 0 * samples)
    options = Options(metrics=tuple(MEASURES), quiet=True)
    result = evaluate(folders / "noisy", None, [folders / "silenced"], ["wiener"], options)
    assert not result.has_clean
    assert all("nothing is left" in score_of(result, name, "silenced").worse for name in NAMES)
    assert not any(score_of(result, name, system).worse for name in NAMES for system in ("noisy", "wiener"))
    assert result.column("noisy", "energy_kept") == [0.0] * 3
    assert np.isfinite(result.column("wiener", "self_consistency")).all()
    assert np.isnan(result.column("silenced", "self_consistency")).all()


def test_a_corpus_brings_its_clean_speech_and_noise_classes(folders):
    items = [
        {"noisy": f"noisy/{name}", "clean": f"clean/{name}", "noise": "x", "noise_class": noise_class}
        | {"snr_db": 10.0, "take": 1, "seconds": 1.0, "sample_rate": RATE, "seed": 0, "speaker": "s"}
        for name, noise_class in zip(NAMES, ("siren", "siren", "drilling"), strict=True)
    ]
    text = "".join(json.dumps(item) + "\n" for item in items)
    (folders / "manifest.jsonl").write_text(text, encoding="utf-8")
    result = evaluate(folders, options=QUICK)
    assert result.has_clean
    assert result.groups == ["drilling", "siren"]
    assert len(result.column("noisy", "snr", "siren")) == 2
    assert evaluate(folders, folders, [folders / "better"], options=QUICK).column("better", "snr")[0] > 16


def test_metrics_are_chosen_or_refused(monkeypatch):
    assert choose_metrics((), True) == WITH_CLEAN
    assert choose_metrics(("dnsmos", "snr"), True)[-1] == "snr"
    assert len(choose_metrics(("dnsmos",), False)) == 4
    assert choose_metrics((), False)[-3:] == tuple(MEASURES)
    with pytest.raises(EvaluationError, match="no metric 'pesq'; there are snr"):
        choose_metrics(("pesq",), True)
    with pytest.raises(EvaluationError, match="--clean"):
        choose_metrics(("snr",), False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_metrics((), False) == tuple(MEASURES)
    with pytest.raises(EvaluationError, match=r"miase\[eval\]"):
        choose_metrics((), True)


def test_unknown_systems_are_refused_with_the_known_ones(folders):
    with pytest.raises(WeightsError, match=r"unknown system 'wien'; there are .*wiener, log_mmse"):
        evaluate(folders / "noisy", folders / "clean", models=["wien"], options=QUICK)
    with pytest.raises(EvaluationError, match="one name"):
        evaluate(folders / "noisy", folders / "clean", models=["wiener", "wiener"], options=QUICK)


def test_every_system_that_is_known_describes_itself(model):
    for name in (*CLASSICAL, str(model)):
        assert describe_system(name)["kind"] in ("classical", "model")
        assert load_system(name)(np.zeros((1, 500), np.float32), RATE).shape == (1, 500)


def test_an_empty_folder_is_refused(folders):
    (folders / "empty").mkdir()
    with pytest.raises(EvaluationError, match="holds no sound files"):
        evaluate(folders / "empty", options=QUICK)


def save_model(folder, gain):
    """A model whose mask is one or zero."""
    config = ModelConfig(sample_rate=8000, n_fft=256, hop_length=128, n_blocks=1, window_frames=32)
    network = build_model(config)
    for parameter in network.mask_out.parameters():
        torch.nn.init.zeros_(parameter)
    network.mask_out.bias.data = torch.tensor([20.0 * gain, 0.0])
    save_pretrained(network, folder)
    return str(folder)


@pytest.mark.parametrize("file_format", [None, "flac"])
def test_outputs_that_got_worse_hold_the_original(folders, tmp_path, capsys, monkeypatch, file_format):
    monkeypatch.setattr("miase.evaluate.installed", lambda row: not row.package)  # DNSMOS takes 10 s
    silencer = save_model(tmp_path / "silencer", 0.0)
    out, report = tmp_path / "out", tmp_path / "report.html"
    arguments = [
        "enhance",
        str(folders / "noisy"),
        "-m",
        silencer,
        "-o",
        str(out),
        "-q",
        "--report",
        str(report),
    ]
    arguments += ["--format", file_format] if file_format else []
    assert run([*arguments, "--keep-if-worse"]) == 0
    messages = capsys.readouterr().err
    for name in NAMES:
        target = (out / name).with_suffix(f".{file_format}") if file_format else out / name
        samples, _ = load(target)
        original, _ = load(folders / "noisy" / name)
        assert samples == pytest.approx(original, abs=1e-4 if file_format else 0)
        assert f"{target}: holds the original" in messages
    assert "nothing is left" in messages
    assert "seemed worse than before" in report.read_text(encoding="utf-8")
    assert not list(out.rglob("*.part"))


def test_outputs_that_did_not_get_worse_stay(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("miase.evaluate.installed", lambda row: not row.package)
    identity = save_model(tmp_path / "identity", 1.0)
    out = tmp_path / "out"
    assert (
        run(["enhance", str(folders / "noisy"), "-m", identity, "-o", str(out), "-q", "--keep-if-worse"]) == 0
    )
    assert "worse" not in capsys.readouterr().err


def test_the_lead_in_is_heard_but_not_judged(folders):
    noisy, _ = load(folders / "noisy" / "a.wav")
    clean, _ = load(folders / "clean" / "a.wav")
    options = replace(QUICK, lead_in=0.5)
    result = evaluate(folders / "noisy", folders / "clean", models=["wiener"], options=options)
    estimate = CLASSICAL["wiener"].enhance(noisy, RATE)[0]
    expected = METRICS["snr"].function(estimate[RATE // 2 :], clean[0, RATE // 2 :], RATE)["snr"]
    assert score_of(result, "a.wav", "wiener").values["snr"] == expected
    assert "0.5 s" in result.stamp["lead_in"]
    beyond = evaluate(folders / "noisy", folders / "clean", options=replace(QUICK, lead_in=5.0))
    assert all("no samples" in score.reasons["snr"] for score in beyond.scores)


def test_only_the_start_of_long_files_is_judged(folders):
    pair = (folders / "noisy" / "a.wav", folders / "better" / "a.wav")
    items = [Item("a", pair[0], enhanced={"ours": pair[1]})]
    options = Options(("energy_kept",), quiet=True, longest=0.25)
    (whole,), (part,) = (
        evaluate_items(items, ["ours"], [], o).column("ours", "energy_kept")
        for o in (Options(("energy_kept",), quiet=True), options)
    )
    noisy, better = (load(path)[0][0, : RATE // 4] for path in pair)
    assert part == pytest.approx(10 * np.log10(np.sum(better**2) / np.sum(noisy**2)), abs=1e-4)
    assert part != pytest.approx(whole, abs=1e-4)


def test_a_report_states_its_command_without_what_changes_no_value(folders, monkeypatch):
    monkeypatch.chdir(folders)
    how = ["--metrics", "snr", "--metrics", "si_sdr", "-q"]
    files = ["evaluate", "--noisy", str(folders / "noisy"), "--clean", "clean", "--enhanced", "better"]
    assert run([*files, *how, "-o", "a.json", "--jobs", "1"]) == 0
    assert run([*files, *how, "-o", "b.json", "--jobs", "2"]) == 0
    assert (folders / "a.json").read_bytes() == (folders / "b.json").read_bytes()
    command = json.loads((folders / "a.json").read_text())["stamp"]["command"]
    assert command == "miase evaluate --noisy noisy --clean clean --enhanced better --metrics snr si_sdr"
    assert run([*command.split()[1:], "-q", "-o", "c.json"]) == 0
    assert (folders / "a.json").read_bytes() == (folders / "c.json").read_bytes()
