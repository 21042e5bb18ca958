"""Folders of recordings: the manifest of those that `miase corpus` made, and the sound files of any."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from miase.errors import CorpusError
from miase.sounds import find_sounds

MANIFEST_NAME = "manifest.jsonl"


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


def write_manifest(folder: Path, items: Iterable[ManifestItem]) -> None:
    """Write the manifest of a corpus; there is none, rather than a part of it, when this is interrupted."""
    lines = (json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n" for item in items)
    unfinished = folder / f"{MANIFEST_NAME}.part"
    unfinished.write_text("".join(lines), encoding="utf-8")
    unfinished.replace(folder / MANIFEST_NAME)


def read_manifest(folder: Path) -> list[ManifestItem]:
    """Read the manifest of a corpus that `make_corpus` wrote.

    Raises:
        CorpusError: there is none, or a line is damaged.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise CorpusError(f"{folder} has no {MANIFEST_NAME}; it is not a folder made by `miase corpus`")
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
    if not ((folder / MANIFEST_NAME).is_file() and (folder / "noisy").is_dir()):
        return sounds_in(folder)
    sounds = [folder / item.noisy for item in read_manifest(folder) if item.take == 1]
    if not sounds:
        raise CorpusError(f"{folder / MANIFEST_NAME} names no recordings; make the corpus anew")
    return sounds


def sounds_in(folder: Path) -> list[Path]:
    """List the sound files of a folder and its subfolders, sorted.

    Raises:
        CorpusError: the folder is missing or holds no sound file.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder")
    sounds = find_sounds(folder)
    if not sounds:
        raise CorpusError(f"{folder} holds no sound files; name a folder that does")
    return sounds
