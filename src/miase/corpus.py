"""Noisy speech from clean speech and noise, as a folder with a manifest; and the reading of such folders.

    DIR/noisy/<relative path>.flac     the utterances with noise; noisy2/, noisy3/ ... for further takes
    DIR/clean/<relative path>.flac     the same utterances without
    DIR/manifest.jsonl                 one line per noisy file

What a file gets is drawn from a hash of the seed, its own name, copy and take. So the same bytes come out for
any number of processes, and adding an utterance changes no other.
"""

import dataclasses
import fnmatch
import hashlib
import json
import multiprocessing
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter
from tqdm import tqdm

from miase import audio, noise
from miase.errors import ConfigError, CorpusError, MiaseError
from miase.mixing import Samples, fit_length, mix_at_snr

URBANSOUND_CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
"""The ten classes of UrbanSound8K (Salamon, Jacoby, Bello, 2014) by their number in the file name."""

URBANSOUND_NAME = re.compile(r"(?P<source>\d+)-(?P<number>\d)-\d+-\d+")  # fsID-classID-occurrenceID-sliceID

# Which recording, or which speaker, a file comes from, where its name tells; matched with the stem.
NOISE_SOURCES = (URBANSOUND_NAME, re.compile(r"\d-(?P<source>\d+)-[A-Z]-\d+"))  # UrbanSound8K, ESC-50
SPEAKERS = (
    re.compile(r"(?P<source>[ps]\d{1,3})_\d{3}.*"),  # VCTK, Voice Bank
    re.compile(r"(?P<source>\d+)-\d+-\d{4,}.*"),  # LibriSpeech: speaker, chapter, utterance
)
CHANNEL_NAME = re.compile(r"ch\d+")  # DEMAND: one folder is one recording by 16 microphones

HELD_OUT = 0.1  # of the speakers, and of the noise recordings, each for valid and for test; the rest is train

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
            ("noise_class", _class_name(self.noise_class) in classes, f"0 to 9 or {', '.join(classes)}"),
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
class ManifestItem:
    """One noisy file of a corpus.

    Attributes:
        noisy: path below the corpus folder.
        clean: path below the corpus folder; None when clean/ was not kept.
        noise: the noise file below its folder, a colour, or synthetic: and the kinds that were summed.
        noise_class: class of UrbanSound8K, where the file's name tells it.
        snr_db: drawn SNR in dB; the written samples have it up to their rounding to 16 bit.
        take: 1, 2 ...
        seconds: length.
        sample_rate: in Hz.
        seed: of the corpus.
        speaker: as far as folder and file names tell.
    """

    noisy: str
    clean: str | None
    noise: str
    noise_class: str | None
    snr_db: float
    take: int
    seconds: float
    sample_rate: int
    seed: int
    speaker: str


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


@dataclass(frozen=True)
class _Sound:
    """A file of speech or noise: `source` is its speaker or recording, `name` its path below the folder."""

    path: Path
    name: str
    source: str
    noise_class: str | None = None


# What differs from take to take (class for urbansound, else recording) -> recording -> its files.
_Pool = dict[str, dict[str, list[_Sound]]]


def make_corpus(options: CorpusOptions) -> CorpusReport:
    """Write a corpus of noisy speech.

    A file that cannot be read, or is silent, is left out and reported; the others are written.

    Raises:
        CorpusError: a folder is missing, the output folder is in use, or split and filters leave nothing.
    """
    speech = _choose_speech(options)
    pool = _choose_noise(options)
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
    lines = (json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n" for item in items)
    unfinished = options.output / "manifest.jsonl.part"
    unfinished.write_text("".join(lines), encoding="utf-8")
    unfinished.replace(options.output / "manifest.jsonl")
    return CorpusReport(len(items), sum(item.seconds for item in items), tuple(failures))


def read_manifest(folder: Path) -> list[ManifestItem]:
    """Read the manifest of a corpus that `make_corpus` wrote.

    Raises:
        CorpusError: there is none, or a line is damaged.
    """
    path = folder / "manifest.jsonl"
    if not path.is_file():
        raise CorpusError(f"{folder} has no manifest.jsonl; it is not a folder made by `miase corpus`")
    items = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            item = ManifestItem(**json.loads(line))
            for name in filter(None, (item.noisy, item.clean)):
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise ValueError(f"{name} is outside the folder")
        except (ValueError, TypeError) as error:
            raise CorpusError(f"{path}, line {number} is damaged ({error}); make the corpus anew") from error
        items.append(item)
    return items


def discover(folder: Path) -> list[Path]:
    """List the noisy recordings of a folder, sorted.

    Of a folder made by `make_corpus`, these are the noisy files of the first take, never a clean one; of any
    other folder, all sound files in it and its subfolders.

    Raises:
        CorpusError: the folder is missing or holds no sound file.
    """
    if (folder / "manifest.jsonl").is_file() and (folder / "noisy").is_dir():
        sounds = [folder / item.noisy for item in read_manifest(folder) if item.take == 1]
    else:
        sounds = _find(folder)
    if not sounds:
        raise CorpusError(f"{folder} holds no sound files")
    return sounds


def _find(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder")
    return audio.find_sounds(folder)


def _class_name(text: str) -> str:
    """Turn a class number into its name; leave anything else."""
    return URBANSOUND_CLASSES[int(text)] if re.fullmatch(r"[0-9]", text) else text


def _hash(*parts: object) -> int:
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


# ---- choosing


def _list_sounds(folders: tuple[Path, ...]) -> Iterator[tuple[Path, Path, str]]:
    """Give (folder, file, name) of each file once.

    The name is the path below the folder; with several folders, after as many of their last parts as tell
    them apart. So it is unique, and the same wherever the folders lie.
    """
    folders = tuple(dict.fromkeys(folder.resolve() for folder in folders))
    depth = 0 if len(folders) == 1 else 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    seen = set()
    for folder in folders:
        prefix = PurePosixPath(*folder.parts[len(folder.parts) - depth :])
        for path in _find(folder):
            if path not in seen:
                seen.add(path)
                yield folder, path, (prefix / path.relative_to(folder).as_posix()).as_posix()


def _speaker(folder: Path, path: Path) -> str:
    for pattern in SPEAKERS:
        if match := pattern.fullmatch(path.stem):
            return match["source"]
    parent = path.parent.relative_to(folder).as_posix()
    return path.stem if parent == "." else parent


def _recording(path: Path) -> str:
    for pattern in NOISE_SOURCES:
        if match := pattern.fullmatch(path.stem):
            return match["source"]
    return path.parent.name if CHANNEL_NAME.fullmatch(path.stem) else path.stem


def _take_split(sounds: list[tuple[str, _Sound]], split: str) -> list[_Sound]:
    """Keep the sounds of one split; `sounds` are (stratum, sound).

    A hash puts each source (speaker, recording) at a place from 0 to 1; test and valid take the first places.
    A stratum with nobody there gives its nearest, so that small ones are tested too. A source in several
    strata belongs to the first, so that no two splits share one.
    """
    if split == "all":
        return [sound for _, sound in sounds]
    stratum_of: dict[str, str] = {}
    for stratum, sound in sounds:
        stratum_of.setdefault(sound.source, stratum)
    sources_of: defaultdict[str, list[str]] = defaultdict(list)
    for source, stratum in stratum_of.items():
        sources_of[stratum].append(source)
    split_of: dict[str, str] = {}
    for sources in sources_of.values():
        sources.sort(key=_hash)
        places = [_hash(source) / 2**64 for source in sources]
        n = len(sources)
        n_test = min(max(sum(place < HELD_OUT for place in places), 1), n - 1)
        n_held = min(max(sum(place < 2 * HELD_OUT for place in places), n_test + 1), max(n - 1, n_test))
        names = ["test"] * n_test + ["valid"] * (n_held - n_test) + ["train"] * (n - n_held)
        split_of.update(zip(sources, names, strict=True))
    return [sound for _, sound in sounds if split_of[sound.source] == split]


def _choose_speech(options: CorpusOptions) -> list[_Sound]:
    found = []
    for folder, path, name in _list_sounds(options.speech):
        found.append((str(folder), _Sound(path, name, _speaker(folder, path))))
    targets = Counter(PurePosixPath(sound.name).with_suffix("") for _, sound in found)
    if targets and max(targets.values()) > 1:
        raise CorpusError(f"{targets.most_common(1)[0][0]} is there in two file formats; remove one of them")
    chosen = [
        sound
        for sound in _take_split(found, options.split)
        if not any(fnmatch.fnmatchcase(sound.name, pattern) for pattern in options.exclude_speech)
    ]
    if not chosen:
        where = ", ".join(map(str, options.speech))
        raise CorpusError(f"no speech is left of {len(found)} sound files in {where}; see split and excludes")
    if options.limit is not None:
        chosen = sorted(chosen, key=lambda sound: _hash("limit", sound.name))[: options.limit]
    return sorted(chosen, key=lambda sound: sound.name)


def _choose_noise(options: CorpusOptions) -> _Pool:
    if not options.noise:
        return {}
    found = []
    for folder, path, name in _list_sounds(options.noise):
        match = URBANSOUND_NAME.fullmatch(path.stem)
        noise_class = URBANSOUND_CLASSES[int(match["number"])] if match else None
        if match or options.kind == "mix":
            found.append((f"{folder} {noise_class}", _Sound(path, name, _recording(path), noise_class)))
    where = ", ".join(map(str, options.noise))
    if not found and options.kind == "urbansound":
        raise CorpusError(
            f"{where} has no files named like UrbanSound8K, 100032-3-0-0.wav; use mix for other noise"
        )
    pool: _Pool = {}
    for sound in _take_split(found, options.split):
        if not options.folds or any(f"fold{fold}" in sound.path.parts for fold in options.folds):
            key = sound.noise_class if options.kind == "urbansound" and sound.noise_class else sound.source
            pool.setdefault(key, {}).setdefault(sound.source, []).append(sound)
    if not pool:
        raise CorpusError(f"no noise is left of {len(found)} sound files in {where}; see split and folds")
    wanted = _class_name(options.noise_class)
    if options.kind == "urbansound" and wanted != "mixed" and wanted not in pool:
        raise CorpusError(f"no noise of class {wanted} in {where}; there are {', '.join(sorted(pool))}")
    if len(pool) < options.takes:
        unit = "classes" if options.kind == "urbansound" else "recordings"
        raise CorpusError(
            f"{options.takes} takes need as many {unit} of noise; there are {len(pool)} in {where}"
        )
    return pool


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
        if (output / "manifest.jsonl").is_file():
            for item in read_manifest(output):
                for name in (item.noisy, item.clean):
                    if name:
                        (output / name).unlink(missing_ok=True)
            (output / "manifest.jsonl").unlink()
    output.mkdir(parents=True, exist_ok=True)


# ---- making

_Made = tuple[list[ManifestItem], list[tuple[str, str]]]


def _run(work: "partial[_Made]", speech: list[_Sound], workers: int) -> Iterator[_Made]:
    if workers == 1:
        yield from map(work, speech)
        return
    # Spawned, not forked: the caller may have started threads (PyTorch does), which a fork does not survive.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield from executor.map(work, speech, chunksize=max(1, min(32, len(speech) // (4 * workers))))


def _make_utterance(options: CorpusOptions, pool: _Pool, speech: _Sound) -> _Made:
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
    pool: _Pool,
    speech: _Sound,
    clean: Samples,
    target: str,
    identity: tuple[object, ...],
) -> list[ManifestItem]:
    """Write one piece of an utterance with the noise of each take."""
    used: set[str] = set()
    drawn = []
    for take in range(1, options.takes + 1):
        rng = np.random.default_rng(_hash(options.seed, *identity, take))
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
    options: CorpusOptions, pool: _Pool, n: int, used: set[str], rng: np.random.Generator
) -> tuple[Samples, str, str | None]:
    """Draw a noise that no earlier take has used; gives (samples of shape (n,), its name, its class)."""
    if options.colour == "synthetic" or (options.kind == "mix" and rng.random() < options.synthetic_share):
        kinds = noise.draw_kinds(rng)
        return noise.synthetic(n, options.sample_rate, rng, kinds), f"synthetic:{'+'.join(kinds)}", None
    if options.kind == "white":
        return noise.coloured(n, rng, noise.COLOURS[options.colour]), options.colour, None
    wanted = _class_name(options.noise_class)
    keys = [wanted] if wanted != "mixed" and not used else [key for key in pool if key not in used]
    key = keys[rng.integers(len(keys))]
    used.add(key)
    # First the recording, then its slice: a recording cut into many slices is not heard more often.
    recordings = list(pool[key].values())
    files = recordings[rng.integers(len(recordings))]
    file = files[rng.integers(len(files))]
    samples = _load(file.path, options.sample_rate)
    return fit_length(samples, n, rng, seam=options.sample_rate // 100), file.name, file.noise_class


def _load(path: Path, sample_rate: int) -> Samples:
    """Read a file as one channel, shape (time,)."""
    samples, _ = audio.load(path, sample_rate)
    return np.asarray(samples.mean(axis=0), dtype=np.float32)


def _save(options: CorpusOptions, name: str, samples: Samples) -> None:
    path = options.output / name
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.save(path, samples[None], options.sample_rate, subtype="PCM_16")
