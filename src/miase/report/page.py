"""An evaluation as one page of HTML that needs no network: tables, distributions, sounds and spectrograms."""

import base64
import html
import math
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from miase.errors import MiaseError
from miase.evaluate import Evaluation, metric_row
from miase.report.tables import Table, file_table, leading_metric, problem_lines, show, summary_tables
from miase.scoring import NOISY
from miase.sounds import Samples
from miase.summary import summarise
from miase.writing import save

N_SHOWN = 5  # best and worst files of each system
PLAYED_SECONDS = 6.0
WIDTH, HEIGHT = 320, 160  # of a spectrogram in pixels, at most
RANGE_DB = 70.0

Levels = npt.NDArray[np.float64]
Scale = Callable[[float], str]  # value -> horizontal place

# Colours of a spectrogram from silent to loud, between which it is interpolated.
COLOURS = ((8, 8, 32), (60, 20, 110), (150, 35, 110), (220, 80, 60), (250, 170, 50), (255, 250, 210))

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
p.note { color: var(--soft) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap }
svg { width: 100%; max-width: 46rem; height: auto; display: block }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink) }
svg .soft { fill: var(--soft) }
svg .grid { stroke: var(--line) }
svg .box { fill: var(--mark); fill-opacity: .25; stroke: var(--mark) }
svg .noisy { fill: var(--soft); stroke: var(--soft) }
svg .line { stroke: var(--ink); stroke-width: 1.5 }
svg .interval { stroke-width: 3.5 }
svg .mean { fill: var(--ink) }
.sounds { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0; width: 20rem; max-width: 100% }
figure img { width: 100%; display: block; background: #080820 }
audio { width: 100% }
summary { cursor: pointer }
pre { white-space: pre-wrap; font-size: 12px }
"""


def as_html(evaluation: Evaluation, summary_only: bool = False) -> str:
    """The page. Its policy forbids the browser to load anything from anywhere."""
    n_files = len(evaluation.column(NOISY, evaluation.metrics[0]))
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
        *(_table(table) for table in summary_tables(evaluation)),
        _problems(evaluation),
        "<h2>Distributions</h2>",
        '<p class="note">Box: middle half of the files, with the median; line: 5 to 95 %; dot and bar: mean '
        "with its 95 % interval.</p>",
        *(_distribution(evaluation, name) for name in evaluation.metrics),
        *([] if summary_only else _files(evaluation)),
        f"<h2>How it was made</h2>{_nested(evaluation.stamp)}",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _files(evaluation: Evaluation) -> Iterator[str]:
    yield from _extremes(evaluation)
    yield "<h2>All files</h2><details><summary>Show the table</summary>"
    yield f"{_table(file_table(evaluation), '')}</details>"


def _text(text: object) -> str:
    return html.escape(str(text))


def _table(table: Table, title: str | None = None) -> str:
    title = table.title if title is None else title
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.header)
    rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>\n" for row in table.rows)
    heading = f"<h2>{_text(title)}</h2>" if title else ""
    grid = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"
    return f'{heading}<div class="scroll">{grid}</div>'


def _problems(evaluation: Evaluation) -> str:
    lines = list(problem_lines(evaluation))
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
    unit = metric_row(metric).unit
    heading = f"<h3>{metric}{f' ({unit})' if unit else ''}</h3>"
    if not everything.size:
        return f'{heading}<p class="note">No file has a value.</p>'
    low, high = float(everything.min()), float(everything.max())
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    left, right, row = 170, 710, 30

    def x(value: float) -> str:
        return f"{left + (value - low) / (high - low) * (right - left):.1f}"

    bottom = row * len(columns) + 6
    marks = []
    for value in _ticks(low, high):
        at = x(value)
        marks.append(f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{bottom}"/>')
        marks.append(f'<text class="soft" x="{at}" y="{bottom + 14}" text-anchor="middle">{value:g}</text>')
    for i, (system, values) in enumerate(zip(evaluation.systems, finite, strict=True)):
        y = row * i + row // 2 + 3
        label = system if len(system) <= 22 else system[:10] + "…" + system[-10:]
        marks.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{_text(label)}</text>')
        if values.size:
            style = "box noisy" if system == NOISY else "box"
            marks.append(_box(values, evaluation.seed, x, y, style))
    name = f"Distribution of {metric} over the files, by system"
    return (
        f'{heading}<svg viewBox="0 0 740 {bottom + 20}" role="img" aria-label="{name}">{"".join(marks)}</svg>'
    )


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


# ---- sounds


def _extremes(evaluation: Evaluation) -> Iterator[str]:
    """The best and the worst files of each system, with their sounds."""
    metric = leading_metric(evaluation)
    for system in evaluation.systems[1:] or (NOISY,):
        ranked = _ranked(evaluation, system, metric)
        n_best = min(N_SHOWN, (len(ranked) + 1) // 2)
        n_worst = min(N_SHOWN, len(ranked) - n_best)
        what = metric if system == NOISY else f"the change of {metric}"
        for title, chosen in (("best", ranked[:n_best]), ("worst", ranked[::-1][:n_worst])):
            if chosen:
                yield f"<h2>{_text(system)}: the {len(chosen)} {title} files by {_text(what)}</h2>"
                yield from (_sounds(evaluation, file, system, text) for file, text in chosen)


def _ranked(evaluation: Evaluation, system: str, metric: str) -> list[tuple[str, str]]:
    """Files from best to worst, each with its values in words."""
    sign = 1 if metric_row(metric).higher_is_better else -1
    scores = {(score.file, score.system): score.values[metric] for score in evaluation.scores}
    found = []
    for file in dict.fromkeys(score.file for score in evaluation.scores):
        before, after = scores[file, NOISY], scores[file, system]
        gain = after if system == NOISY else after - before
        if math.isfinite(gain):
            change = "" if system == NOISY else f"{show(before, metric)} → "
            found.append((-sign * gain, file, f"{metric} {change}{show(after, metric)}"))
    return [(file, text) for _, file, text in sorted(found)]


def _sounds(evaluation: Evaluation, file: str, system: str, text: str) -> str:
    names = [NOISY, *([system] if system != NOISY else []), *(["clean"] if evaluation.has_clean else [])]
    try:
        sounds = {name: evaluation.hear(file, name) for name in names}
    except MiaseError as error:
        return f'<h3>{_text(file)}</h3><p class="note">{_text(error)}</p>'
    noisy, sample_rate = sounds[NOISY]
    n = round(PLAYED_SECONDS * sample_rate)
    loudest = float(np.quantile(_levels(noisy[0, :n], sample_rate), 0.998))
    figures = []
    for name, (samples, rate) in sounds.items():
        excerpt = samples[:2, :n]
        picture = _png(_pixels(_levels(excerpt[0], rate), loudest))
        label = f"{file}, {name}"
        figures.append(
            f'<figure><figcaption>{_text(name)}</figcaption><img alt="Spectrogram of {_text(label)}" '
            f'src="data:image/png;base64,{_base64(picture)}">'
            f'<audio controls preload="metadata" aria-label="{_text(label)}" '
            f'src="data:audio/flac;base64,{_base64(_flac(excerpt, rate))}"></audio></figure>'
        )
    seconds = noisy.shape[1] / sample_rate
    note = f"{text}; 0 to {sample_rate / 2000:g} kHz"
    if seconds > PLAYED_SECONDS:
        note += f"; the first {PLAYED_SECONDS:g} s of {seconds:.1f}"
    heading = f'<h3>{_text(file)}</h3><p class="note">{_text(note)}</p>'
    return f'{heading}<div class="sounds">{"".join(figures)}</div>'


def _levels(samples: Samples, sample_rate: int) -> Levels:
    """Spectrogram in dB of samples (time,): shape (freq, frame), not larger than a picture."""
    length = max(2, round(0.032 * sample_rate))
    hop = max(length // 4, -(-len(samples) // WIDTH))
    padded = np.pad(samples.astype(np.float64), length // 2)
    cut = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop][:WIDTH]
    power = np.abs(np.fft.rfft(cut * np.hanning(length + 1)[:-1])) ** 2
    n_rows = min(HEIGHT, power.shape[1])
    edges = np.linspace(0, power.shape[1], n_rows + 1).astype(int)[:-1]
    mean = np.add.reduceat(power, edges, axis=1) / np.diff(np.append(edges, power.shape[1]))
    return np.asarray(10 * np.log10(np.maximum(mean.T, 1e-10)))


def _pixels(levels: Levels, loudest: float) -> npt.NDArray[np.uint8]:
    """Numbers of the palette, high frequencies on top."""
    share = np.clip(1 + (levels - loudest) / RANGE_DB, 0, 1)
    return np.asarray(np.rint(255 * share[::-1]), np.uint8)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A picture with a palette: PNG specification, third edition, section 11."""
    steps = np.linspace(0, len(COLOURS) - 1, 256)
    palette = np.stack(
        [np.interp(steps, range(len(COLOURS)), [colour[i] for colour in COLOURS]) for i in range(3)], axis=1
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = np.pad(pixels, ((0, 0), (1, 0))).tobytes()  # each row starts with 0: no filter
    body = chunk(b"IHDR", header) + chunk(b"PLTE", np.rint(palette).astype(np.uint8).tobytes())
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def _flac(samples: Samples, sample_rate: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.flac"
        save(path, np.clip(samples, -1, 1), sample_rate)
        return path.read_bytes()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
