"""Models adapted to one kind of noise, beside the model they come from and tools of others.

    python benchmarks/domains.py --speech DIR [DIR ...] --noise URBANSOUND8K_DIR --work DIR [-m default]

For each class of UrbanSound8K, about ten minutes of noisy recordings (of the first folder of speech, train
split, 0 to 10 dB) are given to `miase adapt`, and what comes out is judged on the test split: other speakers,
other recordings of the noise, with a second of it in front that is heard but not judged. The recordings hold
no clean speech. DIR keeps what is done: the same command goes on. Writes benchmarks/results/domains.json and
docs/domains.md.
"""

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path

from peers import LEAD_IN, METRICS, ROOT, with_lead_in

from miase.adapt import RUN_NAME, STATE_NAME, adapt
from miase.config import AdaptConfig
from miase.corpus import CorpusOptions, make_corpus
from miase.evaluate import Options, evaluate
from miase.peers import PEERS
from miase.report import as_json, markdown_table, stamp_lines
from miase.report.tables import Table
from miase.sources import URBANSOUND_CLASSES
from miase.stamp import portable

OTHERS = ("deepfilternet", "rnnoise")
SHIFTS = "@4"  # of our models, which are judged with one pass and with as many
STAMPED = ("miase", "python", "packages", "seed", "metrics")


def main() -> None:
    """Parse the command, adapt and judge class by class, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, nargs="+", required=True, help="folders of clean speech")
    parser.add_argument("--noise", type=Path, required=True, help="UrbanSound8K, or files named like it")
    parser.add_argument("--work", type=Path, required=True, help="folder for corpora and models")
    parser.add_argument("-m", "--model", default="default", help="where the adaptations begin")
    parser.add_argument("--minutes", type=float, default=15.0, help="of training for each class")
    parser.add_argument("--lr", type=float, default=AdaptConfig.lr, help="highest learning rate")
    parser.add_argument("--classes", nargs="+", default=list(URBANSOUND_CLASSES))
    parser.add_argument("--limit", type=int, default=15, help="test utterances of each class")
    parser.add_argument("--precision", default="auto", help="of the training; see miase adapt")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "domains.json")
    parser.add_argument("--table", type=Path, default=ROOT / "docs" / "domains.md")
    arguments = parser.parse_args()
    speech = arguments.work / "speech"
    if not speech.exists():
        part = speech.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)  # of a command that was killed
        with_lead_in(arguments.speech, part)
        part.rename(speech)
    found = {name: study(name, arguments) for name in arguments.classes}
    write(found, arguments)


def study(name: str, arguments: argparse.Namespace) -> dict:
    """One class: the scores by system, and what became of the adaptation."""
    folder = arguments.work / name
    result = folder / "result.json"
    if not result.exists():
        corpus(folder / "train", name, "train", arguments.speech[:1], arguments.noise, limit=48)
        padded = [arguments.work / "speech" / source.name for source in arguments.speech]
        corpus(folder / "test", name, "test", padded, arguments.noise, limit=arguments.limit)
        adapted = folder / "adapted"
        state = adapted / STATE_NAME
        if not state.exists() or json.loads(state.read_text())["state"] == "begun":
            config = AdaptConfig(
                minutes=arguments.minutes,
                lr=arguments.lr,
                precision=arguments.precision,
                threads=arguments.threads,
            )
            adapt(folder / "train" / "noisy", adapted, arguments.model, config, quiet=True)
        others = [peer for peer in OTHERS if PEERS[peer].installed]

        def with_shifts(*models: str) -> list[str]:
            return [model + shifts for shifts in ("", SHIFTS) for model in models]

        names = [*with_shifts(arguments.model, "adapted"), *others]
        systems = [*with_shifts(arguments.model, str(adapted)), *others]
        options = Options(METRICS, arguments.jobs, lead_in=LEAD_IN, quiet=True)
        judged = json.loads(
            as_json(evaluate(folder / "test", models=systems, options=options), summary_only=True)
        )
        outcome = json.loads(state.read_text())
        scores = [
            {metric: values["mean"] for metric, values in of_system.items()}
            for of_system in judged["statistics"].values()
        ]
        kept = {key: outcome[key] for key in ("state", "steps", "reasons", "model_sha256")}
        of_systems = dict(zip(("noisy", *names), scores, strict=True))
        result.write_text(json.dumps({"scores": of_systems, "stamp": judged["stamp"], **kept}))
        shutil.rmtree(adapted / RUN_NAME)
    values: dict = json.loads(result.read_text())
    print(name, values["state"], flush=True)
    return values


def corpus(folder: Path, name: str, split: str, speech: list[Path], noise: Path, limit: int) -> None:
    """Recordings with noise of one class, at 0 to 10 dB."""
    make_corpus(
        CorpusOptions(
            "urbansound",
            speech=tuple(speech),
            output=folder,
            noise=(noise,),
            noise_class=name,
            split=split,
            limit=limit,
            keep_clean=split == "test",
            overwrite=True,
            quiet=True,
        )
    )


def write(found: dict[str, dict], arguments: argparse.Namespace) -> None:
    """The numbers as JSON, and a table of classes and systems as Markdown."""
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    first = next(iter(found.values()))
    command = shlex.join(["python", "benchmarks/domains.py", *map(portable, sys.argv[1:])])
    stamp = stamp_lines({key: first["stamp"][key] for key in STAMPED})
    parts = [
        "# Adapted to a domain, beside others",
        f"Made by\n\n    {command}",
        f"Means of {arguments.limit} files of each class: PESQ-WB / STOI / SI-SDR in dB; with {SHIFTS}, of "
        "`--shifts 4`. Where the gate refused the adapted weights, `adapted` is the model it began with.",
        markdown_table(by_class(found, list(first["scores"]))),
        *(
            f"Classes of {len(found)} in which `{ours}` is ahead:\n\n"
            + markdown_table(ahead(found, ours, list(first["scores"])))
            for ours in ("adapted", f"adapted{SHIFTS}")
        ),
        "How it was made:",
        "\n".join(f"- {line}" for line in stamp),
    ]
    arguments.table.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {arguments.results} and {arguments.table}")


def by_class(found: dict[str, dict], systems: list[str]) -> Table:
    """The scores of each system and what became of the adaptation."""
    rows = []
    for name, values in found.items():
        cells = [
            f"{row['pesq_wb']:.2f} / {row['stoi']:.3f} / {row['si_sdr']:.2f}"
            for row in values["scores"].values()
        ]
        verdict = "kept" if values["state"] == "adapted" else "refused"
        rows.append((name, *cells, verdict, str(values["steps"])))
    return Table("By class", ("class", *systems, "the gate", "steps"), tuple(rows))


def ahead(found: dict[str, dict], ours: str, systems: list[str]) -> Table:
    """In how many classes one of our systems is better than each of the others."""
    every = [values["scores"] for values in found.values()]
    rows = [
        (other, *(str(sum(scores[ours][m] > scores[other][m] for scores in every)) for m in METRICS))
        for other in systems
        if other != ours
    ]
    return Table("Ahead", ("of", "PESQ-WB", "STOI", "SI-SDR"), tuple(rows))


if __name__ == "__main__":  # spawned workers import this file again
    main()
