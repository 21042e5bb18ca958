"""The verbs of the command line: their flags, and what they print. Work is done elsewhere."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from miase.config import EnhanceConfig, RunConfig
from miase.corpus import CorpusOptions

Out = Annotated[Path, Parameter(name=("-o", "--out"))]
Quiet = Annotated[bool, Parameter(name=("-q", "--quiet"), negative="")]
Flag = Annotated[bool, Parameter(negative="")]


def enhance(
    *inputs: Path,
    out: Annotated[Path | None, Parameter(name=("-o", "--out"))] = None,
    model: Annotated[str, Parameter(name=("-m", "--model"))] = "default",
    config: Annotated[EnhanceConfig, Parameter(name="*")] = EnhanceConfig(),  # noqa: B008 - frozen
    file_format: Annotated[str | None, Parameter(name="--format")] = None,
    skip_existing: Flag = False,
    overwrite: Flag = False,
    device: str = "auto",
    jobs: int = 1,
    threads: int = 0,
    log_json: Flag = False,
    quiet: Quiet = False,
) -> int:
    """Take the noise out of recordings.

    Rate, length, channels, format and sample format come back as they went in.

    Parameters
    ----------
    inputs: Path
        Sound files, and folders that are read with their subfolders.
    out: Path
        Output file (for one input) or folder, which keeps names and tree. Without it: STEM_enhanced.EXT beside the input.
    model: str
        A name from 'miase models list', or the folder of a model or of a training run.
    file_format: str
        Write this format (wav, flac, ogg, opus, mp3, aiff, w64) instead of the input's.
    skip_existing: bool
        Leave outputs alone that are there already.
    overwrite: bool
        Replace outputs that are there already. Inputs are never overwritten.
    device: str
        auto, cpu, cuda or another device that torch knows.
    jobs: int
        Files at a time, each in a process of its own.
    threads: int
        CPU threads in all; 0 leaves the choice to torch.
    log_json: bool
        Print a line of JSON for each file on standard output.
    quiet: bool
        Show no progress; errors are still printed.
    """
    from miase.batch import BatchOptions, enhance_files

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
        quiet=quiet or log_json,
    )
    failures = []
    counts = {"done": 0, "skipped": 0, "failed": 0}
    for outcome in enhance_files(inputs, out, config, options):
        counts[outcome.status] += 1
        if log_json:
            print(outcome.as_json(), flush=True)
        if outcome.status == "failed":
            failures.append(outcome)
        if outcome.n_clipped and not quiet:
            print(
                f"{outcome.target}: {outcome.n_clipped} samples were clipped at full scale", file=sys.stderr
            )
    if not quiet and not log_json:
        skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
        print(f"{counts['done']} enhanced{skipped}, {counts['failed']} failed")
    for outcome in failures:
        print(f"miase: {outcome.error}", file=sys.stderr)
    if sum(counts.values()) == 0:
        print(f"miase: no sound files in {', '.join(map(str, inputs))}", file=sys.stderr)
        return 1
    return 1 if failures else 0


def train(
    noisy_dir: Path,
    *,
    out: Out,
    config: Path | None = None,
    resume: Flag = False,
    run: Annotated[RunConfig, Parameter(name="*")] = RunConfig(),  # noqa: B008 - frozen
    quiet: Quiet = False,
) -> int:
    """Train a model on a folder of noisy recordings; no clean speech is needed.

    Parameters
    ----------
    noisy_dir: Path
        Any folder of recordings, or one that 'miase corpus' made.
    out: Path
        Folder of the run: config.toml, metrics.jsonl, checkpoints/ and model/.
    config: Path
        TOML file with settings; flags come before it.
    resume: bool
        Go on with the run in the folder, with its settings.
    quiet: bool
        Show no progress.
    """
    from miase.train import fit

    result = fit(noisy_dir, out, run, resume=resume, quiet=quiet)
    for failure in result.failures:
        print(f"miase: left out: {failure}", file=sys.stderr)
    if not result.finished:
        print(
            f"interrupted at step {result.step}; go on with: miase train {noisy_dir} -o {out} --resume",
            file=sys.stderr,
        )
        return 130
    if not quiet:
        print(f"{result.step} steps done; use it with: miase enhance FILE -m {result.model_dir}")
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
    from miase.registry import available, resolve

    for name in available():
        config, _ = read_config(resolve(name))
        print(f"{name:<16}  {config.name:<16}  {config.sample_rate} Hz")
    return 0


def models_info(name: str) -> int:
    """Show a model's card.

    Parameters
    ----------
    name: str
        A packaged model, or the folder of one.
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
