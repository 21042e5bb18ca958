"""The formats say the same; the page refers to nothing outside of itself."""

import csv
import json
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from miase.errors import EvaluationError
from miase.evaluate import Options, evaluate
from miase.report import as_csv, as_html, as_json, as_markdown, as_text, write_report
from miase.report.page import _ticks
from miase.report.players import _png
from miase.report.tables import show
from miase.writing import save
from signals import speech_like, white

RATE = 16_000


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """Twelve files; the estimate of one is perfect, of one silent, of one missing its second half."""
    folder = tmp_path_factory.mktemp("files")
    for i in range(12):
        name = f"{i:02d} <&| {'ü' if i else ''}.wav"
        clean = speech_like(0.5, RATE, seed=i).astype(np.float32)
        noisy = clean + (0.1 * white(0.5, RATE, seed=i)).astype(np.float32)
        estimate = {0: clean, 1: 0 * clean, 2: clean[:4000]}.get(
            i, clean + (0.5 + 0.02 * i) * (noisy - clean)
        )
        for part, samples in (("clean", clean), ("noisy", noisy), ("ours", estimate)):
            (folder / part).mkdir(exist_ok=True)
            save(folder / part / name, samples[None], RATE, subtype="FLOAT")
    return evaluate(
        folder / "noisy",
        folder / "clean",
        [folder / "ours"],
        ["wiener"],
        Options(metrics=("si_sdr", "snr"), quiet=True),
    )


def test_json_holds_everything_and_no_number_that_json_lacks(evaluation):
    found = json.loads(as_json(evaluation))
    files = {(row["file"][:2], row["system"]): row for row in found["files"]}
    assert len(files) == 36
    assert files["00", "ours"]["values"]["snr"] == "inf"
    assert files["01", "ours"]["values"]["si_sdr"] is None
    assert "constant" in files["01", "ours"]["reasons"]["si_sdr"]
    assert "250.0 ms" in files["02", "ours"]["error"]
    ours = found["statistics"]["ours"]["snr"]
    assert (ours["n"], ours["n_undefined"], ours["n_infinite"]) == (10, 1, 1)
    values = [row["values"]["snr"] for row in found["files"] if row["system"] == "ours"]
    assert ours["mean"] == pytest.approx(np.mean([v for v in values if isinstance(v, float)]), abs=1e-5)
    pairs = {(row["system"], row["less"]) for row in found["differences"]}
    assert pairs == {("ours", "noisy"), ("wiener", "noisy"), ("ours", "wiener")}
    assert found["stamp"]["metrics"]["si_sdr"].startswith("Le Roux")
    assert found["stamp"]["packages"]["numpy"] == np.__version__
    assert len(found["stamp"]["files"]["sha256"]) == 64


def test_csv_holds_the_same_values_below_its_stamp(evaluation):
    lines = as_csv(evaluation).splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("# ")))
    values = {(row["file"], row["system"]): row for row in json.loads(as_json(evaluation))["files"]}
    assert len(rows) == 36
    for row in rows:
        expected = values[row["file"], row["system"]]["values"]["si_sdr"]
        assert row["si_sdr"] == ("" if expected is None else str(expected))
    assert any(line.startswith("# files.sha256: ") for line in lines)


def test_markdown_and_text_have_the_noisy_row_and_name_the_files_with_trouble(evaluation):
    markdown, text = as_markdown(evaluation), as_text(evaluation)
    for report in (markdown, text):
        assert "10, 1 undefined, 1 infinite" in report
        assert "could not be judged" in report
        assert "snr" in report
        assert "noisy" in report
    assert "00 <&\\| .wav" in markdown
    widths = {line.count("|") - line.count("\\|") for line in markdown.splitlines() if "| snr" in line}
    assert len(widths) >= 1
    assert "## How it was made" in markdown


def test_trouble_that_all_systems_share_is_told_once(tmp_path):
    for i, n in enumerate((8000, 7840, 7000)):
        for part, length in (("noisy", 8000), ("clean", n)):
            (tmp_path / part).mkdir(exist_ok=True)
            save(tmp_path / part / f"{i}.wav", speech_like(0.5, RATE)[None, :length].astype(np.float32), RATE)
    options = Options(metrics=("snr",), quiet=True)
    text = as_text(evaluate(tmp_path / "noisy", tmp_path / "clean", (), ["wiener"], options))
    assert text.count("  2.wav: error: ") == text.count("2.wav") - text.count("clean/2.wav") == 1
    assert text.count("  1.wav: lengths differ by 160 samples") == text.count("1.wav") == 1


class Page(HTMLParser):
    """Collects tags and their attributes, and checks that they close."""

    VOID = frozenset({"meta", "img", "line", "rect", "circle", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_asks_the_network_for_nothing(evaluation):
    source = as_html(evaluation)
    page = Page()
    page.feed(source)
    assert not page.open
    addresses = [
        v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href", "srcset", "action")
    ]
    links = [address for address in addresses if address.startswith("#")]
    assert links
    assert {link[1:] for link in links} == {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert addresses
    embedded = [address for address in addresses if address not in links]
    assert embedded
    assert all(address.startswith(("data:image/png;", "data:audio/flac;")) for address in embedded)
    assert "://" not in source
    assert "url(" not in source
    assert "@import" not in source
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.tags)
    policy = next(attrs["content"] for tag, attrs in page.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")
    kinds = [tag for tag, _ in page.tags]
    # Of 12 files with a finite change five best and five worst, of 9 five and four; three sounds each.
    assert kinds.count("audio") == kinds.count("img") == (10 + 9) * 3
    assert kinds.count("svg") == 2
    assert "00 <&| .wav" in page.text
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")


def test_a_summary_names_no_single_file_but_those_with_trouble(evaluation):
    whole, short = json.loads(as_json(evaluation)), json.loads(as_json(evaluation, summary_only=True))
    assert whole.pop("files")
    assert short == whole
    for write in (as_markdown, as_html):
        text = write(evaluation, summary_only=True)
        assert "Statistics" in text
        assert "How it was made" in text
        assert "05 <" not in text
        assert "05 &lt;" not in text
    assert "<audio" not in text


def test_a_few_files_are_never_both_best_and_worst(tmp_path):
    for part, gain in (("noisy", 0.2), ("clean", 0.0)):
        (tmp_path / part).mkdir()
        for i in range(3):
            samples = speech_like(0.3, RATE, seed=i) + gain * white(0.3, RATE, seed=i)
            save(tmp_path / part / f"{i}.wav", samples[None].astype(np.float32), RATE)
    options = Options(metrics=("snr",), quiet=True)
    source = as_html(evaluate(tmp_path / "noisy", tmp_path / "clean", options=options))
    assert source.count("<audio") == 3 * 2
    assert "the 2 best files by snr" in source
    assert "the 1 worst files by snr" in source


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.004, "0.00"), (-0.006, "−0.01"), (np.nan, "–"), (-np.inf, "−∞"), (12.346, "12.35")],
)
def test_values_are_shown_in_short(value, text):
    assert show(value, "snr") == text


def test_pictures_are_png_of_the_asked_pixels():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    data = _png(pixels)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (4, 3)
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8).reshape(3, 5)
    assert (rows[:, 1:] == pixels).all()
    assert not rows[:, 0].any()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-7.3, 12.9), (0.861, 0.863), (-120, 4000)])
def test_ticks_are_few_and_inside(low, high):
    ticks = list(_ticks(low, high))
    assert 3 <= len(ticks) <= 12
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_a_report_of_no_known_format_or_place_is_refused(evaluation, tmp_path):
    with pytest.raises(EvaluationError, match=r"without single files.*\.json, \.md, \.html"):
        write_report(evaluation, tmp_path / "scores.csv", summary_only=True)
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(EvaluationError, match="is a folder"):
        write_report(evaluation, tmp_path / "folder.md")
    with pytest.raises(EvaluationError, match=r"must be one of \.csv, \.json, \.md, \.html"):
        write_report(evaluation, tmp_path / "scores.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_report(evaluation, tmp_path / "file" / "scores.json")
