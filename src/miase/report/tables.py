"""An evaluation as tables of text, for the terminal, Markdown and the page."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from miase.evaluate import Evaluation, metric_row
from miase.metrics import METRICS
from miase.scoring import NOISY, Score
from miase.summary import Summary, compare, summarise

LEADING = ("pesq_wb", "si_sdr", "stoi", "dnsmos_ovrl")  # the first that was asked for ranks the files
MOST_WITH_STD = 6  # columns that have room for a deviation


@dataclass(frozen=True)
class Table:
    """A heading, the names of the columns, and rows of as many cells."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def show(value: float, metric: str) -> str:
    """A value with the digits that its metric deserves; an undefined one is a dash."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    digits = 2 if metric_row(metric).unit else 3
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: there is no −0.00


def summary_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Means, statistics with paired differences from the noisy recordings, and between systems."""
    if evaluation.groups:
        yield _means(evaluation)
    yield _statistics(evaluation)
    if len(evaluation.systems) > 2:
        yield _between(evaluation)


def source_lines(evaluation: Evaluation) -> list[str]:
    """What the numbers beside a published table are made of; nothing where there is none."""
    return [f"{key}: {evaluation.stamp[key]}" for key in ("ours", "published") if evaluation.published]


def file_table(evaluation: Evaluation) -> Table:
    """One row for each file and system."""
    rows = (
        (
            score.file,
            score.system,
            *(show(score.values[name], name) for name in evaluation.metrics),
            remark(score),
        )
        for score in evaluation.scores
    )
    return Table("Files", ("file", "system", *evaluation.metrics, "remarks"), tuple(rows))


def remark(score: Score) -> str:
    """Error, verdict, warnings, and why values are undefined, in one line."""
    if score.error:
        return f"error: {score.error}"
    parts = [f"worse: {score.worse}"] if score.worse else []
    parts += score.warnings
    names_of: dict[str, list[str]] = {}
    for name, reason in score.reasons.items():
        names_of.setdefault(reason, []).append(name)
    return "; ".join((*parts, *(f"{', '.join(names)}: {reason}" for reason, names in names_of.items())))


def problem_lines(evaluation: Evaluation, has_file_table: bool = True) -> Iterator[str]:
    """What a reader of the means has to know about single files, the first three of each kind."""
    for what, found in (
        ("could not be judged", evaluation.failed),
        ("seemed worse than before", [score for score in evaluation.scores if score.worse]),
        ("got cut to a common length", [score for score in evaluation.scores if score.warnings]),
        ("had undefined values", [score for score in evaluation.scores if _undefined(score)]),
    ):
        if found:
            files = len({score.file for score in found})
            yield f"{files} of {_n_files(evaluation)} files {what}:"
            lines = once_for_all_systems(evaluation, found)
            shown = lines if what.startswith("seemed") else lines[:3]
            yield from (f"  {line}" for line in shown)
            if len(lines) > len(shown):
                where = "in the table of files" if has_file_table else "in a report (-o scores.html)"
                yield f"  and {len(lines) - len(shown)} more, {where}"


def once_for_all_systems(evaluation: Evaluation, scores: Sequence[Score]) -> list[str]:
    """Lines "file (systems): remark"; without systems where all share it: it is the trouble of the file."""
    systems_of: dict[tuple[str, str], list[str]] = {}
    for score in scores:
        systems_of.setdefault((score.file, remark(score)), []).append(score.system)
    return [
        f"{file}: {text}" if len(names) == len(evaluation.systems) else f"{file} ({', '.join(names)}): {text}"
        for (file, text), names in systems_of.items()
    ]


def _undefined(score: Score) -> bool:
    # Of folders and the noisy files self_consistency is never defined; that says nothing of the file.
    return not score.error and bool(score.reasons.keys() - {"self_consistency"})


def leading_metric(evaluation: Evaluation) -> str:
    """The metric that files are ranked by."""
    return next((name for name in LEADING if name in evaluation.metrics), evaluation.metrics[0])


def _n_files(evaluation: Evaluation) -> int:
    return len({score.file for score in evaluation.scores})


def _means(evaluation: Evaluation) -> Table:
    """Rows of groups and systems, of few metrics with the deviation; and what others printed."""
    with_std = len(evaluation.metrics) <= MOST_WITH_STD
    rows = []
    for group in (*evaluation.groups, None):
        for system in evaluation.systems:
            columns = [evaluation.column(system, name, group) for name in evaluation.metrics]
            cells = []
            for values, name in zip(columns, evaluation.metrics, strict=True):
                summary = summarise(values, evaluation.seed)
                std = f" ± {show(summary.std, name)}" if with_std and summary.n > 1 else ""
                cells.append(show(summary.mean, name) + std)
            rows.append((group or "all", system, str(len(columns[0])), *cells))
        for label, means in evaluation.published.get(group or "", {}).items():
            cells = [show(means.get(name, math.nan), name) for name in evaluation.metrics]
            rows.append((group or "all", label, "", *cells))
    title = f"Means{' ± standard deviations' if with_std else ''} by noise"
    return Table(title, ("noise", "system", "files", *evaluation.metrics), tuple(rows))


def _statistics(evaluation: Evaluation) -> Table:
    rows = []
    for name in evaluation.metrics:
        noisy = evaluation.column(NOISY, name)
        for system in evaluation.systems:
            values = evaluation.column(system, name)
            summary = summarise(values, evaluation.seed)
            row = (name, system, _counts(summary), show(summary.mean, name), show(summary.std, name))
            difference = ("", "", "")
            if system != NOISY and name in METRICS:
                difference = _difference(values, noisy, name, evaluation.seed)
            rows.append((*row, _interval(summary, name), *difference))
    interval = "95 % interval"
    header = ("metric", "system", "files", "mean", "std", interval, "less noisy", interval, "better/worse")
    return Table("Statistics", header, tuple(rows))


def _between(evaluation: Evaluation) -> Table:
    rows = []
    for name in evaluation.metrics:
        if name in METRICS:
            for first, second in combinations(evaluation.systems[1:], 2):
                ours, theirs = evaluation.column(first, name), evaluation.column(second, name)
                rows.append((name, first, second, *_difference(ours, theirs, name, evaluation.seed)))
    header = ("metric", "system", "less system", "difference", "95 % interval", "better/worse")
    return Table("Between systems, file by file", header, tuple(rows))


def _difference(
    ours: Sequence[float], theirs: Sequence[float], metric: str, seed: int
) -> tuple[str, str, str]:
    found = compare(ours, theirs, metric_row(metric).higher_is_better, seed)
    summary = found.summary
    return show(summary.mean, metric), _interval(summary, metric), f"{found.n_better}/{found.n_worse}"


def _interval(summary: Summary, metric: str) -> str:
    return f"{show(summary.low, metric)} to {show(summary.high, metric)}" if summary.n >= 2 else "–"


def _counts(summary: Summary) -> str:
    """How many values the mean is of, and how many it leaves out."""
    parts = [str(summary.n)]
    parts += [f"{summary.n_undefined} undefined"] if summary.n_undefined else []
    parts += [f"{summary.n_infinite} infinite"] if summary.n_infinite else []
    return ", ".join(parts)
