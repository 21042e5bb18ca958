"""The verb `evaluate`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from miase.verbs.flags import Quiet


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
        systems to run: models as for enhance, NAME@4 for 4 shifts, NAME@hear for the high band; low_pass,
        spectral_subtraction, wiener, log_mmse; or, where they are installed, noisereduce, rnnoise,
        deepfilternet, webrtc.
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
