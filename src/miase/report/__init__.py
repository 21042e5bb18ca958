"""An evaluation as a file: CSV, JSON, Markdown or a page of HTML, and as text for the terminal.

Undefined values are empty in CSV and null in JSON, with their reasons beside them; infinite ones are "inf"
and "-inf". Numbers are rounded to six decimals. There is no date in them: the same files give the same bytes.
"""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from miase.checkpoint import written_whole
from miase.errors import EvaluationError
from miase.evaluate import Evaluation, metric_row
from miase.metrics import METRICS
from miase.report.page import as_html
from miase.report.tables import Table, file_table, problem_lines, remark, source_lines, summary_tables
from miase.scoring import NOISY
from miase.summary import Summary, compare, summarise


def check_report_path(path: Path, summary_only: bool = False) -> None:
    """Raise EvaluationError when a report cannot have that name; better before the work than after it."""
    allowed = [suffix for suffix in WRITERS if suffix != ".csv" or not summary_only]
    if path.suffix.lower() not in allowed:
        without = " without single files" if summary_only else ""
        raise EvaluationError(
            f"{path} names no report{without}; its suffix must be one of {', '.join(allowed)}"
        )
    if path.is_dir():
        raise EvaluationError(f"{path} is a folder; name a file for the report")


def write_report(evaluation: Evaluation, path: Path, summary_only: bool = False) -> None:
    """Write a report in the format that the suffix names.

    Args:
        evaluation: what to write.
        path: the file; folders that it needs are made.
        summary_only: leave single files out; not in CSV, which holds nothing else.

    Raises:
        EvaluationError: the suffix names none, or the file cannot be written.
    """
    check_report_path(path, summary_only)
    text = WRITERS[path.suffix.lower()](evaluation, summary_only)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            temporary.write_bytes(text.encode("utf-8"))
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written ({error.strerror}); name another file") from error


def as_text(evaluation: Evaluation) -> str:
    """The tables of means and what is to know of single files, for the terminal."""
    parts = [_text_table(table) for table in summary_tables(evaluation)]
    parts.insert(1, "\n".join(source_lines(evaluation)))
    parts.append("\n".join(problem_lines(evaluation, has_file_table=False)))
    return "\n\n".join(part for part in parts if part) + "\n"


def as_csv(evaluation: Evaluation, summary_only: bool = False) -> str:
    """One row for each file and system, below the stamp in lines that start with #; there is no summary."""
    out = io.StringIO()
    for line in stamp_lines(evaluation.stamp):
        out.write(f"# {line}\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("file", "system", "group", "seconds", "sample_rate", *evaluation.metrics, "remarks"))
    for score in evaluation.scores:
        cells = [_number(score.values[name]) for name in evaluation.metrics]
        writer.writerow(
            (
                score.file,
                score.system,
                score.group,
                round(score.seconds, 6),
                score.sample_rate,
                *("" if cell is None else cell for cell in cells),
                remark(score),
            )
        )
    return out.getvalue()


def as_json(evaluation: Evaluation, summary_only: bool = False) -> str:
    """Everything: stamp, statistics, paired differences, the statistics of each group, and the files."""
    groups = {group: _statistics(evaluation, group) for group in evaluation.groups}
    values: dict[str, Any] = {
        "stamp": evaluation.stamp,
        "statistics": _statistics(evaluation, None),
        "differences": _differences(evaluation),
        "groups": groups,
        "published": evaluation.published,
    }
    if not summary_only:
        values["files"] = [
            {
                **asdict(score),
                "seconds": round(score.seconds, 6),
                "values": {name: _number(value) for name, value in score.values.items()},
            }
            for score in evaluation.scores
        ]
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_markdown(evaluation: Evaluation, summary_only: bool = False) -> str:
    """Tables of means, differences and files, and the stamp."""
    tables = list(summary_tables(evaluation))
    problems = "\n".join(
        f"  - {line.strip()}" if line.startswith(" ") else f"- {line}"
        for line in problem_lines(evaluation, not summary_only)
    )
    stamp = "\n".join(f"- {line}" for line in stamp_lines(evaluation.stamp))
    parts = [f"## {table.title}\n\n{markdown_table(table)}" for table in tables]
    if problems:
        parts.append(f"## Remarks\n\n{problems}")
    if not summary_only:
        files = file_table(evaluation)
        parts.append(f"## {files.title}\n\n{markdown_table(files)}")
    sources = "\n".join(f"- {line}" for line in source_lines(evaluation))
    parts = ["# Evaluation", sources, *parts, f"## How it was made\n\n{stamp}"]
    return "\n\n".join(part for part in parts if part) + "\n"


WRITERS = {".csv": as_csv, ".json": as_json, ".md": as_markdown, ".html": as_html}
"""The formats by suffix."""


def _number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return round(value, 6)


def _statistics(evaluation: Evaluation, group: str | None) -> dict[str, Any]:
    return {
        system: {
            name: _summary(summarise(evaluation.column(system, name, group), evaluation.seed))
            for name in evaluation.metrics
        }
        for system in evaluation.systems
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        name: _number(value) if isinstance(value, float) else value for name, value in vars(summary).items()
    }


def _differences(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Every system less noisy, then every system less each that follows it."""
    systems = evaluation.systems
    pairs = [(system, NOISY) for system in systems[1:]] + list(combinations(systems[1:], 2))
    found = []
    for system, baseline in pairs:
        for name in evaluation.metrics:
            if name in METRICS:
                ours, theirs = evaluation.column(system, name), evaluation.column(baseline, name)
                difference = compare(ours, theirs, metric_row(name).higher_is_better, evaluation.seed)
                counts = {"n_better": difference.n_better, "n_worse": difference.n_worse}
                what = {"system": system, "less": baseline, "metric": name}
                found.append(what | _summary(difference.summary) | counts)
    return found


def stamp_lines(values: Any, path: str = "") -> list[str]:
    """A nested stamp as lines "a.b: value"."""
    if not isinstance(values, dict):
        return [f"{path}: {values}"]
    return [
        line for key, value in values.items() for line in stamp_lines(value, f"{path}.{key}" if path else key)
    ]


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]


def _text_table(table: Table) -> str:
    lines = (table.header, *table.rows)
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    shown = ["  ".join(_padded(line, widths)).rstrip() for line in lines]
    return "\n".join((table.title, *shown))


def markdown_table(table: Table) -> str:
    """A table in Markdown, its columns aligned for those who read the source."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (table.header, *table.rows)]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(table.header))]
    lines = [f"| {' | '.join(_padded(line, widths))} |" for line in cells]
    lines.insert(1, f"| {' | '.join('-' * width for width in widths)} |")
    return "\n".join(lines)
