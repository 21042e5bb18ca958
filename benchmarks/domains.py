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

from miase.adapt import adapt
from miase.config import AdaptConfig
from miase.corpus import CorpusOptions, make_corpus
from miase.evaluate import Options, evaluate
from miase.peers import PEERS
from miase.report import as_json, stamp_lines
from miase.sources import URBANSOUND_CLASSES
from miase.stamp import portable

OTHERS = ("deepfilternet", "rnnoise")
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
    parser.add_argument("--classes", nargs="+", default=list(URBANSOUND_CLASSES))
    parser.add_argument("--limit", type=int, default=15, help="test utterances of each class")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "domains.json")
    parser.add_argument("--table", type=Path, default=ROOT / "docs" / "domains.md")
    arguments = parser.parse_args()
    speech = arguments.work / "speech"
    if not speech.exists():
        with_lead_in(arguments.speech, speech.with_suffix(".part"))
        speech.with_suffix(".part").rename(speech)
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
        if not adapted.exists() or json.loads((adapted / "adaptation.json").read_text())["state"] == "begun":
            config = AdaptConfig(minutes=arguments.minutes, threads=arguments.threads)
            adapt(folder / "train" / "noisy", adapted, arguments.model, config, quiet=True)
        systems = [arguments.model, str(adapted), *(peer for peer in OTHERS if PEERS[peer].installed)]
        options = Options(METRICS, arguments.jobs, lead_in=LEAD_IN, quiet=True)
        judged = json.loads(
            as_json(evaluate(folder / "test", models=systems, options=options), summary_only=True)
        )
        state = json.loads((adapted / "adaptation.json").read_text())
        scores = [
            {metric: values["mean"] for metric, values in of_system.items()}
            for of_system in judged["statistics"].values()
        ]
        kept = {key: state[key] for key in ("state", "steps", "reasons", "model_sha256")}
        of_systems = dict(zip(("noisy", systems[0], "adapted", *systems[2:]), scores, strict=True))
        result.write_text(json.dumps({"scores": of_systems, "stamp": judged["stamp"], **kept}))
        shutil.rmtree(adapted / "run")
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
    systems = list(next(iter(found.values()))["scores"])
    lines = [
        "# Adapted to a domain, beside others",
        "",
        f"Made by\n\n    {shlex.join(['python', 'benchmarks/domains.py', *map(portable, sys.argv[1:])])}",
        "",
        f"Means of {arguments.limit} files of each class: PESQ-WB / STOI / SI-SDR in dB. Where the gate "
        "refused the adapted weights, `adapted` is the model that it began with.",
        "",
        f"| class | {' | '.join(systems)} | the gate | steps |",
        "|---" * (len(systems) + 3) + "|",
    ]
    for name, values in found.items():
        cells = [
            f"{row['pesq_wb']:.2f} / {row['stoi']:.3f} / {row['si_sdr']:.2f}"
            for row in values["scores"].values()
        ]
        verdict = "kept" if values["state"] == "adapted" else "refused"
        lines.append(f"| {name} | {' | '.join(cells)} | {verdict} | {values['steps']} |")
    lines += [
        "",
        f"Classes of {len(found)} in which the adapted model is ahead:",
        "",
        "| of | PESQ-WB | STOI | SI-SDR |",
    ]
    lines.append("|---|---|---|---|")
    for other in systems:
        if other != "adapted":
            wins = [
                sum(values["scores"]["adapted"][m] > values["scores"][other][m] for values in found.values())
                for m in METRICS
            ]
            lines.append(f"| {other} | {' | '.join(map(str, wins))} |")
    stamp = next(iter(found.values()))["stamp"]
    lines += ["", "How it was made:", ""]
    lines += [f"- {line}" for line in stamp_lines({k: stamp[k] for k in stamp if k in STAMPED})]
    arguments.table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {arguments.results} and {arguments.table}")


if __name__ == "__main__":  # spawned workers import this file again
    main()
