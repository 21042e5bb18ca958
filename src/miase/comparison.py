"""The table of a comparison: a row for each corpus, network and objective, over all seeds."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from miase.checkpoint import written_whole
from miase.config_file import dump_toml
from miase.plan import ComparePlan, Outcome, cells_of, config_of
from miase.report import markdown_table
from miase.report.tables import Table, show
from miase.scoring import NOISY

UPPER_BOUND = "noise2clean"  # the objective that the others' gains are shares of
NAN = float("nan")


@dataclass(frozen=True)
class Row:
    """The runs of one objective on one corpus with one network, over all seeds.

    Attributes:
        corpus, network, system: what it is of; the system is an objective, or noisy.
        n_seeds: runs that the values are of.
        values: metric -> (mean, standard deviation over the seeds; NaN for one).
        share: gain in the first metric over noisy, as a share of the supervised one's; NaN without.
        steps, cpu_minutes: of a run, means.
        error: of the runs that failed.
    """

    corpus: str
    network: str
    system: str
    n_seeds: int
    values: Mapping[str, tuple[float, float]]
    share: float
    steps: float
    cpu_minutes: float
    error: str


def rows_of(plan: ComparePlan, outcomes: Sequence[Outcome]) -> list[Row]:
    """The table: for each corpus and network the noisy recordings, then each objective."""
    rows = []
    for corpus in plan.corpora:
        for network in plan.networks:
            here = [o for o in outcomes if (o.cell.corpus, o.cell.network) == (corpus, network)]
            done = [o for o in here if not o.error]
            if done:
                values = {m: (done[0].values[NOISY][m], NAN) for m in plan.metrics}
                rows.append(Row(corpus, network, NOISY, 0, values, NAN, 0, 0, ""))
            gains = {
                objective: _gain(plan, [o for o in done if o.cell.objective == objective])
                for objective in plan.objectives
            }
            for objective in plan.objectives:
                mine = [o for o in here if o.cell.objective == objective]
                rows.append(_row(plan, corpus, network, objective, mine, gains))
    return rows


def _row(
    plan: ComparePlan,
    corpus: str,
    network: str,
    objective: str,
    outcomes: Sequence[Outcome],
    gains: Mapping[str, float],
) -> Row:
    done = [outcome for outcome in outcomes if not outcome.error]
    values = {}
    for metric in plan.metrics:
        column = [outcome.values["estimate"][metric] for outcome in done]
        spread = stdev(column) if len(column) > 1 else NAN
        values[metric] = (mean(column) if column else NAN, spread)
    bound = gains.get(UPPER_BOUND, NAN)
    return Row(
        corpus,
        network,
        objective,
        len(done),
        values,
        gains[objective] / bound if bound else NAN,
        mean([outcome.steps for outcome in done]) if done else 0,
        mean([outcome.cpu_minutes for outcome in done]) if done else 0,
        "; ".join(outcome.error for outcome in outcomes if outcome.error),
    )


def _gain(plan: ComparePlan, outcomes: Sequence[Outcome]) -> float:
    metric = plan.metrics[0]
    gains = [o.values["estimate"][metric] - o.values[NOISY][metric] for o in outcomes]
    return mean(gains) if gains else NAN


def as_table(plan: ComparePlan, rows: Sequence[Row]) -> Table:
    """The rows as text: mean ± standard deviation over the seeds."""

    def cell(value: tuple[float, float], metric: str) -> str:
        spread = f" ± {show(value[1], metric)}" if not math.isnan(value[1]) else ""
        return show(value[0], metric) + spread

    header = (
        "corpus",
        "network",
        "objective",
        "seeds",
        *plan.metrics,
        f"share of {UPPER_BOUND}",
        "steps",
        "CPU min",
    )
    lines = []
    for row in rows:
        share = f"{100 * row.share:.0f} %" if not math.isnan(row.share) else ""
        spent = (f"{row.steps:.0f}", f"{row.cpu_minutes:.1f}") if row.n_seeds else ("", "")
        shown = [cell(row.values[metric], metric) for metric in plan.metrics]
        if row.error:
            shown[0] += f" ({row.error})"
        seeds = str(row.n_seeds) if row.system != NOISY else ""
        lines.append((row.corpus, row.network, row.system, seeds, *shown, share, *spent))
    return Table("Comparison", header, tuple(lines))


def write_tables(plan: ComparePlan, outcomes: Sequence[Outcome], out: Path) -> None:
    """Write the table as Markdown, CSV and JSON, and the runs that it is made of."""
    rows = rows_of(plan, outcomes)
    table = as_table(plan, rows)
    n_files = {o.cell.corpus: o.n_files for o in outcomes if not o.error}
    tested = ", ".join(f"{n} files of {corpus}" for corpus, n in n_files.items())
    note = f"Mean and standard deviation over the seeds, each the mean of {tested or 'no files'}."
    with written_whole(out / "table.md") as path:
        path.write_text(f"{markdown_table(table)}\n\n{note}\n", encoding="utf-8")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    statistics = [f"{metric}_{kind}" for metric in plan.metrics for kind in ("mean", "std")]
    writer.writerow(
        ["corpus", "network", "objective", "seeds", *statistics, "share", "steps", "cpu_minutes", "error"]
    )
    for row in rows:
        numbers = [number for metric in plan.metrics for number in row.values[metric]]
        writer.writerow(
            [
                row.corpus,
                row.network,
                row.system,
                row.n_seeds,
                *numbers,
                row.share,
                row.steps,
                row.cpu_minutes,
                row.error,
            ]
        )
    with written_whole(out / "table.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8")
    runs = [asdict(outcome) for outcome in outcomes]
    settings = {str(cell.folder(Path())): dump_toml(config_of(plan, cell)) for cell in cells_of(plan)}
    values = {"rows": [asdict(row) for row in rows], "runs": runs, "settings": settings}
    with written_whole(out / "table.json") as path:
        path.write_text(json.dumps(_without_nan(values), indent=1) + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:
    """Null for what is undefined: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
