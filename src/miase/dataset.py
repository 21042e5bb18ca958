"""Training examples: (recordings, seed, epoch, index) -> one excerpt, the same for any number of workers."""

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from miase.audio import load, probe
from miase.config import DataConfig
from miase.errors import AudioError, CorpusError, MiaseError
from miase.manifest import read_manifest
from miase.mixing import fit_length
from miase.noise import synthetic, white
from miase.pauses import cut_pauses
from miase.sounds import AudioInfo, Samples, find_sounds

MIN_EPOCH_STEPS = 25  # so that a few recordings do not mean a checkpoint at each step
PAUSES_SECONDS = 10.0  # of a recording that are searched for pauses
VALID_EPOCH = 2**31  # the "epoch" of the validation examples, which never change


@dataclass(frozen=True)
class Recordings:
    """The readable recordings of a folder, and why the others are not."""

    infos: tuple[AudioInfo, ...]
    failures: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Their length together."""
        return sum(info.seconds for info in self.infos)

    def fingerprint(self) -> str:
        """A hash of names and lengths, by which a resumed run knows its recordings."""
        lines = [f"{info.path.name}\t{info.n_frames}\t{info.sample_rate}" for info in self.infos]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def find_recordings(paths: Sequence[Path], where: str | Path) -> Recordings:
    """Probe sound files; those that cannot be read are named in ``failures``.

    Raises:
        CorpusError: none can be read.
    """
    infos, failures = [], []
    for path in paths:
        try:
            infos.append(probe(path))
        except AudioError as error:
            failures.append(str(error))
    if not infos:
        reason = f" ({failures[0]})" if failures else ""
        raise CorpusError(
            f"{where} holds no sound file that can be read{reason}; name a folder of recordings"
        )
    return Recordings(tuple(infos), tuple(failures))


def split_recordings(recordings: Recordings, valid_share: float) -> tuple[list[AudioInfo], list[AudioInfo]]:
    """Recordings for training and for validation, told apart by a hash of their names.

    A single recording serves as both.
    """
    ranked = sorted(recordings.infos, key=lambda info: hashlib.sha256(info.path.name.encode()).digest())
    n_valid = max(1, round(valid_share * len(ranked))) if valid_share > 0 else 0
    if len(ranked) == 1:
        return ranked, ranked[:n_valid]
    n_valid = min(n_valid, len(ranked) - 1)
    return sorted(ranked[n_valid:], key=lambda info: info.path), ranked[:n_valid]


class NoiseSource:
    """Where added noise comes from: artificial kinds by name, and folders of recordings.

    Args:
        sources: white, synthetic, pauses, residual (made by the objective, not here) or folders.
        sample_rate: in Hz.
        recordings: the noisy recordings, whose pauses are a source.
        stretch: gives a stretch of some noisy recording in their place, (time,), for a random generator.

    Raises:
        CorpusError: a source is neither a known name nor a folder with sound files.
    """

    def __init__(
        self,
        sources: Sequence[str],
        sample_rate: int,
        recordings: Sequence[AudioInfo] = (),
        stretch: Callable[[np.random.Generator], Samples] | None = None,
    ) -> None:
        self.sample_rate = sample_rate
        self.recordings = recordings
        self.stretch = stretch or self._stretch_of_recordings
        self.sources: list[str | Sequence[AudioInfo]] = []
        for source in sources:
            if source in ("white", "synthetic", "pauses"):
                self.sources.append(source)
            elif source != "residual":
                folder = Path(source)
                if not folder.is_dir():
                    raise CorpusError(
                        f"noise source {source!r} is not there; "
                        f"it must be white, synthetic, pauses, residual or a folder"
                    )
                self.sources.append(find_recordings(find_sounds(folder), folder).infos)

    def draw(self, n: int, rng: np.random.Generator) -> Samples:
        """Noise of ``n`` samples, (time,); silence when the only source is the residual."""
        if not self.sources:
            return np.zeros(n, np.float32)
        source = self.sources[rng.integers(len(self.sources))]
        if source == "white":
            return white(n, rng)
        if source == "pauses":
            return self._from_pauses(n, rng)
        if isinstance(source, str):
            return synthetic(n, self.sample_rate, rng)
        for _ in range(10):
            info = source[int(rng.integers(len(source)))]
            try:
                return fit_length(read_excerpt(info, n, self.sample_rate, rng, loop=False), n, rng)
            except MiaseError:
                continue  # a silent or unreadable stretch: draw another
        raise CorpusError(
            f"ten draws from the noise folder of {info.path} were silent or unreadable; check its files"
        )

    def _from_pauses(self, n: int, rng: np.random.Generator) -> Samples:
        """Noise from the pauses of one recording; artificial noise where ten of them have none."""
        for _ in range(10):
            try:
                noise = cut_pauses(self.stretch(rng), self.sample_rate, rng)
                if noise is not None:
                    return fit_length(noise, n, rng)
            except MiaseError:
                continue
        return synthetic(n, self.sample_rate, rng)

    def _stretch_of_recordings(self, rng: np.random.Generator) -> Samples:
        info = self.recordings[int(rng.integers(len(self.recordings)))]
        n = round(PAUSES_SECONDS * self.sample_rate)
        return read_excerpt(info, n, self.sample_rate, rng, loop=False)


class ExampleSet(Protocol):
    """What a run reads batches from: ``len`` recordings, and an excerpt for each (epoch, position, index)."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Tensor]: ...

    def damaged_files(self) -> list[Path]:
        """The files that turned out to be unusable so far."""
        ...


class Examples(Dataset[dict[str, Tensor]]):
    """Excerpts of recordings with the fields that an objective needs.

    The key of an example is (epoch, position, index): where in the run it is asked for, and which recording.
    All that is random in it follows from the seed and this key.

    Attributes:
        damaged: which of the recordings turned out to be unreadable, (recording,), seen by all workers.
    """

    def __init__(
        self,
        infos: Sequence[AudioInfo],
        needs: frozenset[str],
        config: DataConfig,
        sample_rate: int,
        seed: int,
        noise: NoiseSource,
        partners: Mapping[str, Mapping[Path, Path]] | None = None,
    ) -> None:
        self.infos = list(infos)
        self.needs = needs
        self.n_samples = max(1, round(config.excerpt_seconds * sample_rate))
        self.sample_rate = sample_rate
        self.seed = seed
        self.noise = noise
        self.partners = partners or {}  # field -> noisy file -> the file of this field
        self.damaged = multiprocessing.RawArray("b", len(self.infos))

    def __len__(self) -> int:
        return len(self.infos)

    def damaged_files(self) -> list[Path]:
        """The recordings that turned out to be unreadable so far."""
        return [info.path for info, damaged in zip(self.infos, self.damaged, strict=True) if damaged]

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Tensor]:
        epoch, position, index = key
        rng = np.random.default_rng((self.seed, epoch, position))
        fields: dict[str, Samples] = {}
        for attempt in range(len(self.infos)):
            number = (index + attempt) % len(self.infos)
            info = self.infos[number]
            try:
                fields["noisy"] = self._excerpt(info, epoch, position)
                for name in self.needs & self.partners.keys():
                    fields[name] = self._excerpt(probe(self.partners[name][info.path]), epoch, position)
                break
            except AudioError:  # the header was readable, the samples are not: the next takes its place
                self.damaged[number] = 1
        else:
            raise CorpusError("none of the recordings can be read to its end")
        if "noise" in self.needs:
            fields["noise"] = self.noise.draw(self.n_samples, rng)
        return {
            name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in fields.items()
        }

    def stretch(self, index: int, seconds: float) -> Samples:
        """Some seconds of a recording, (time,), the same at each call; all of one that is shorter.

        Raises:
            AudioError: it cannot be read.
        """
        n = round(seconds * self.sample_rate)
        rng = np.random.default_rng((self.seed, index))
        return read_excerpt(self.infos[index], n, self.sample_rate, rng, loop=False)

    def _excerpt(self, info: AudioInfo, epoch: int, position: int) -> Samples:
        """The excerpt of a position, (time,): the same place in the recording and in its partners."""
        rng = np.random.default_rng((self.seed, epoch, position, 1))
        return read_excerpt(info, self.n_samples, self.sample_rate, rng)


def read_excerpt(
    info: AudioInfo, n: int, sample_rate: int, rng: np.random.Generator, *, loop: bool = True
) -> Samples:
    """``n`` samples at ``sample_rate`` from a random place of a random channel, (time,).

    A recording that is shorter is repeated, or returned as short as it is when ``loop`` is False.
    """
    n_frames = -(-n * info.sample_rate // sample_rate)
    latest = max(0, info.n_frames - n_frames)
    start = int(rng.integers(latest + 1))
    samples, _ = load(info.path, sample_rate, start, min(n_frames, info.n_frames))
    excerpt: Samples = samples[rng.integers(len(samples))][:n]
    if loop and len(excerpt) < n:
        excerpt = np.resize(excerpt, n)
    return excerpt


def n_steps_of_epoch(n_recordings: int, batch_size: int) -> int:
    """Steps in which each recording is met about once, or a few times when they are few."""
    return max(MIN_EPOCH_STEPS, n_recordings // batch_size)


def batches(
    examples: ExampleSet,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    workers: int = 0,
    part: tuple[int, int] = (0, 1),
    chosen: Sequence[int] = (),
) -> Iterator[dict[str, Tensor]]:
    """The batches of an epoch from its step ``first_step`` on; their order follows from seed and epoch.

    Args:
        examples: where they come from, by keys (epoch, position, index).
        batch_size: items of a step, all processes together.
        seed: of the order.
        epoch: which.
        first_step: of those to give.
        workers: processes that read ahead.
        part: (number, of how many) of the equal parts of each batch that is asked for.
        chosen: numbers of the recordings to take them from; by default all.
    """
    n_steps = n_steps_of_epoch(len(examples), batch_size)
    order = np.random.default_rng((seed, epoch)).permutation(chosen or len(examples))
    order = np.resize(order, n_steps * batch_size)
    number, n_parts = part
    size = batch_size // n_parts
    keys = [
        [(epoch, p, int(order[p])) for p in range(first + number * size, first + (number + 1) * size)]
        for first in range(first_step * batch_size, n_steps * batch_size, batch_size)
    ]
    dataset: Any = examples
    loader: DataLoader[Any] = DataLoader(dataset, batch_sampler=keys, num_workers=workers)
    try:
        yield from loader
    except CorpusError as error:  # torch puts the worker's traceback before the message
        text = str(error).splitlines()[-1].removeprefix(f"{CorpusError.__module__}.{CorpusError.__name__}: ")
        raise CorpusError(text) from error


def clean_partners(noisy_dir: Path) -> dict[Path, Path]:
    """The clean file of each noisy file of a folder that ``miase corpus`` made.

    Raises:
        CorpusError: the folder has no manifest that names clean files.
    """
    pairs = {
        noisy_dir / item.noisy: noisy_dir / item.clean
        for item in read_manifest(noisy_dir)
        if item.clean is not None
    }
    if not pairs:
        raise CorpusError(f"{noisy_dir} names no clean files; make a corpus with 'miase corpus'")
    return pairs


def second_takes(noisy_dir: Path) -> dict[Path, Path]:
    """The noisy file of the second take for each of the first, of a folder that ``miase corpus`` made.

    The two have the same speech at the same level and independent noise.

    Raises:
        CorpusError: the folder has no manifest, or some file has no second take.
    """
    takes: dict[int, dict[PurePosixPath, str]] = {1: {}, 2: {}}
    for item in read_manifest(noisy_dir):
        if item.take in takes:
            takes[item.take][PurePosixPath(*PurePosixPath(item.noisy).parts[1:])] = item.noisy
    missing = takes[1].keys() - takes[2].keys()
    if missing or not takes[1]:
        raise CorpusError(
            f"{len(missing)} of {len(takes[1])} noisy files in {noisy_dir} have no second take; "
            f"make the corpus with 'miase corpus ... --takes 2'"
        )
    return {noisy_dir / path: noisy_dir / takes[2][name] for name, path in takes[1].items()}
