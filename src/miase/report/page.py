"""An evaluation as one page of HTML that needs no network: tables, distributions, sounds and spectrograms."""

import html
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from miase.evaluate import Evaluation, metric_row
from miase.report.players import extremes
from miase.report.tables import Table, file_table, problem_lines, source_lines, summary_tables
from miase.scoring import NOISY
from miase.summary import summarise

Levels = npt.NDArray[np.float64]
Scale = Callable[[float], str]  # value -> horizontal place

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5c6670; --line: #d5dae0;
  --paper: #fff; --mark: #0b62b8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa5b1; --line: #39414a; --paper: #14181d; --mark: #6bb1f5 }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.2rem }
h3 { margin: 1.4rem 0 .3rem }
h3, figcaption, li { overflow-wrap: anywhere }
p.note { color: var(--soft); margin: .3rem 0 .6rem }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: .6rem 0; border: 1px solid var(--line);
  border-width: 1px 0 }
a { color: var(--mark); text-decoration: none }
a:hover { text-decoration: underline }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .2rem .6rem; text-align: left; white-space: nowrap }
th, tr.first td { border-top: 1px solid var(--line) }
th { border-top: 0; vertical-align: bottom }
tr:last-child td { border-bottom: 1px solid var(--line) }
tbody tr:hover { background: color-mix(in srgb, var(--mark) 8%, transparent) }
td.again { color: var(--soft) }
.number { text-align: right }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr));
  gap: 0 2rem }
svg { width: 100%; max-width: 46rem; height: auto; display: block }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink) }
svg .soft { fill: var(--soft) }
svg .grid { stroke: var(--line) }
svg .box { fill: var(--mark); fill-opacity: .25; stroke: var(--mark) }
svg .noisy { fill: var(--soft); stroke: var(--soft) }
svg .line { stroke: var(--ink); stroke-width: 1.5 }
svg .interval { stroke-width: 3.5 }
svg .mean { fill: var(--ink) }
.sounds { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem }
figure { margin: 0 }
figure img { width: 100%; display: block; background: #080820 }
audio { width: 100%; margin-top: .3rem }
summary { cursor: pointer }
pre { white-space: pre-wrap; font-size: 12px }
"""


def as_html(evaluation: Evaluation, summary_only: bool = False) -> str:
    """The page. Its policy forbids the browser to load anything from anywhere."""
    n_files = len(evaluation.column(NOISY, evaluation.metrics[0]))
    sections = [
        *(_table(table) for table in summary_tables(evaluation)),
        _problems(evaluation, summary_only),
        "<h2>Distributions</h2>",
        '<p class="note">Box: middle half of the files, with the median; line: 5 to 95 %; dot and bar: mean '
        "with its 95 % interval.</p>",
        f'<div class="plots">{"".join(_distribution(evaluation, name) for name in evaluation.metrics)}</div>',
        *([] if summary_only else _files(evaluation)),
        f"<h2>How it was made</h2>{_nested(evaluation.stamp)}",
    ]
    links, body = _with_links("\n".join(part for part in sections if part))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Evaluation</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "media-src data:; style-src 'unsafe-inline'\">",
        f"<style>{STYLE}</style></head><body>",
        "<h1>Evaluation</h1>",
        f"<p>{n_files} files, {_text(', '.join(evaluation.systems))}; "
        f"{'compared with clean speech' if evaluation.has_clean else 'judged without clean speech'}.</p>",
        *(f'<p class="note">{_text(line)}</p>' for line in source_lines(evaluation)),
        f"<nav>{links}</nav>",
        body,
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _with_links(body: str) -> tuple[str, str]:
    """Links to the sections of a page, and the page with the places that they lead to."""
    first, *sections = body.split("<h2>")
    places = [f'<h2 id="part{i}">{section}' for i, section in enumerate(sections, 1)]
    titles = [section.split("</h2>", 1)[0] for section in sections]
    links = "\n".join(f'<a href="#part{i}">{title}</a>' for i, title in enumerate(titles, 1))
    return links, first + "".join(places)


def _files(evaluation: Evaluation) -> Iterator[str]:
    yield from extremes(evaluation)
    yield "<h2>All files</h2><details><summary>Show the table</summary>"
    yield f"{_table(file_table(evaluation), '')}</details>"


def _text(text: object) -> str:
    return html.escape(str(text))


def _table(table: Table, title: str | None = None) -> str:
    title = table.title if title is None else title
    numbers = [all(_is_number(cell) for cell in column) for column in zip(*table.rows, strict=True)]
    classes = ["number" if is_number else "" for is_number in numbers] or [""] * len(table.header)
    rows, before = [], ""
    for row in table.rows:
        kinds = ("again", *classes[1:]) if row[0] == before else classes
        start = "<tr>" if row[0] == before else "<tr class=first>"
        rows.append(f"{start}{_cells('td', row, kinds)}</tr>\n")
        before = row[0]
    heading = f"<h2>{_text(title)}</h2>" if title else ""
    head = _cells("th", table.header, classes)
    grid = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{''.join(rows)}</tbody></table>"
    return f'{heading}<div class="scroll">{grid}</div>'


def _cells(tag: str, texts: Sequence[str], classes: Sequence[str]) -> str:
    return "".join(
        f"<{tag}{f' class={kind}' if kind else ''}>{_text(text)}</{tag}>"
        for text, kind in zip(texts, classes, strict=True)
    )


def _is_number(cell: str) -> bool:
    return not cell.strip("0123456789.−–∞± ")


def _problems(evaluation: Evaluation, summary_only: bool) -> str:
    lines = list(problem_lines(evaluation, not summary_only))
    return f"<h2>Remarks</h2><pre>{_text(chr(10).join(lines))}</pre>" if lines else ""


def _nested(values: object) -> str:
    if not isinstance(values, dict):
        return _text(values)
    items = "".join(f"<li>{_text(key)}: {_nested(value)}</li>" for key, value in values.items())
    return f"<ul>{items}</ul>"


# ---- distributions


def _distribution(evaluation: Evaluation, metric: str) -> str:
    """Box plots of the systems, as SVG within the page."""
    columns = [np.array(evaluation.column(system, metric)) for system in evaluation.systems]
    finite = [values[np.isfinite(values)] for values in columns]
    everything = np.concatenate(finite)
    row = metric_row(metric)
    better = "" if metric == "energy_kept" else f"{'higher' if row.higher_is_better else 'lower'} is better"
    about = ", ".join(part for part in (row.unit, better) if part)
    heading = f'<h3>{metric}</h3><p class="note">{about}</p>'
    if not everything.size:
        return f'<div>{heading}<p class="note">No file has a value.</p></div>'
    low, high = float(everything.min()), float(everything.max())
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    left, right, height = 160, 530, 30

    def x(value: float) -> str:
        return f"{left + (value - low) / (high - low) * (right - left):.1f}"

    bottom = height * len(columns) + 6
    marks = []
    for value in _ticks(low, high):
        at = x(value)
        marks.append(f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{bottom}"/>')
        marks.append(
            f'<text class="soft" x="{at}" y="{bottom + 14}" text-anchor="middle">{_minus(value)}</text>'
        )
    for i, (system, values) in enumerate(zip(evaluation.systems, finite, strict=True)):
        y = height * i + height // 2 + 3
        label = system if len(system) <= 22 else system[:10] + "…" + system[-10:]
        marks.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{_text(label)}</text>')
        if values.size:
            style = "box noisy" if system == NOISY else "box"
            marks.append(_box(values, evaluation.seed, x, y, style))
    name = f"Distribution of {metric} over the files, by system"
    picture = f'<svg viewBox="0 0 550 {bottom + 20}" role="img" aria-label="{name}">{"".join(marks)}</svg>'
    return f"<div>{heading}{picture}</div>"


def _minus(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _box(values: Levels, seed: int, x: Scale, y: int, style: str) -> str:
    p5, q1, median, q3, p95 = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
    summary = summarise(values, seed)
    width = max(float(x(q3)) - float(x(q1)), 1.0)
    parts = [
        f'<line class="line" x1="{x(p5)}" x2="{x(p95)}" y1="{y}" y2="{y}" stroke-opacity=".5"/>',
        f'<rect class="{style}" x="{x(q1)}" y="{y - 9}" width="{width:.1f}" height="18"/>',
        f'<line class="line" x1="{x(median)}" x2="{x(median)}" y1="{y - 9}" y2="{y + 9}"/>',
        f'<circle class="mean" cx="{x(summary.mean)}" cy="{y}" r="3.5"/>',
    ]
    if not math.isnan(summary.low):
        ends = f'x1="{x(summary.low)}" x2="{x(summary.high)}"'
        parts.append(f'<line class="line interval" {ends} y1="{y}" y2="{y}"/>')
    return "".join(parts)


def _ticks(low: float, high: float) -> Iterator[float]:
    """Four to nine round numbers from low to high."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (5, 2, 1) if (high - low) / (factor * step) >= 4)
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield round(i * step, 10)
