"""The verb ``enhance``: which file goes where, several at a time, and what became of each."""

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from miase.audio import probe
from miase.config import EnhanceConfig
from miase.enhance import Enhancer
from miase.errors import AudioError, ConfigError, MiaseError
from miase.registry import DEFAULT
from miase.sounds import SOUND_SUFFIXES, find_sounds
from miase.writing import FORMATS, writable_format

MARK = "_enhanced"  # what is added to the name of an output beside its input


@dataclass(frozen=True)
class BatchOptions:
    """How to go about many files.

    Attributes:
        model: name or folder of the model.
        device: auto, cpu, cuda or another name that torch knows.
        file_format: suffix of the outputs without its dot, one of ``FORMATS``; None keeps each input's.
        skip_existing: leave outputs alone that are there already.
        overwrite: replace outputs that are there already.
        jobs: files at a time, each in a process of its own.
        threads: CPU threads in all; 0 leaves the choice to torch.
        precision: one of ``PRECISIONS``.
        backend: auto, torch or onnx; auto takes onnx for a model whose name ends with .onnx.
        quiet: show no progress.
    """

    model: str = DEFAULT
    device: str = "auto"
    file_format: str | None = None
    skip_existing: bool = False
    overwrite: bool = False
    jobs: int = 1
    threads: int = 0
    precision: str = "32-true"
    backend: str = "auto"
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1 or self.threads < 0:
            raise ConfigError(
                f"jobs is {self.jobs} and threads {self.threads}; they must be from 1 and from 0 up"
            )
        if self.skip_existing and self.overwrite:
            raise ConfigError("--skip-existing and --overwrite exclude each other; give one of them")
        if self.file_format is not None and self.file_format not in FORMATS:
            raise ConfigError(f"format is {self.file_format!r}; it must be one of {', '.join(FORMATS)}")


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        source: the input.
        target: the output; None when none could be named.
        status: done, skipped or failed.
        error: why it failed, in one line.
        seconds: length of the sound.
        sample_rate: in Hz.
        n_channels: of the sound.
        n_clipped: samples beyond full scale, which an integer format clips.
    """

    source: Path
    target: Path | None
    status: str
    error: str = ""
    seconds: float = 0.0
    sample_rate: int = 0
    n_channels: int = 0
    n_clipped: int = 0

    def as_json(self) -> str:
        """One line of JSON."""
        values = {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()
        }
        return json.dumps(values)  # ASCII only, so that any terminal and any file name will do


def enhance_files(
    inputs: Sequence[str | Path],
    out: str | Path | None = None,
    config: EnhanceConfig | None = None,
    options: BatchOptions | None = None,
) -> Iterator[Outcome]:
    """Enhance files and folders; a file that fails never stops the others.

    Args:
        inputs: files, and folders that are read with their subfolders.
        out: a folder, below which names and the tree of each input folder are kept; for a single file also
            the name of the output; None to write STEM_enhanced beside each input.
        config: how to enhance.
        options: how to go about it.

    Yields:
        An outcome for each file, in the order in which they end.

    Raises:
        ConfigError, WeightsError: the options or the model cannot be used.
    """
    config, options = config or EnhanceConfig(), options or BatchOptions()
    work: list[tuple[Path, Path]] = []
    targets: set[Path] = set()
    planned = list(plan(inputs, out, options))
    sources = {source.resolve() for source, target in planned if target is not None}
    for source, target in planned:
        if target is None:
            yield Outcome(source, None, "failed", f"{source} does not exist; check the name")
        elif target.exists() and options.skip_existing:
            yield Outcome(source, target, "skipped")
        elif target.resolve() in sources:
            yield Outcome(
                source,
                target,
                "failed",
                f"{target} is an input, which is never overwritten; name another output",
            )
        elif target in targets:
            yield Outcome(
                source, target, "failed", f"{target} would be written twice; name another output folder"
            )
        else:
            work.append((source, target))
        if target is not None:
            targets.add(target)
    if not work:
        return
    enhancer = load_enhancer(options)  # a bad model is found here, once, and not in each worker
    with tqdm(total=len(work), unit="file", disable=options.quiet, dynamic_ncols=True) as bar:
        for outcome in _run(enhancer, work, config, options):
            yield outcome
            bar.update()


def plan(
    inputs: Sequence[str | Path], out: str | Path | None, options: BatchOptions
) -> Iterator[tuple[Path, Path | None]]:
    """Each input file with its output; None for an input that does not exist."""
    paths = [Path(path) for path in inputs]
    single = len(paths) == 1 and not paths[0].is_dir()
    as_file = (
        single and out is not None and Path(out).suffix.lower() in SOUND_SUFFIXES and not Path(out).is_dir()
    )
    for path in paths:
        if as_file:
            yield path, Path(str(out))
        elif path.is_dir():
            for source in find_sounds(path):
                if out is None:
                    if not _is_output(source):
                        yield source, _named(source, source.with_stem(source.stem + MARK), options)
                elif not _lies_in(source, Path(out)) or _lies_in(path, Path(out)):
                    yield source, _named(source, Path(out) / source.relative_to(path), options)
        elif not path.exists():
            yield path, None
        elif out is not None:
            yield path, _named(path, Path(out) / path.name, options)
        else:
            yield path, _named(path, path.with_stem(path.stem + MARK), options)


def _lies_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _is_output(path: Path) -> bool:
    """Whether a file in an input folder is the output of an earlier call."""
    stem = path.stem.removesuffix(MARK)
    return stem != path.stem and any(path.parent.glob(f"{stem}.*"))


def _named(source: Path, target: Path, options: BatchOptions) -> Path:
    """The output's name with the suffix of the format it will have."""
    if options.file_format is not None:
        return target.with_suffix(f".{options.file_format}")
    try:
        return target.with_suffix(writable_format(probe(source))[2])
    except AudioError:
        return target  # enhancing it will say why it cannot be read


def _run(
    enhancer: Enhancer, work: list[tuple[Path, Path]], config: EnhanceConfig, options: BatchOptions
) -> Iterator[Outcome]:
    n_workers = min(options.jobs, len(work))
    if n_workers == 1:
        for source, target in work:
            yield _enhance_one(enhancer, source, target, config, options)
        return
    threads = max(1, (options.threads or os.cpu_count() or 1) // n_workers)
    # Spawned, not forked: a fork would inherit torch's thread pools in whatever state they are.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, context, _start_worker, (options, threads)) as pool:
        futures = {
            pool.submit(_enhance_in_worker, source, target, config, options): (source, target)
            for source, target in work
        }
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                source, target = futures[future]
                yield Outcome(source, target, "failed", f"{source}: the worker process died; try --jobs 1")


_enhancer: Enhancer | None = None  # of a worker process


def _start_worker(options: BatchOptions, threads: int) -> None:
    global _enhancer
    _enhancer = _load(options, threads)


def _enhance_in_worker(source: Path, target: Path, config: EnhanceConfig, options: BatchOptions) -> Outcome:
    assert _enhancer is not None
    return _enhance_one(_enhancer, source, target, config, options)


def load_enhancer(options: BatchOptions) -> Enhancer:
    """The model that the options name, on the threads and the device that they name."""
    return _load(options, options.threads)


def _load(options: BatchOptions, threads: int) -> Enhancer:
    if threads:
        torch.set_num_threads(threads)
    exported = options.model.endswith(".onnx")
    if options.backend == "onnx" and not exported:
        raise ConfigError(
            f"the onnx backend takes a file; write it with: miase export -m {options.model} -o model.onnx"
        )
    if exported and options.backend != "torch":
        from miase.onnx_enhancer import OnnxEnhancer

        if options.precision != "32-true":
            raise ConfigError(
                f"precision is {options.precision!r}; an exported model has its own: leave it out, or name "
                f"a model that is not exported"
            )
        return OnnxEnhancer(options.model, threads)
    return Enhancer.from_pretrained(options.model, options.device, options.precision)


def _enhance_one(
    enhancer: Enhancer, source: Path, target: Path, config: EnhanceConfig, options: BatchOptions
) -> Outcome:
    try:
        done = enhancer.enhance_file(
            source, target, config, file_format=options.file_format, overwrite=options.overwrite
        )
    except MiaseError as error:
        return Outcome(source, target, "failed", str(error))
    except (RuntimeError, MemoryError, OSError) as error:  # out of memory, a device that went away
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Outcome(source, target, "failed", f"{source}: {reason}")
    return Outcome(
        source, target, "done", "", done.seconds, done.sample_rate, done.n_channels, done.n_clipped
    )
