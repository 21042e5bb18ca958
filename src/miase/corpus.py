"""Noisy speech from clean speech and noise, as a folder with a manifest.

    DIR/noisy/<relative path>.flac     the utterances with noise; noisy2/, noisy3/ ... for further takes
    DIR/clean/<relative path>.flac     the same utterances without
    DIR/manifest.jsonl                 one line per noisy file

What a file gets is drawn from a hash of the seed, its own name, copy and take. So the same bytes come out for
any number of processes, and adding an utterance changes no other.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter
from tqdm import tqdm

from miase import noise
from miase.audio import load
from miase.errors import ConfigError, CorpusError, MiaseError
from miase.manifest import MANIFEST_NAME, ManifestItem, read_manifest, write_manifest
from miase.mixing import fit_length, mix_at_snr
from miase.sounds import Samples
from miase.sources import (
    URBANSOUND_CLASSES,
    Pool,
    Sound,
    choose_noise,
    choose_speech,
    class_name,
    draw_sound,
    stable_hash,
)
from miase.writing import save

KINDS = ("white", "urbansound", "mix")
SPLITS = ("all", "train", "valid", "test")
FORMATS = ("flac", "wav")


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """What to make.

    Attributes:
        kind: white (artificial noise), urbansound (UrbanSound8K by class) or mix (any recordings).
        speech: folders of clean speech, read with their subfolders.
        output: folder to write.
        noise: folders of noise, read with their subfolders; none for white.
        noise_class: urbansound: a class by name or number, or mixed for all ten; further takes get another.
        folds: urbansound: take only files below these folders fold1 ... fold10; empty takes all.
        colour: white: white, pink, brown, blue, violet or synthetic (another artificial noise for each file).
        synthetic_share: mix: part of the files, 0 to 1, that get synthetic noise in place of a recording.
        snr: lowest and highest SNR in dB, over the whole utterance; drawn uniformly for each file.
        takes: noisy versions of an utterance that belong together: same speech at one level, other noise.
        copies: independent noisy versions of an utterance, each with its own file name.
        sample_rate: of all files written, in Hz.
        seed: another seed gives other noise at other SNRs; the split stays.
        max_seconds: longer utterances are cut into equal pieces of at most this; by default none is.
        limit: use at most this many utterances, taken from all over the folders; by default all.
        split: all, or train, valid or test: about 80, 10, 10 % of the speakers and of the noise recordings,
            by a hash of their names. Give the same folders for each split: a small one without a name in the
            test part lends its nearest.
        exclude_speech: patterns such as *p232* of utterances to leave out.
        format: flac or wav, 16 bit.
        keep_clean: write clean/ as well.
        workers: processes.
        overwrite: replace the corpus that is in the output folder.
        quiet: show no progress bar.
    """

    kind: Literal["white", "urbansound", "mix"] = field(kw_only=False)
    speech: tuple[Path, ...]
    output: Annotated[Path, Parameter(name=("-o", "--output"))]
    noise: tuple[Path, ...] = ()
    noise_class: str = "mixed"
    folds: tuple[int, ...] = ()
    colour: str = "white"
    synthetic_share: float = 0.0
    snr: tuple[float, float] = (0.0, 10.0)
    takes: int = 1
    copies: int = 1
    sample_rate: int = 16000
    seed: int = 0
    max_seconds: float | None = None
    limit: int | None = None
    split: Literal["all", "train", "valid", "test"] = "all"
    exclude_speech: tuple[str, ...] = ()
    format: Literal["flac", "wav"] = "flac"
    keep_clean: Annotated[bool, Parameter(negative="--no-clean")] = True
    workers: int = 1
    overwrite: bool = False
    quiet: Annotated[bool, Parameter(name=("-q", "--quiet"))] = False

    def __post_init__(self) -> None:
        is_white, is_urban, is_mix = (self.kind == kind for kind in KINDS)
        noiseless = is_white or (is_mix and self.synthetic_share == 1)
        colours = (*noise.COLOURS, "synthetic")
        classes = ("mixed", *URBANSOUND_CLASSES)
        low, high = self.snr
        for name, ok, allowed in (
            ("kind", self.kind in KINDS, ", ".join(KINDS)),
            ("speech", len(self.speech) > 0, "at least one folder"),
            ("noise", len(self.noise) > 0 or noiseless, f"at least one folder for {self.kind}"),
            ("noise", not (self.noise and is_white), "left out for white"),
            ("noise_class", class_name(self.noise_class) in classes, f"0 to 9 or {', '.join(classes)}"),
            ("noise_class", self.noise_class == "mixed" or is_urban, "left out but for urbansound"),
            ("folds", not self.folds or is_urban, "left out but for urbansound"),
            ("colour", self.colour in colours, f"one of {', '.join(colours)}"),
            ("colour", self.colour == "white" or is_white, "left out but for white"),
            ("synthetic_share", 0 <= self.synthetic_share <= 1, "from 0 to 1"),
            ("synthetic_share", not self.synthetic_share or is_mix, "left out but for mix"),
            ("snr", -100 <= low <= high <= 100, "lowest and highest, from -100 to 100 dB"),
            ("takes", self.takes >= 1, "1 or more"),
            ("copies", self.copies >= 1, "1 or more"),
            ("sample_rate", self.sample_rate >= 1000, "at least 1000 Hz"),
            ("max_seconds", self.max_seconds is None or self.max_seconds > 0, "above 0"),
            ("limit", self.limit is None or self.limit >= 1, "1 or more"),
            ("split", self.split in SPLITS, f"one of {', '.join(SPLITS)}"),
            ("format", self.format in FORMATS, f"one of {', '.join(FORMATS)}"),
            ("workers", self.workers >= 1, "1 or more"),
        ):
            if not ok:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be {allowed}")


@dataclass(frozen=True)
class CorpusReport:
    """What `make_corpus` did.

    Attributes:
        n_written: noisy files, of all takes.
        seconds: their length.
        failures: name and reason of each file that was left out.
    """

    n_written: int
    seconds: float
    failures: tuple[tuple[str, str], ...]


def make_corpus(options: CorpusOptions) -> CorpusReport:
    """Write a corpus of noisy speech.

    A file that cannot be read, or is silent, is left out and reported; the others are written.

    Raises:
        CorpusError: a folder is missing, the output folder is in use, or split and filters leave nothing.
    """
    speech = choose_speech(options.speech, options.split, options.exclude_speech, options.limit)
    by_class = options.kind == "urbansound"
    pool = choose_noise(
        options.noise, options.split, by_class, options.noise_class, options.folds, options.takes
    )
    _prepare_output(options)
    work = partial(_make_utterance, options, pool)
    items: list[ManifestItem] = []
    failures: list[tuple[str, str]] = []
    with tqdm(total=len(speech), unit="utterance", disable=options.quiet) as bar:
        for made, failed in _run(work, speech, options.workers):
            items += made
            failures += failed
            bar.update()
    items.sort(key=lambda item: item.noisy)
    write_manifest(options.output, items)
    return CorpusReport(len(items), sum(item.seconds for item in items), tuple(failures))


def _prepare_output(options: CorpusOptions) -> None:
    """Make the output folder; with overwrite, remove the files that its manifest lists and nothing else."""
    output = options.output
    for folder in (*options.speech, *options.noise):
        inner, outer = folder.resolve(), output.resolve()
        if inner.is_relative_to(outer) or outer.is_relative_to(inner):
            raise CorpusError(
                f"{output} and {folder}, which is read, lie in one another; write somewhere else"
            )
    if output.exists() and not output.is_dir():
        raise CorpusError(f"{output} is a file; give a folder")
    if output.is_dir() and any(output.iterdir()):
        if not options.overwrite:
            raise CorpusError(f"{output} is not empty; give a new folder, or allow to overwrite")
        if (output / MANIFEST_NAME).is_file():
            for item in read_manifest(output):
                for name in (item.noisy, item.clean):
                    if name:
                        (output / name).unlink(missing_ok=True)
            (output / MANIFEST_NAME).unlink()
    output.mkdir(parents=True, exist_ok=True)


_Made = tuple[list[ManifestItem], list[tuple[str, str]]]


def _run(work: "partial[_Made]", speech: list[Sound], workers: int) -> Iterator[_Made]:
    if workers == 1:
        yield from map(work, speech)
        return
    # Spawned, not forked: the caller may have started threads (PyTorch does), which a fork does not survive.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield from executor.map(work, speech, chunksize=max(1, min(32, len(speech) // (4 * workers))))


def _make_utterance(options: CorpusOptions, pool: Pool, speech: Sound) -> _Made:
    """Write every noisy version of one utterance."""
    made: list[ManifestItem] = []
    failed: list[tuple[str, str]] = []
    try:
        samples = _load(speech.path, options.sample_rate)
    except MiaseError as error:
        return made, [(speech.name, str(error))]
    n_pieces = 1
    if options.max_seconds is not None:
        n_pieces = max(1, -(-samples.size // max(1, int(options.max_seconds * options.sample_rate))))
    pieces = np.array_split(samples, n_pieces)
    for copy in range(1, options.copies + 1):
        for number, piece in enumerate(pieces, 1):
            name = PurePosixPath(speech.name)
            ending = (f"-part{number:03d}" if n_pieces > 1 else "") + (f"-copy{copy}" if copy > 1 else "")
            target = name.with_name(f"{name.stem}{ending}.{options.format}").as_posix()
            try:
                made += _make_takes(options, pool, speech, piece, target, (speech.name, copy, number))
            except MiaseError as error:
                failed.append((target, str(error)))
    return made, failed


def _make_takes(
    options: CorpusOptions,
    pool: Pool,
    speech: Sound,
    clean: Samples,
    target: str,
    identity: tuple[object, ...],
) -> list[ManifestItem]:
    """Write one piece of an utterance with the noise of each take."""
    used: set[str] = set()
    drawn = []
    for take in range(1, options.takes + 1):
        rng = np.random.default_rng(stable_hash(options.seed, *identity, take))
        snr_db = round(float(rng.uniform(*options.snr)), 4)
        samples, name, noise_class = _draw_noise(options, pool, clean.size, used, rng)
        drawn.append((mix_at_snr(clean, samples, snr_db), snr_db, name, noise_class))
    # The takes share one clean file, so all of them follow the one that had to be lowered most.
    gain = min(mixture.gain for mixture, *_ in drawn)
    clean_name = f"clean/{target}" if options.keep_clean else None
    if clean_name:
        _save(options, clean_name, clean * np.float32(gain))
    items = []
    for take, (mixture, snr_db, name, noise_class) in enumerate(drawn, 1):
        noisy_name = f"noisy{take if take > 1 else ''}/{target}"
        _save(options, noisy_name, mixture.noisy * np.float32(gain / mixture.gain))
        items.append(
            ManifestItem(
                noisy=noisy_name,
                clean=clean_name,
                noise=name,
                noise_class=noise_class,
                snr_db=snr_db,
                take=take,
                seconds=round(clean.size / options.sample_rate, 6),
                sample_rate=options.sample_rate,
                seed=options.seed,
                speaker=speech.source,
            )
        )
    return items


def _draw_noise(
    options: CorpusOptions, pool: Pool, n: int, used: set[str], rng: np.random.Generator
) -> tuple[Samples, str, str | None]:
    """Draw a noise that no earlier take has used; gives (samples of shape (n,), its name, its class)."""
    if options.colour == "synthetic" or (options.kind == "mix" and rng.random() < options.synthetic_share):
        kinds = noise.draw_kinds(rng)
        return noise.synthetic(n, options.sample_rate, rng, kinds), f"synthetic:{'+'.join(kinds)}", None
    if options.kind == "white":
        return noise.coloured(n, rng, noise.COLOURS[options.colour]), options.colour, None
    file = draw_sound(pool, options.noise_class, used, rng)
    samples = _load(file.path, options.sample_rate)
    return fit_length(samples, n, rng, seam=options.sample_rate // 100), file.name, file.noise_class


def _load(path: Path, sample_rate: int) -> Samples:
    """Read a file as one channel, shape (time,)."""
    samples, _ = load(path, sample_rate)
    return np.asarray(samples.mean(axis=0), dtype=np.float32)


def _save(options: CorpusOptions, name: str, samples: Samples) -> None:
    path = options.output / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, samples[None], options.sample_rate, subtype="PCM_16")
