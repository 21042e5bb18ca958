"""Verbs that make a model: `corpus`, `train`, `compare`, `audit` and `adapt`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from miase.config import AdaptConfig, RunConfig
from miase.config_file import dump_toml
from miase.corpus import CorpusOptions
from miase.errors import ConfigError
from miase.verbs.flags import Quiet

NOT_BETTER = 3  # exit code of an adaptation that kept the weights it began with


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
    from miase.parallel import keep_memory
    from miase.train import fit

    keep_memory()
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
    from miase.parallel import keep_memory
    from miase.plan import load_plan
    from miase.report import markdown_table

    keep_memory()
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
    from miase.parallel import keep_memory

    def tell(found: Audit) -> None:
        for warning in found.warnings():
            print(f"miase: {warning}", file=sys.stderr)
        if not quiet:
            print(f"{len(found.useful)} recordings to learn from, {config.minutes:g} minutes of training")

    keep_memory()
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
