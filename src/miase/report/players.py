"""The best and the worst files of an evaluation as HTML: a spectrogram and a player of each sound."""

import base64
import math
import struct
import tempfile
import zlib
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from miase.errors import MiaseError
from miase.evaluate import Evaluation, metric_row
from miase.report.tables import leading_metric, show
from miase.scoring import NOISY
from miase.sounds import Samples
from miase.writing import save

N_SHOWN = 5  # best and worst files of each system
PLAYED_SECONDS = 6.0
WIDTH, HEIGHT = 320, 160  # of a spectrogram in pixels, at most
RANGE_DB = 70.0

Levels = npt.NDArray[np.float64]

# Colours of a spectrogram from silent to loud, between which it is interpolated.
COLOURS = ((8, 8, 32), (60, 20, 110), (150, 35, 110), (220, 80, 60), (250, 170, 50), (255, 250, 210))


def extremes(evaluation: Evaluation) -> Iterator[str]:
    """The best and the worst files of each system, with their sounds."""
    metric = leading_metric(evaluation)
    for system in evaluation.systems[1:] or (NOISY,):
        ranked = _ranked(evaluation, system, metric)
        n_best = min(N_SHOWN, (len(ranked) + 1) // 2)
        n_worst = min(N_SHOWN, len(ranked) - n_best)
        what = metric if system == NOISY else f"the change of {metric}"
        for title, chosen in (("best", ranked[:n_best]), ("worst", ranked[::-1][:n_worst])):
            if chosen:
                yield f"<h2>{escape(system)}: the {len(chosen)} {title} files by {escape(what)}</h2>"
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
        return f'<h3>{escape(file)}</h3><p class="note">{escape(str(error))}</p>'
    noisy, sample_rate = sounds[NOISY]
    n = round(PLAYED_SECONDS * sample_rate)
    loudest = float(np.quantile(_levels(noisy[0, :n], sample_rate), 0.998))
    figures = []
    for name, (samples, rate) in sounds.items():
        excerpt = samples[:2, :n]
        picture = _png(_pixels(_levels(excerpt[0], rate), loudest))
        label = f"{file}, {name}"
        figures.append(
            f'<figure><figcaption>{escape(name)}</figcaption><img alt="Spectrogram of {escape(label)}" '
            f'src="data:image/png;base64,{_base64(picture)}">'
            f'<audio controls preload="metadata" aria-label="{escape(label)}" '
            f'src="data:audio/flac;base64,{_base64(_flac(excerpt, rate))}"></audio></figure>'
        )
    seconds = noisy.shape[1] / sample_rate
    note = f"{text}; 0 to {sample_rate / 2000:g} kHz"
    if seconds > PLAYED_SECONDS:
        note += f"; the first {PLAYED_SECONDS:g} s of {seconds:.1f}"
    heading = f'<h3>{escape(file)}</h3><p class="note">{escape(note)}</p>'
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
