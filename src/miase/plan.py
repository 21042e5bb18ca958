"""What a comparison consists of: the plan in its TOML file, its runs, and what became of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from miase.config import DataConfig, ModelConfig, ObjectiveConfig, RunConfig, TrainingConfig
from miase.config_file import from_dict, read_toml
from miase.errors import ConfigError
from miase.metrics import METRICS
from miase.objectives import OBJECTIVES, find_objective


@dataclass(frozen=True)
class CorpusPlan:
    """What is trained on and tested on under one noise.

    Attributes:
        noisy: folder to train on, as `miase corpus` makes it.
        test: folder to judge on, with clean speech; other speakers, other noise.
        noise: sources of the noise that objectives add, as in [objective].
    """

    noisy: str
    test: str
    noise: tuple[str, ...] = ObjectiveConfig.noise


@dataclass(frozen=True)
class ComparePlan:
    """A comparison; the keys of its TOML file.

    Attributes:
        objectives: names.
        corpora: by name.
        networks: names.
        seeds: each gives a run of its own.
        metrics: columns of the table.
        model, data, objective, training: settings that all runs share, as of `miase train`.
    """

    objectives: tuple[str, ...]
    corpora: Mapping[str, CorpusPlan]
    networks: tuple[str, ...] = (ModelConfig.name,)
    seeds: tuple[int, ...] = (0,)
    metrics: tuple[str, ...] = ("pesq_wb", "stoi", "si_sdr")
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        for name in ("objectives", "corpora", "networks", "seeds", "metrics"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; name one or more")
        for metric in self.metrics:
            if metric not in METRICS:
                raise ConfigError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    corpus: str
    network: str
    objective: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Where it lies."""
        return out / self.corpus / f"{self.objective}-{self.network}-seed{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        cell: which.
        values: system (noisy or estimate) -> metric -> mean over the test files.
        steps: that it took.
        cpu_minutes: that they took of the CPU.
        n_files: test files.
        error: why there are no values; empty if there are.
    """

    cell: Cell
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    steps: int = 0
    cpu_minutes: float = 0.0
    n_files: int = 0
    error: str = ""


def load_plan(path: Path) -> ComparePlan:
    """A plan from its TOML file.

    Raises:
        ConfigError: the file is missing, is no TOML, or holds a key or value that is not allowed.
    """
    return from_dict(ComparePlan, read_toml(path), f" of {path}")


def cells_of(plan: ComparePlan) -> list[Cell]:
    """All runs of a plan, those of one row of the table together."""
    return [
        Cell(corpus, network, objective, seed)
        for corpus in plan.corpora
        for network in plan.networks
        for objective in plan.objectives
        for seed in plan.seeds
    ]


def config_of(plan: ComparePlan, cell: Cell) -> RunConfig:
    """The settings of one run.

    Raises:
        ConfigError: its objective is unknown, or fixes a setting otherwise.
    """
    noise = plan.corpora[cell.corpus].noise
    objective = OBJECTIVES.get(cell.objective)
    settings = replace(plan.objective, name=cell.objective, noise=noise)
    # What is shared by all yields to what an objective fixes: that is what the comparison is of.
    _, settings = find_objective(replace(settings, **(objective.settings if objective else {})))
    return RunConfig(
        replace(plan.model, name=cell.network),
        plan.data,
        settings,
        replace(plan.training, seed=cell.seed),
    )
