"""The verbs of the command line: their flags, and what they print. Work is done elsewhere."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from miase.config import AdaptConfig, EnhanceConfig, RunConfig, dump_toml
from miase.corpus import CorpusOptions
from miase.errors import ConfigError

NOT_BETTER = 3  # exit code of an adaptation that kept the weights it began with
Quiet = Annotated[bool, Parameter(name=("-q", "--quiet"))]


def enhance(
    *inputs: Path,
    out: Annotated[Path | None, Parameter(name=("-o", "--out"))] = None,
    model: Annotated[str, Parameter(name=("-m", "--model"))] = "default",
    config: Annotated[EnhanceConfig, Parameter(name="*")] = EnhanceConfig(),  # noqa: B008 - frozen
    file_format: Annotated[
        Literal["wav", "flac", "ogg", "opus", "mp3", "aiff", "w64"] | None, Parameter(name="--format")
    ] = None,
    skip_existing: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    jobs: int = 1,
    threads: int = 0,
    backend: Literal["auto", "torch", "onnx"] = "auto",
    report: Path | None = None,
    keep_if_worse: bool = False,
    raw_rate: int = 0,
    raw_channels: int = 1,
    lookahead: float | None = None,
    log_json: bool = False,
    quiet: Quiet = False,
) -> int:
    """Take the noise out of recordings.

    Rate, length, channels, format and sample format come back as they went in.

    Parameters
    ----------
    inputs: Path
        sound files, and folders that are read with their subfolders; or '-' for WAV on standard input, as it
        comes, with '-o -'.
    out: Path
        file to write, for a single input, or folder that keeps names and tree; without it,
        STEM_enhanced.EXT is written beside each input; '-' is standard output.
    model: str
        name from 'miase models list', the folder of a model or of a training run, or an exported .onnx file.
    file_format: str
        write this format instead of the input's.
    skip_existing: bool
        skip inputs whose output is there already.
    overwrite: bool
        replace outputs that are there already; inputs are never overwritten.
    device: str
        auto, cpu, cuda or another device that torch knows.
    jobs: int
        files at a time, each in a process of its own.
    threads: int
        CPU threads in all; 0 leaves the choice to torch.
    backend: str
        what computes: torch, or onnxruntime for a file that 'miase export' wrote; auto goes by the name.
    report: Path
        write a report on the files as 'miase evaluate' makes it without clean speech: .html, .md, .json or
        .csv.
    keep_if_worse: bool
        keep the original sound in outputs that seem worse than it: speech lost, or a lower DNSMOS.
    raw_rate: int
        with '-': standard input and output are raw 16-bit little-endian samples at this rate, without a
        header.
    raw_channels: int
        of raw samples.
    lookahead: float
        with '-': seconds of the future that each sample hears; 0.2 gives half a second of delay. Without it,
        the samples are those of a file, some seconds late.
    log_json: bool
        print a line of JSON for each file on standard output.
    quiet: bool
        print nothing but errors.
    """
    from miase.batch import BatchOptions, enhance_files, load_enhancer

    if not inputs:
        print("miase: no input; name sound files or folders. See 'miase enhance --help'.", file=sys.stderr)
        return 2
    options = BatchOptions(
        model=model,
        device=device,
        file_format=file_format,
        skip_existing=skip_existing,
        overwrite=overwrite,
        jobs=jobs,
        threads=threads,
        backend=backend,
        quiet=quiet or log_json,
    )
    if _is_pipe(inputs, out):
        from miase.errors import ConfigError
        from miase.piping import enhance_pipe

        if file_format or report or keep_if_worse or log_json:
            raise ConfigError("--format, --report, --keep-if-worse and --log-json are for files, not for -")
        enhance_pipe(
            load_enhancer(options),
            sys.stdin.buffer,
            sys.stdout.buffer,
            config,
            raw_rate=raw_rate,
            raw_channels=raw_channels,
            lookahead=lookahead,
        )
        return 0
    if report is not None:
        from miase.report import check_report_path

        check_report_path(report)
    failures = []
    done: list[tuple[Path, Path]] = []
    counts = {"done": 0, "skipped": 0, "failed": 0}
    for outcome in enhance_files(inputs, out, config, options):
        counts[outcome.status] += 1
        if log_json:
            print(outcome.as_json(), flush=True)
        if outcome.status == "failed":
            failures.append(outcome)
        elif outcome.status == "done" and outcome.target is not None:
            done.append((outcome.source, outcome.target))
        if outcome.n_clipped and not quiet:
            print(
                f"{outcome.target}: {outcome.n_clipped} samples were clipped at full scale", file=sys.stderr
            )
    if not quiet and not log_json:
        skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
        print(f"{counts['done']} enhanced{skipped}, {counts['failed']} failed")
    if done and (report is not None or keep_if_worse):
        _judge_outputs(sorted(done), report, keep_if_worse, jobs, quiet or log_json)
    for outcome in failures:
        print(f"miase: {outcome.error}", file=sys.stderr)
    if sum(counts.values()) == 0:
        print(f"miase: no sound files in {', '.join(map(str, inputs))}", file=sys.stderr)
        return 1
    return 1 if failures else 0


def _is_pipe(inputs: tuple[Path, ...], out: Path | None) -> bool:
    """Whether sound goes from standard input to standard output."""
    pipe = Path("-")
    if pipe not in inputs and out != pipe:
        return False
    if inputs != (pipe,) or out != pipe:
        from miase.errors import ConfigError

        raise ConfigError("- stands for standard input or output: give 'miase enhance - -o -'")
    return True


def _judge_outputs(
    done: list[tuple[Path, Path]], report: Path | None, keep_if_worse: bool, jobs: int, quiet: bool
) -> None:
    """Say which outputs seem worse than their inputs, and do something about it."""
    from miase.evaluate import ENHANCED, judge_outputs, keep_original
    from miase.report import write_report

    evaluation = judge_outputs(done, jobs, quiet)
    if report is not None:
        write_report(evaluation, report)
    scores = (score for score in evaluation.scores if score.system == ENHANCED)
    for (source, target), score in zip(done, scores, strict=True):
        if score.worse:
            if keep_if_worse:
                keep_original(source, target)
            what = "holds the original, for enhanced it was worse" if keep_if_worse else "seems worse"
            print(f"{target}: {what}: {score.worse}", file=sys.stderr)


def train(
    noisy_dir: Path | None = None,
    *,
    out: Annotated[Path | None, Parameter(name=("-o", "--out"))] = None,
    config: Path | None = None,
    resume: bool = False,
    print_config: bool = False,
    run: Annotated[RunConfig, Parameter(name="*")] = RunConfig(),  # noqa: B008 - frozen
    quiet: Quiet = False,
) -> int:
    """Train a model on a folder of noisy recordings; no clean speech is needed.

    Instead of a folder, --speech and --mix-noise mix noisy recordings while training.

    Parameters
    ----------
    noisy_dir: Path
        any folder of recordings, or one that 'miase corpus' made.
    out: Path
        folder of the run: config.toml, metrics.jsonl, checkpoints/ and model/.
    config: Path
        TOML file with settings, such as the config.toml of another run; flags come before it.
    resume: bool
        go on with the run in the folder, with its settings.
    print_config: bool
        print the settings that the run would have as TOML, for --config, and do nothing.
    quiet: bool
        print nothing but errors.
    """
    if print_config:
        print(settings_of(run), end="")
        return 0
    if out is None:
        raise ConfigError("the run has no folder; give one with -o")
    from miase.train import fit

    result = fit(noisy_dir, out, run, resume=resume, quiet=quiet)
    for failure in result.failures:
        print(f"miase: left out: {failure}", file=sys.stderr)
    if not result.finished:
        print(
            f"miase: interrupted at step {result.step}; "
            f"go on with: miase train {'' if noisy_dir is None else f'{noisy_dir} '}-o {out} --resume",
            file=sys.stderr,
        )
        return 130
    if not quiet:
        print(f"{result.step} steps done; use it with: miase enhance FILE -m {result.model_dir}")
    return 0


def settings_of(run: RunConfig) -> str:
    """All settings of a run as TOML, with what its objective fixes."""
    from miase.objectives import find_objective

    _, objective = find_objective(run.objective)
    return dump_toml(replace(run, objective=objective))


def compare(
    plan: Path,
    *,
    out: Annotated[Path, Parameter(name=("-o", "--out"))],
    jobs: int = 1,
    quiet: Quiet = False,
) -> int:
    """Compare objectives, networks, corpora and seeds under one trainer, in one table.

    Writes table.md, table.csv and table.json, and a run for each line of them. What is done already is not
    done again.

    Parameters
    ----------
    plan: Path
        TOML file that says what to compare, see docs/comparing.md.
    out: Path
        folder of the runs and the tables.
    jobs: int
        runs at a time, each in a process of its own.
    quiet: bool
        print nothing but errors.
    """
    from miase.compare import compare as run
    from miase.comparison import as_table, rows_of
    from miase.plan import load_plan
    from miase.report import markdown_table

    made = load_plan(plan)
    outcomes = run(made, out, jobs, quiet)
    if not quiet:
        print(markdown_table(as_table(made, rows_of(made, outcomes))))
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        print(f"miase: {outcome.cell.folder(out)}: {outcome.error}", file=sys.stderr)
    return 1 if failed else 0


def audit(
    noisy_dir: Path,
    *,
    model: Annotated[str, Parameter(name=("-m", "--model"))] = "default",
    device: str = "auto",
    threads: int = 0,
    quiet: Quiet = False,
) -> int:
    """Say what a folder of noisy recordings is worth as material to learn from.

    Parameters
    ----------
    noisy_dir: Path
        any folder of recordings.
    model: str
        model that tells speech from noise: a name, or a folder.
    device: str
        auto, cpu, cuda or another device that torch knows.
    threads: int
        CPU threads; 0 leaves the choice to torch.
    quiet: bool
        show no progress.
    """
    import torch

    from miase.audit import audit as look_through
    from miase.enhance import Enhancer

    if threads:
        torch.set_num_threads(threads)
    found = look_through(noisy_dir, Enhancer.from_pretrained(model, device), quiet=quiet)
    for name, text in found.facts():
        print(f"{name:<12}  {text}")
    for warning in found.warnings():
        print(f"warning: {warning}")
    for failure in found.failures:
        print(f"miase: left out: {failure}", file=sys.stderr)
    if reason := found.refusal():
        print(f"miase: {noisy_dir} cannot serve to adapt a model: {reason}", file=sys.stderr)
        return 1
    return 0


def adapt(
    noisy_dir: Path,
    *,
    out: Annotated[Path, Parameter(name=("-o", "--out"))],
    model: Annotated[str, Parameter(name=("-m", "--model"))] = "default",
    config: Annotated[AdaptConfig, Parameter(name="*")] = AdaptConfig(),  # noqa: B008 - frozen
    quiet: Quiet = False,
) -> int:
    """Fit a model to noisy recordings, in minutes; no clean speech is needed.

    The new weights are kept where they do better on recordings held out; else the folder holds the
    weights it began with, and the exit code is 3. The same command goes on with a run that was stopped.

    Parameters
    ----------
    noisy_dir: Path
        any folder of noisy speech; ten minutes or more are advised.
    out: Path
        folder of the new model, for 'miase enhance -m'.
    model: str
        model to begin with: a name, or the folder of one.
    quiet: bool
        print nothing but errors and warnings.
    """
    from miase.adapt import adapt as run
    from miase.audit import Audit

    def tell(found: Audit) -> None:
        for warning in found.warnings():
            print(f"miase: {warning}", file=sys.stderr)
        if not quiet:
            print(f"{len(found.useful)} recordings to learn from, {config.minutes:g} minutes of training")

    result = run(noisy_dir, out, model, config, quiet=quiet, on_audit=tell)
    for failure in result.training.failures:
        print(f"miase: left out: {failure}", file=sys.stderr)
    if result.comparison is None:
        print(
            f"miase: interrupted at step {result.training.step}; {out} holds the weights of {model}; "
            f"go on with the same command",
            file=sys.stderr,
        )
        return 130
    if not result.adapted:
        print(
            f"miase: {result.comparison.sentence()} {out} holds the weights of {model}, unchanged",
            file=sys.stderr,
        )
        return NOT_BETTER
    if not quiet:
        print("\n".join(result.comparison.table()))
        print(f"{result.comparison.sentence()} Use it with: miase enhance FILE -m {out}")
    return 0


def corpus(
    options: Annotated[CorpusOptions, Parameter(name="*")],
) -> int:
    """Make noisy recordings from speech and noise, to train or to test with.

    Writes noisy/, clean/ and manifest.jsonl.
    """
    from miase.corpus import make_corpus

    report = make_corpus(options)
    for failure in report.failures:
        print(f"miase: {failure}", file=sys.stderr)
    if not options.quiet:
        print(f"{report.n_written} noisy files, {report.seconds / 60:.1f} minutes, in {options.output}")
    return 1 if report.failures else 0


def evaluate(
    *,
    noisy: Path | None = None,
    clean: Path | None = None,
    enhanced: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    model: Annotated[tuple[str, ...], Parameter(name=("-m", "--model"), consume_multiple=True)] = (),
    metrics: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    out: Annotated[tuple[Path, ...], Parameter(name=("-o", "--out"))] = (),
    jobs: int = 1,
    seed: int = 0,
    lead_in: float = 0.0,
    device: str = "cpu",
    protocol: Literal["n2n"] | None = None,
    speech: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    noise: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    limit: int = 50,
    summary_only: bool = False,
    quiet: Quiet = False,
) -> int:
    """Measure how good estimates or systems are, with clean speech or without.

    Files are matched by their path below the folders. The noisy recordings are always judged, too.

    Parameters
    ----------
    noisy: Path
        folder of noisy recordings, or one that 'miase corpus' made, which brings its clean speech.
    clean: Path
        folder of the clean speech; without it: what can be said without, and which files got worse.
    enhanced: Path
        folders of estimates.
    model: str
        systems to run: models as for enhance; low_pass, spectral_subtraction, wiener, log_mmse; or, where
        they are installed, noisereduce, rnnoise, deepfilternet, webrtc.
    metrics: str
        which, instead of the usual ones; dnsmos stands for its four.
    out: Path
        report to write: .csv, .json, .md or .html; may be given several times; without it, it is printed.
    jobs: int
        files at a time, each in a process of its own; the results do not depend on it.
    seed: int
        of the bootstrap intervals, and of the corpora of a protocol.
    lead_in: float
        seconds at the start of each file that systems hear but that are not judged.
    device: str
        cpu, cuda or another device that torch knows, for our models.
    protocol: str
        instead of noisy: make the corpora of a published table, and print its numbers beside ours.
    speech: Path
        with a protocol: folders of clean speech.
    noise: Path
        with a protocol: folders with files named as in UrbanSound8K.
    limit: int
        with a protocol: utterances in each row.
    summary_only: bool
        leave single files out of the reports, their rows and their sounds.
    quiet: bool
        print no progress.
    """
    from contextlib import AbstractContextManager, nullcontext
    from dataclasses import replace

    from miase.errors import EvaluationError
    from miase.evaluate import Evaluation, Options
    from miase.evaluate import evaluate as run
    from miase.protocol import evaluate_n2n
    from miase.report import as_text, check_report_path, write_report
    from miase.report.tables import once_for_all_systems
    from miase.stamp import command_line

    for path in out:
        check_report_path(path, summary_only)
    options = Options(metrics, jobs, seed, device, quiet, lead_in=lead_in)
    context: AbstractContextManager[Evaluation]
    if protocol is None and noisy is not None:
        context = nullcontext(run(noisy, clean, enhanced, model, options))
    elif protocol is not None and speech and noise and noisy is None:
        context = evaluate_n2n(speech, noise, model, options, limit)
    else:
        raise EvaluationError("give either --noisy DIR, or --protocol with --speech DIR and --noise DIR")
    # Without what changes no value: --jobs, -o, -q.
    flags = {
        "--noisy": noisy, "--clean": clean, "--enhanced": enhanced,
        "--protocol": protocol, "--speech": speech, "--noise": noise, "--limit": protocol and limit,
        "-m": model, "--metrics": metrics, "--seed": seed, "--lead-in": lead_in,
        "--device": device if device != "cpu" else None,
    }  # fmt: skip
    command = command_line("evaluate", flags)
    with context as found:
        evaluation = replace(found, stamp={"command": command, **found.stamp})
        for path in out:
            write_report(evaluation, path, summary_only)
        if not out:
            print(as_text(evaluation), end="")
    for line in once_for_all_systems(evaluation, evaluation.failed):
        print(f"miase: {line}", file=sys.stderr)
    return 1 if evaluation.failed else 0


def export(
    *,
    out: Annotated[Path, Parameter(name=("-o", "--out"))],
    model: Annotated[str, Parameter(name=("-m", "--model"))] = "default",
    int8: bool = False,
    overwrite: bool = False,
    quiet: Quiet = False,
) -> int:
    """Write a model as one ONNX file, waveform in and waveform out.

    Parameters
    ----------
    out: Path
        file to write, NAME.onnx.
    model: str
        name from 'miase models list', or the folder of a model or of a training run.
    int8: bool
        weights and products in 8 bits: a smaller file, at the cost in quality that is printed.
    overwrite: bool
        replace a file that is there.
    quiet: bool
        print nothing but errors.
    """
    from miase.export import export_onnx

    done = export_onnx(model, out, int8=int8, overwrite=overwrite)
    if not quiet:
        print(f"{done.path}: {done.n_bytes / 1e6:.1f} MB")
        print(
            f"difference from PyTorch: {done.largest_difference:.1e} at most, {done.error_db:.0f} dB; "
            f"onnxruntime takes 1/{done.speed:.2f} of the time of the network in PyTorch"
        )
    return 0


def doctor() -> int:
    """Show versions, devices, codecs and weights."""
    from miase.doctor import examine

    healthy = True
    for check in examine():
        healthy = healthy and check.ok
        print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<16}  {check.found}")
    return 0 if healthy else 1


def models_list() -> int:
    """List the packaged models."""
    from miase.checkpoint import read_config
    from miase.errors import WeightsError
    from miase.registry import available, resolve

    failed = False
    for name in available():
        try:
            config, _ = read_config(resolve(name))
            print(f"{name:<16}  {config.name:<16}  {config.sample_rate} Hz")
        except WeightsError as error:
            failed = True
            print(f"miase: {error}", file=sys.stderr)
    return 1 if failed else 0


def models_info(name: str) -> int:
    """Show a model's card.

    Parameters
    ----------
    name: str
        a packaged model, or the folder of one.
    """
    from miase.checkpoint import read_card
    from miase.registry import resolve

    print(read_card(resolve(name)))
    return 0


def models_verify() -> int:
    """Compare the weights of the packaged models with their SHA-256."""
    from miase.checkpoint import load_pretrained
    from miase.errors import WeightsError
    from miase.registry import available, resolve

    failed = False
    for name in available():
        try:
            load_pretrained(resolve(name))
            print(f"ok    {name}")
        except WeightsError as error:
            failed = True
            print(f"FAIL  {name}: {error}")
    return 1 if failed else 0
