"""Does enhancing help a speech recogniser, or harm it? Word error rates before and after.

    pip install pocketsphinx
    python benchmarks/recognition.py --speech GRID_DIR --noise URBANSOUND8K_DIR -m default

The speech is that of the GRID corpus, whose file names encode the six words of each sentence; the recogniser
is pocketsphinx with the American English model in its package and the grammar of GRID, without a language
model. The noise is UrbanSound8K at 0 to 10 dB, speakers and recordings those of our test split. Writes
benchmarks/results/recognition.json and docs/recognition.md.
"""

import argparse
import importlib
import importlib.metadata
import json
import re
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from miase.audio import load
from miase.corpus import CorpusOptions, make_corpus
from miase.manifest import read_manifest
from miase.registry import available
from miase.report import stamp_lines
from miase.stamp import portable
from miase.summary import summarise
from miase.systems import describe_system, load_system

ROOT = Path(__file__).parents[1]
RATE = 16_000

# Cooke et al., "An audio-visual corpus for speech perception and automatic speech recognition", JASA 2006.
WORDS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(
        zip(
            "z123456789",
            ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
            strict=True,
        )
    ),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)
COPY = re.compile(r"-copy\d+$")
CODE = re.compile("_([" + "])([".join("".join(words) for words in WORDS) + r"])(?:$|-copy\d+$)")


def sentence(stem: str) -> list[str] | None:
    """The words that a file name encodes; None for another name."""
    match = CODE.search(stem)
    if match is None:
        return None
    return [words[letter] for words, letter in zip(WORDS, match.groups(), strict=True)]


def word_errors(said: list[str], heard: list[str]) -> int:
    """Substitutions, deletions and insertions: the edit distance of Levenshtein."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        above, row = row, [i]
        for j, other in enumerate(heard, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return row[-1]


def make_recogniser(folder: Path):
    """Pocketsphinx with GRID's grammar."""
    try:
        pocketsphinx = importlib.import_module("pocketsphinx")
    except ImportError:
        sys.exit("the recogniser is missing: pip install pocketsphinx")
    rules = " ".join(f"({' | '.join(words.values())})" for words in WORDS)
    grammar = folder / "grid.gram"
    grammar.write_text(f"#JSGF V1.0;\ngrammar grid;\npublic <sentence> = {rules};\n")
    model = Path(pocketsphinx.get_model_path()) / "en-us"
    decoder = pocketsphinx.Decoder(
        hmm=str(model / "en-us"),
        dict=str(model / "cmudict-en-us.dict"),
        jsgf=str(grammar),
        lm=None,
        samprate=float(RATE),
        loglevel="FATAL",
    )

    def recognise(samples) -> list[str]:
        integers = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
        decoder.start_utt()
        decoder.process_raw(integers.tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return found.hypstr.split() if found else []

    return recognise


def main() -> None:
    """Parse the command, make the corpus, recognise, write."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--speech", type=Path, required=True, help="GRID, or files named like it")
    parser.add_argument("--noise", type=Path, required=True, help="UrbanSound8K, or files named like it")
    parser.add_argument("-m", "--model", nargs="+", default=available()[:1], help="as for miase evaluate")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.3, 0.6, 1.0])
    parser.add_argument("--split", default="test", help="all, train, valid or test speakers and noises")
    parser.add_argument("--copies", type=int, default=4, help="noisy versions of each sentence")
    parser.add_argument("--limit", type=int, help="sentences")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/recognition.json")
    parser.add_argument("--table", type=Path, default=ROOT / "docs" / "recognition.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    systems = {name: load_system(name) for name in arguments.model}
    rates: dict[str, dict[str, list[float]]] = {}
    speakers = set()
    with tempfile.TemporaryDirectory(prefix="miase-recognition-") as name:
        folder = Path(name)
        recognise = make_recogniser(folder)
        corpus = folder / "corpus"
        make_corpus(
            CorpusOptions(
                "urbansound",
                speech=(arguments.speech,),
                output=corpus,
                noise=(arguments.noise,),
                exclude_speech=("*WRONG*",),
                copies=arguments.copies,
                limit=arguments.limit,
                split=arguments.split,
                quiet=True,
            )
        )
        for item in read_manifest(corpus):
            said = sentence(Path(item.noisy).stem)
            if said is None:
                continue
            speakers.add(item.speaker)
            original = COPY.sub("", item.noisy.removesuffix(".flac"))
            noisy, _ = load(corpus / item.noisy)
            clean, _ = load(corpus / str(item.clean))
            sounds = {"clean": clean, "noisy": noisy}
            for label, system in systems.items():
                removed = noisy - system(noisy, RATE)
                for strength in arguments.strengths:
                    sounds[f"{label}, strength {strength:g}"] = noisy - strength * removed
            for label, samples in sounds.items():
                errors = word_errors(said, recognise(samples[0]))
                rates.setdefault(label, {}).setdefault(original, []).append(100 * errors / len(said))
    if not rates:
        sys.exit(f"no file in {arguments.speech} is named like GRID's, s1_bbaf2n.wav")
    write(rates, len(speakers), arguments)


def write(rates: dict[str, dict[str, list[float]]], n_speakers: int, arguments: argparse.Namespace) -> None:
    """The rates as JSON and as a table, each with its difference from the noisy speech.

    The copies of a sentence are averaged first: they share their words and voice, so the intervals are those
    of the sentences.
    """
    rows, values = [], {}
    columns = {label: [np.mean(copies) for copies in found.values()] for label, found in rates.items()}
    for label, column in columns.items():
        found = summarise(column)
        change = summarise(np.subtract(column, columns["noisy"]))
        values[label] = {"word_error_rate": vars(found), "less_noisy": vars(change)}
        rows.append(
            f"| {label} | {found.mean:.1f} | {found.low:.1f} to {found.high:.1f} "
            f"| {change.mean:+.1f} | {change.low:+.1f} to {change.high:+.1f} |"
        )
    stamp = {
        "sentences": len(rates["noisy"]),
        "noisy versions of each": arguments.copies,
        "speakers": n_speakers,
        "split": arguments.split,
        "recogniser": f"pocketsphinx {importlib.metadata.version('pocketsphinx')}, en-us, grammar of GRID",
        "systems": {name: describe_system(name) for name in arguments.model},
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps({"stamp": stamp, "rates": values}, indent=1) + "\n")
    command = shlex.join(["python", "benchmarks/recognition.py", *map(portable, sys.argv[1:])])
    header = "| speech | word errors, % | 95 % interval | less noisy | 95 % interval |\n" + "| --- " * 5 + "|"
    parts = (
        "# Does enhancing help a recogniser?",
        f"Made by\n\n    {command}",
        f"{header}\n" + "\n".join(rows),
        "The same recordings in all rows; above 0 in the column 'less noisy' enhancing harms. The intervals "
        "are over the sentences, each the mean of its noisy versions.",
        "\n".join(f"- {line}" for line in stamp_lines(stamp)),
    )
    arguments.table.parent.mkdir(parents=True, exist_ok=True)
    arguments.table.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print("\n\n".join(parts[2:]))


if __name__ == "__main__":
    main()
