"""The verb `evaluate`: every metric on every file, for the noisy recordings and for each system.

A file that cannot be judged keeps its row, with the reason in it. Each file is worked on alone, on one thread
and with random numbers that come from its name, so neither the number of processes nor their order changes a
value.
"""

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from miase.audio import BLOCK_SECONDS, SoundReader, probe
from miase.errors import EvaluationError
from miase.judge import MEASURES
from miase.matching import Item, find_items
from miase.metrics import DNSMOS, METRICS, Metric, installed
from miase.scoring import NOISY, Plan, Result, Score, Scorer
from miase.sounds import Samples
from miase.stamp import make_stamp
from miase.writing import SoundWriter

WITH_CLEAN = (
    "snr", "si_sdr", "segmental_snr", "pesq_wb", "pesq_nb", "stoi", "estoi", "csig", "cbak", "covl", "lsd",
)  # fmt: skip
ENHANCED = "enhanced"  # the system that `miase enhance` was
JUDGED_SECONDS = 120.0  # of its files, so that a long one costs neither memory nor minutes


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
        metrics: names of `METRICS` and `MEASURES`; dnsmos stands for its four. Empty: with clean speech
            `WITH_CLEAN`, without it DNSMOS (if installed) and all of `MEASURES`.
        jobs: files at a time, each in a process of its own.
        seed: of the bootstrap and of the noise of self_consistency.
        device: for our models: auto, cpu, cuda or another device that torch knows.
        quiet: show no progress.
        longest: seconds of each file that are read, from its start; None for all.
        lead_in: seconds at the start of each file that systems hear but that are not judged, so that those
            which adapt to the noise can settle.
    """

    metrics: tuple[str, ...] = ()
    jobs: int = 1
    seed: int = 0
    device: str = "cpu"
    quiet: bool = False
    longest: float | None = None
    lead_in: float = 0.0

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise EvaluationError(f"jobs is {self.jobs}; it must be 1 or more")
        if self.lead_in < 0:
            raise EvaluationError(f"lead_in is {self.lead_in} s; it must be 0 or more")
        if self.seed < 0:
            raise EvaluationError(f"seed is {self.seed}; it must be 0 or more")


@dataclass(frozen=True)
class Evaluation:
    """All scores and how they came about.

    Attributes:
        systems: names, noisy first.
        metrics: names in the order of the columns.
        scores: sorted by file, then in the order of the systems.
        stamp: what another needs to get the same numbers.
        seed: of the bootstrap.
        has_clean: whether the files were compared with clean speech.
        hear: makes the samples of a file again, for players: file and system -> (channel, time) and rate in
            Hz; the system "clean" gives the clean speech.
        published: means that others have printed: group -> whose -> metric -> mean.
    """

    systems: tuple[str, ...]
    metrics: tuple[str, ...]
    scores: tuple[Score, ...]
    stamp: Mapping[str, Any]
    seed: int
    has_clean: bool
    hear: Callable[[str, str], tuple[Samples, int]]
    published: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)

    def column(self, system: str, metric: str, group: str | None = None) -> list[float]:
        """The values of a system, one for each file; of one group, or of all."""
        return [
            s.values[metric]
            for s in self.scores
            if s.system == system and (group is None or s.group == group)
        ]

    @property
    def groups(self) -> list[str]:
        """Names of the groups, in the order of a published table, else sorted."""
        found = [group for group in dict.fromkeys(score.group for score in self.scores) if group]
        return found if self.published else sorted(found)

    @property
    def failed(self) -> list[Score]:
        """The scores that are errors."""
        return [score for score in self.scores if score.error]


def metric_row(name: str) -> Metric:
    """The row of `METRICS` or `MEASURES` with that name."""
    return METRICS[name] if name in METRICS else MEASURES[name]


def evaluate(
    noisy: Path,
    clean: Path | None = None,
    enhanced: Sequence[Path] = (),
    models: Sequence[str] = (),
    options: Options | None = None,
) -> Evaluation:
    """Judge folders of estimates, and systems that are run here.

    Args:
        noisy: folder of recordings, or one made by `miase corpus`, which brings its clean speech and noise
            classes.
        clean: folder of the clean speech with the same names, if there is any.
        enhanced: folders of estimates with the same names.
        models: names of systems to run: see `miase.systems`.
        options: how.

    Raises:
        EvaluationError: files without partner, unknown metrics, or a package that is missing.
        WeightsError: an unknown system.
        AudioError, CorpusError: a folder that cannot be read.
    """
    names = _short_names(enhanced)
    items = find_items(noisy, clean, dict(zip(names, enhanced, strict=True)))
    return evaluate_items(items, names, models, options)


def _short_names(folders: Sequence[Path | str]) -> list[str]:
    """The last part of each path, or all of it where that is not unique."""
    last = [Path(folder).name or str(folder) for folder in folders]
    return [
        name if last.count(name) == 1 and name != NOISY else str(folder)
        for name, folder in zip(last, folders, strict=True)
    ]


def evaluate_items(
    items: Sequence[Item],
    folders: Sequence[str],
    models: Sequence[str],
    options: Options | None = None,
) -> Evaluation:
    """As `evaluate`, for matched files; ``folders`` are the systems in ``Item.enhanced``."""
    options = options or Options()
    has_clean = all(item.clean is not None for item in items)
    metrics = choose_metrics(options.metrics, has_clean)
    labels = _system_names(models)
    systems = dict(zip(labels, models, strict=True))
    names = (NOISY, *folders, *labels)
    if len(set(names)) < len(names):
        raise EvaluationError(f"two systems have one name among {', '.join(names)}; name each once")
    stamp = make_stamp(folders, systems, [metric_row(name) for name in metrics], options.seed, options.device)
    plan = Plan(metrics, names, systems, options.seed, options.device, options.longest, options.lead_in)
    results = list(_run(plan, items, options))
    if options.lead_in:
        stamp["lead_in"] = f"{options.lead_in:g} s at the start of each file are not judged"
    stamp["files"] = {
        "n": len(items),
        "seconds": round(sum(result.scores[0].seconds for result in results), 3),
        "sample_rates": sorted({result.scores[0].sample_rate for result in results} - {0}),
        "sha256": _hash_of_list(results),
    }
    scores = tuple(score for result in results for score in result.scores)
    hear = partial(_hear, plan, {item.name: item for item in items})
    return Evaluation(names, metrics, scores, stamp, options.seed, has_clean, hear)


def judge_outputs(pairs: Sequence[tuple[Path, Path]], jobs: int = 1, quiet: bool = False) -> Evaluation:
    """What `miase enhance` made of files, judged without clean speech over their first two minutes.

    Args:
        pairs: input and output of each file.
        jobs: files at a time.
        quiet: show no progress.
    """
    items = [Item(str(source), source, enhanced={ENHANCED: target}) for source, target in pairs]
    metrics = tuple(name for name in choose_metrics((), False) if name != "self_consistency")
    options = Options(metrics, jobs, quiet=quiet, longest=JUDGED_SECONDS)
    return evaluate_items(items, [ENHANCED], [], options)


def keep_original(source: Path, target: Path) -> None:
    """Put the sound of the input in place of an output, in the output's format.

    Raises:
        AudioError: one of the two cannot be read or written.
    """
    made = probe(target)
    with SoundReader(source) as reader:
        info = reader.info
        writer = SoundWriter(
            target,
            info.sample_rate,
            info.n_channels,
            format=made.format,
            subtype=made.subtype,
            overwrite=True,
            n_frames_expected=info.n_frames,
        )
        with writer:
            for block in reader.blocks(round(BLOCK_SECONDS * info.sample_rate)):
                writer.write(block)


def _system_names(models: Sequence[str]) -> list[str]:
    """A folder RUN or RUN/model is called RUN; anything else keeps its name."""
    paths = [Path(model) for model in models]
    shown = [path.parent if path.name == "model" and path.parent.name else path for path in paths]
    return _short_names(shown)


def choose_metrics(asked: Sequence[str], has_clean: bool) -> tuple[str, ...]:
    """The columns of the table.

    Raises:
        EvaluationError: a name is unknown, needs clean speech that is not there, or a package that is
            missing.
    """
    if not asked:
        rated = DNSMOS if installed(METRICS[DNSMOS[0]]) else ()
        asked = WITH_CLEAN if has_clean else (*rated, *MEASURES)
    names = dict.fromkeys(part for name in asked for part in (DNSMOS if name == "dnsmos" else (name,)))
    for name in names:
        if name not in METRICS and name not in MEASURES:
            known = ", ".join((*METRICS, *MEASURES))
            raise EvaluationError(f"there is no metric {name!r}; there are {known}, and dnsmos for its four")
        if not has_clean and metric_row(name).needs_reference:
            raise EvaluationError(
                f"{name} compares with clean speech, and there is none; give --clean, or leave it out"
            )
        if not installed(metric_row(name)):
            raise EvaluationError(
                f'{name} needs {metric_row(name).package}: pip install "miase[eval]", or leave it out'
            )
    return tuple(names)


def _hash_of_list(results: Sequence[Result]) -> str:
    """SHA-256 over the names and contents of all files that were compared."""
    digest = hashlib.sha256()
    for result in results:
        for role, content in result.hashes:
            digest.update(f"{result.name}\0{role}\0{content}\n".encode())
    return digest.hexdigest()


def _hear(plan: Plan, items: Mapping[str, Item], name: str, system: str) -> tuple[Samples, int]:
    item = items[name]
    needed = {system: plan.systems[system]} if system in plan.systems else {}
    with _one_thread():
        scorer = Scorer(replace(plan, systems=needed))
        if system == "clean":
            assert item.clean is not None
            return scorer.read(item.clean)
        noisy, sample_rate = scorer.read(item.noisy)
        return scorer.estimate(item, system, noisy, sample_rate), sample_rate


# ---- many files

_scorer: Scorer | None = None  # of a worker process


def _start_worker(plan: Plan) -> None:
    global _scorer
    torch.set_num_threads(1)
    _scorer = Scorer(plan)


def _score_in_worker(item: Item) -> Result:
    assert _scorer is not None
    return _scorer(item)


def _run(plan: Plan, items: Sequence[Item], options: Options) -> Iterator[Result]:
    n_workers = min(options.jobs, len(items))
    with tqdm(total=len(items), unit="file", disable=options.quiet, dynamic_ncols=True) as bar:
        if n_workers == 1:
            with _one_thread():
                scorer = Scorer(plan)
                for item in items:
                    yield scorer(item)
                    bar.update()
            return
        Scorer(plan)  # a system that cannot be loaded is found here, once, and not in each worker
        # Spawned, not forked: a fork would inherit torch's thread pools in whatever state they are.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(n_workers, context, _start_worker, (plan,)) as pool:
            try:
                for result in pool.map(_score_in_worker, items):
                    yield result
                    bar.update()
            except BrokenProcessPool as error:
                raise EvaluationError("a worker process died (out of memory?); try fewer --jobs") from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread, as in a worker: sums come out the same for any number of processes."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
