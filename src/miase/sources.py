"""What a corpus is made of: which files are whose speech and which recording's noise, and what a split gets.

A split is a hash of the names of speakers and noise recordings, so that it depends on nothing else.
"""

import fnmatch
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from miase.errors import CorpusError
from miase.manifest import sounds_in

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


@dataclass(frozen=True)
class Sound:
    """A file of speech or noise: `source` is its speaker or recording, `name` its path below the folder."""

    path: Path
    name: str
    source: str
    noise_class: str | None = None


# What differs from take to take (class for urbansound, else recording) -> recording -> its files.
Pool = dict[str, dict[str, list[Sound]]]


def choose_speech(
    folders: tuple[Path, ...], split: str, exclude: tuple[str, ...] = (), limit: int | None = None
) -> list[Sound]:
    """List the utterances to use, sorted by name.

    Args:
        folders: of clean speech.
        split: all, train, valid or test.
        exclude: patterns of names to leave out.
        limit: at most this many, taken from all over the folders.

    Raises:
        CorpusError: a folder is missing, or nothing is left.
    """
    found = []
    for folder, path, name in _list_sounds(folders):
        found.append((str(folder), Sound(path, name, _speaker(folder, path))))
    targets = Counter(PurePosixPath(sound.name).with_suffix("") for _, sound in found)
    if targets and max(targets.values()) > 1:
        raise CorpusError(f"{targets.most_common(1)[0][0]} is there in two file formats; remove one of them")
    chosen = [
        sound
        for sound in _take_split(found, split)
        if not any(fnmatch.fnmatchcase(sound.name, pattern) for pattern in exclude)
    ]
    if not chosen:
        where = ", ".join(map(str, folders))
        raise CorpusError(f"no speech is left of {len(found)} sound files in {where}; see split and excludes")
    if limit is not None:
        chosen = sorted(chosen, key=lambda sound: stable_hash("limit", sound.name))[:limit]
    return sorted(chosen, key=lambda sound: sound.name)


def choose_noise(
    folders: tuple[Path, ...],
    split: str,
    by_class: bool,
    noise_class: str = "mixed",
    folds: tuple[int, ...] = (),
    takes: int = 1,
) -> Pool:
    """List the noise to draw from.

    Args:
        folders: of noise; none gives an empty pool.
        split: all, train, valid or test.
        by_class: take only files named as in UrbanSound8K, and let takes differ in their class.
        noise_class: with `by_class`: a class that must be there, or mixed.
        folds: only files below the folders fold1 ... fold10 of these numbers; empty takes all.
        takes: the pool must have something else for each of them.

    Raises:
        CorpusError: a folder is missing, or what is left does not do.
    """
    if not folders:
        return {}
    found = []
    for folder, path, name in _list_sounds(folders):
        match = URBANSOUND_NAME.fullmatch(path.stem)
        of_class = URBANSOUND_CLASSES[int(match["number"])] if match else None
        if match or not by_class:
            found.append((f"{folder} {of_class}", Sound(path, name, _recording(path), of_class)))
    where = ", ".join(map(str, folders))
    if not found and by_class:
        raise CorpusError(
            f"{where} has no files named like UrbanSound8K, 100032-3-0-0.wav; use mix for other noise"
        )
    pool: Pool = {}
    for sound in _take_split(found, split):
        if not folds or any(f"fold{fold}" in sound.path.parts for fold in folds):
            key = sound.noise_class if by_class and sound.noise_class else sound.source
            pool.setdefault(key, {}).setdefault(sound.source, []).append(sound)
    if not pool:
        raise CorpusError(f"no noise is left of {len(found)} sound files in {where}; see split and folds")
    wanted = class_name(noise_class)
    if by_class and wanted != "mixed" and wanted not in pool:
        raise CorpusError(f"no noise of class {wanted} in {where}; there are {', '.join(sorted(pool))}")
    if len(pool) < takes:
        unit = "classes" if by_class else "recordings"
        raise CorpusError(f"{takes} takes need as many {unit} of noise; there are {len(pool)} in {where}")
    return pool


def draw_sound(pool: Pool, noise_class: str, used: set[str], rng: np.random.Generator) -> Sound:
    """Draw a noise that no earlier take of the utterance has used, and note its key in ``used``.

    Args:
        pool: see `choose_noise`.
        noise_class: class of the first take; mixed for any.
        used: keys of the pool that earlier takes have used.
        rng: where it is drawn from.
    """
    keys = keys_left(pool, noise_class, used)
    key = keys[rng.integers(len(keys))]
    used.add(key)
    # First the recording, then its slice: a recording cut into many slices is not heard more often.
    recordings = list(pool[key].values())
    files = recordings[rng.integers(len(recordings))]
    return files[rng.integers(len(files))]


def keys_left(pool: Pool, noise_class: str, used: set[str]) -> list[str]:
    """Keys of the pool that `draw_sound` may draw; none where it lacks the class, or all are used."""
    wanted = class_name(noise_class)
    return [key for key in pool if key not in used and (used or wanted in ("mixed", key))]


def keep_sounds(pool: Pool, wanted: Callable[[Sound], bool]) -> Pool:
    """The sounds that are wanted, without what is left empty."""
    kept: Pool = {}
    for key, sources in pool.items():
        for source, sounds in sources.items():
            if left := [sound for sound in sounds if wanted(sound)]:
                kept.setdefault(key, {})[source] = left
    return kept


def class_name(text: str) -> str:
    """Turn a class number into its name; leave anything else."""
    return URBANSOUND_CLASSES[int(text)] if re.fullmatch(r"[0-9]", text) else text


def stable_hash(*parts: object) -> int:
    """Return 64 bits that are the same in every process and on every machine."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


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
        for path in sounds_in(folder):
            if path not in seen:
                seen.add(path)
                yield folder, path, (prefix / path.relative_to(folder).as_posix()).as_posix()


def _take_split(sounds: list[tuple[str, Sound]], split: str) -> list[Sound]:
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
        sources.sort(key=stable_hash)
        places = [stable_hash(source) / 2**64 for source in sources]
        n = len(sources)
        n_test = min(max(sum(place < HELD_OUT for place in places), 1), n - 1)
        n_held = min(max(sum(place < 2 * HELD_OUT for place in places), n_test + 1), max(n - 1, n_test))
        names = ["test"] * n_test + ["valid"] * (n_held - n_test) + ["train"] * (n - n_held)
        split_of.update(zip(sources, names, strict=True))
    return [sound for _, sound in sounds if split_of[sound.source] == split]


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
