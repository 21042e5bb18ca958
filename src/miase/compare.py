"""The verb ``compare``: objectives x networks x corpora x seeds under one trainer, in one table.

Everything that is not compared is the same for all: data, excerpts, seeds, number of steps, test files. What
is done already is not done again, and a run that was stopped goes on.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from miase.checkpoint import sha256, written_whole
from miase.comparison import write_tables
from miase.config import RunConfig
from miase.config_file import dump_toml
from miase.errors import ConfigError, MiaseError
from miase.evaluate import Options, evaluate
from miase.manifest import MANIFEST_NAME, discover
from miase.parallel import keep_memory
from miase.plan import Cell, ComparePlan, CorpusPlan, Outcome, cells_of, config_of
from miase.scoring import NOISY
from miase.summary import summarise
from miase.train import fit

SCORES_NAME = "scores.json"


def compare(plan: ComparePlan, out: Path, jobs: int = 1, quiet: bool = False) -> list[Outcome]:
    """Do what is not done yet of a plan, and write ``out/table.md``, ``.csv`` and ``.json``.

    Args:
        plan: what to compare.
        out: folder with a run below it for each cell.
        jobs: runs at a time, each in a process of its own.
        quiet: show no progress.

    Returns:
        An outcome for each cell, in the order of the table.

    Raises:
        ConfigError, CorpusError: a run could never start.
    """
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; it must be 1 or more")
    cells = cells_of(plan)
    for cell in cells:  # what cannot be run is found here, before the hours of work
        config_of(plan, cell)
    for corpus in plan.corpora.values():
        discover(Path(corpus.noisy))
        discover(Path(corpus.test))
    found: dict[Cell, Outcome] = {}
    with tqdm(total=len(cells), unit="run", disable=quiet, dynamic_ncols=True) as bar:
        for outcome in _run(plan, cells, out, jobs):
            found[outcome.cell] = outcome
            bar.set_postfix_str(f"{outcome.cell.corpus} {outcome.cell.objective}")
            bar.update()
    outcomes = [found[cell] for cell in cells]
    write_tables(plan, outcomes, out)
    return outcomes


def _run(plan: ComparePlan, cells: Sequence[Cell], out: Path, jobs: int) -> Iterator[Outcome]:
    if min(jobs, len(cells)) == 1:
        yield from (run_cell(plan, cell, out) for cell in cells)
        return
    # Spawned, not forked: a fork would inherit torch's thread pools in whatever state they are.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=keep_memory) as pool:
        futures = {pool.submit(run_cell, plan, cell, out): cell for cell in cells}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield Outcome(futures[future], error="its process died; run the command again")


def run_cell(plan: ComparePlan, cell: Cell, out: Path) -> Outcome:
    """Train and judge one run, or give what is known of it already; what fails becomes an error."""
    folder, config, corpus = cell.folder(out), config_of(plan, cell), plan.corpora[cell.corpus]
    scores = folder / SCORES_NAME
    asked = _fingerprint(config, corpus, plan.metrics)
    if scores.is_file():
        known = json.loads(scores.read_text(encoding="utf-8"))
        if known["asked"] == asked:
            return Outcome(cell, **{key: known[key] for key in ("values", "steps", "cpu_minutes", "n_files")})
    try:
        _check_same(folder, config)
        result = fit(
            Path(corpus.noisy), folder, config, resume=(folder / "config.toml").is_file(), quiet=True
        )
        if not result.finished:
            return Outcome(cell, error="interrupted; run the command again to go on")
        evaluation = evaluate(
            Path(corpus.test), models=[str(folder)], options=Options(plan.metrics, quiet=True)
        )
    except MiaseError as error:
        return Outcome(cell, error=str(error))
    named = dict(zip((NOISY, "estimate"), evaluation.systems, strict=True))
    values = {
        label: {metric: summarise(evaluation.column(system, metric)).mean for metric in plan.metrics}
        for label, system in named.items()
    }
    n_files = len({score.file for score in evaluation.scores})
    cpu_minutes = round(result.cpu_seconds / 60, 2)
    outcome = Outcome(cell, values, result.step, cpu_minutes, n_files)
    with written_whole(scores) as path:
        kept = {key: value for key, value in vars(outcome).items() if key not in ("cell", "error")}
        path.write_text(json.dumps({"asked": asked} | kept, indent=1) + "\n", encoding="utf-8")
    return outcome


def _check_same(folder: Path, config: RunConfig) -> None:
    """Raise ConfigError where a run with other settings lies already: to go on with it would mix two."""
    path = folder / "config.toml"
    if path.is_file() and path.read_text(encoding="utf-8") != dump_toml(config):
        raise ConfigError(f"{folder} holds a run with other settings; name another output folder")


def _fingerprint(config: RunConfig, corpus: CorpusPlan, metrics: Sequence[str]) -> str:
    """A hash of all that a run's scores depend on, by which those of another plan are told apart."""
    digest = hashlib.sha256(dump_toml(config).encode())
    digest.update(repr(tuple(metrics)).encode())
    for folder in (corpus.noisy, corpus.test):
        manifest = Path(folder) / MANIFEST_NAME
        digest.update((sha256(manifest) if manifest.is_file() else folder).encode())
    return digest.hexdigest()
