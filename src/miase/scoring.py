"""One file judged: the noisy recording and each system's estimate of it, by every metric asked for."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miase.audio import load, probe
from miase.checkpoint import sha256
from miase.errors import EvaluationError, MiaseError
from miase.judge import MEASURES, measure, remix, verdict
from miase.matching import Item
from miase.metrics import METRICS, score
from miase.peers import System
from miase.sounds import Samples
from miase.systems import check_estimate, load_system

NOISY = "noisy"  # the system that does nothing
LONGEST_CUT = 0.010  # seconds by which two files may differ in length


@dataclass(frozen=True)
class Score:
    """What a system made of one file.

    Attributes:
        file: name of the item.
        system: noisy for the recording itself.
        group: of the item.
        seconds: length of the noisy file.
        sample_rate: of the noisy file, in Hz.
        values: by metric; NaN where undefined, and for all when there is an error.
        reasons: why, for each value that is NaN.
        warnings: what was done to it, and why it may be worse than before.
        error: why the file could not be judged; empty if it could.
        worse: why the estimate seems worse than the recording; empty if it does not, or if clean speech
            tells.
    """

    file: str
    system: str
    group: str
    seconds: float
    sample_rate: int
    values: Mapping[str, float]
    reasons: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    error: str = ""
    worse: str = ""


@dataclass(frozen=True)
class Plan:
    """What a worker needs to know; ``systems`` are the ones to run, by name."""

    metrics: tuple[str, ...]
    names: tuple[str, ...]
    systems: Mapping[str, str]
    seed: int
    device: str
    longest: float | None = None  # seconds of each file, from its start; None for all
    lead_in: float = 0.0  # seconds at the start that systems hear and nobody judges


@dataclass(frozen=True)
class Result:
    """The scores of one file, and (role, SHA-256) of what was read for it."""

    name: str
    scores: list[Score]
    hashes: list[tuple[str, str]]


class Scorer:
    """Scores files, with the systems loaded once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.systems = {name: load_system(source, plan.device) for name, source in plan.systems.items()}

    def __call__(self, item: Item) -> Result:
        """Score the recording and each estimate; what fails becomes a score with an error."""
        paths = {NOISY: item.noisy, "clean": item.clean, **item.enhanced}
        hashes = [(role, sha256(path)) for role, path in paths.items() if path is not None and path.is_file()]
        try:
            noisy, sample_rate = self.read(item.noisy)
            clean = None if item.clean is None else self._read_partner(item.clean, noisy, sample_rate)
        except MiaseError as error:
            scores = [self._failure(item, system, 0.0, 0, str(error)) for system in self.plan.names]
            return Result(item.name, scores, hashes)
        scores = []
        for system in self.plan.names:
            try:
                scores.append(self._score(item, system, noisy, clean, sample_rate))
            except (MiaseError, RuntimeError, ValueError, MemoryError, OSError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                seconds = noisy.shape[1] / sample_rate
                scores.append(self._failure(item, system, seconds, sample_rate, reason))
        return Result(item.name, _with_verdicts(scores) if clean is None else scores, hashes)

    def _failure(self, item: Item, system: str, seconds: float, sample_rate: int, reason: str) -> Score:
        nothing = dict.fromkeys(self.plan.metrics, float("nan"))
        reasons = dict.fromkeys(self.plan.metrics, "see the error")
        return Score(item.name, system, item.group, seconds, sample_rate, nothing, reasons, error=reason)

    def read(self, path: Path) -> tuple[Samples, int]:
        """Samples (channel, time) of a file, as many as are judged, and their rate in Hz."""
        if self.plan.longest is None:
            return load(path)
        return load(path, n_frames=max(1, round(self.plan.longest * probe(path).sample_rate)))

    def _read_partner(self, path: Path, noisy: Samples, sample_rate: int) -> Samples:
        samples, rate = self.read(path)
        _check_partner(path, samples, rate, noisy, sample_rate)
        return samples

    def estimate(self, item: Item, system: str, noisy: Samples, sample_rate: int) -> Samples:
        """Samples (channel, time) of a system; a file may be some more or less than the noisy one."""
        if system == NOISY:
            return noisy
        if system in item.enhanced:
            return self._read_partner(item.enhanced[system], noisy, sample_rate)
        return check_estimate(self.systems[system](noisy, sample_rate), noisy, system)

    def _score(
        self, item: Item, system: str, noisy: Samples, clean: Samples | None, sample_rate: int
    ) -> Score:
        estimate = self.estimate(item, system, noisy, sample_rate)
        signals = [estimate, noisy] if clean is None else [estimate, noisy, clean]
        start = round(self.plan.lead_in * sample_rate)
        n = min(signal.shape[1] for signal in signals)
        longest = max(signal.shape[1] for signal in signals)
        warnings: tuple[str, ...] = ()
        if n < longest:
            cut = f"lengths differ by {longest - n} samples ({1000 * (longest - n) / sample_rate:.1f} ms)"
            warnings = (f"{cut}; compared up to the shortest",)
        channels = [
            self._score_channel(
                item, system, *(signal[channel, start:n] for signal in signals), sample_rate=sample_rate
            )
            for channel in range(len(noisy))
        ]
        values = {name: float(np.mean([found[0][name] for found in channels])) for name in self.plan.metrics}
        reasons = {name: reason for _, found in channels for name, reason in found.items()}
        seconds = noisy.shape[1] / sample_rate
        return Score(item.name, system, item.group, seconds, sample_rate, values, reasons, warnings)

    def _score_channel(
        self,
        item: Item,
        system: str,
        estimate: Samples,
        noisy: Samples,
        clean: Samples | None = None,
        *,
        sample_rate: int,
    ) -> tuple[dict[str, float], dict[str, str]]:
        found = score(estimate, clean, sample_rate, [name for name in self.plan.metrics if name in METRICS])
        values, reasons = dict(found), dict(found.reasons)
        for name in (name for name in self.plan.metrics if name in MEASURES):
            pair: tuple[Samples, Samples] = (estimate, noisy)
            if name == "self_consistency":
                if system not in self.systems:
                    values[name], reasons[name] = float("nan"), "there is no system to run again"
                    continue
                pair = (
                    self._denoised_twice(self.systems[system], item, estimate, noisy, sample_rate),
                    estimate,
                )
            measured = measure(*pair, sample_rate, name)
            values.update(measured)
            reasons.update(measured.reasons)
        return values, reasons

    def _denoised_twice(
        self, system: System, item: Item, estimate: Samples, noisy: Samples, sample_rate: int
    ) -> Samples:
        digest = hashlib.sha256(item.name.encode()).digest()
        rng = np.random.default_rng((self.plan.seed, int.from_bytes(digest[:8], "big")))
        again = remix(estimate.astype(np.float64), noisy.astype(np.float64), rng).astype(np.float32)
        twice: Samples = system(again[None], sample_rate)[0]
        return twice


def _check_partner(path: Path, samples: Samples, rate: int, noisy: Samples, sample_rate: int) -> None:
    """Raise EvaluationError where comparing with the noisy samples makes no sense."""
    if rate != sample_rate:
        raise EvaluationError(
            f"{path} has {rate} Hz and the noisy file {sample_rate} Hz; resample one of them"
        )
    if len(samples) != len(noisy):
        raise EvaluationError(
            f"{path} has {len(samples)} and the noisy file {len(noisy)} channels; they must agree"
        )
    difference = abs(samples.shape[1] - noisy.shape[1])
    if difference > LONGEST_CUT * sample_rate:
        raise EvaluationError(
            f"{path} has {samples.shape[1]} samples and the noisy file {noisy.shape[1]}; up to "
            f"{1000 * LONGEST_CUT:.0f} ms are cut, {1000 * difference / sample_rate:.1f} ms are not"
        )


def _with_verdicts(scores: list[Score]) -> list[Score]:
    noisy = scores[0]
    return [noisy] + [
        score if score.error else replace(score, worse=verdict(score.values, noisy.values))
        for score in scores[1:]
    ]
