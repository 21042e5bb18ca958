"""Verbs that use a model: `enhance` and `export`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from miase.config import EnhanceConfig
from miase.verbs.flags import Quiet


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
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
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
    precision: str
        of the computing; bf16-mixed takes two thirds of the time on processors that know bfloat16.
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
        precision=precision,
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
