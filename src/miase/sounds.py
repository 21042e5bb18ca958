"""What a sound is here: samples, what a file of them holds, which files there are, and words for what fails.

Samples are float32 arrays of shape (channel, time), full scale +-1.0; a frame is a sample of each channel.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from miase.errors import AudioError

Samples = npt.NDArray[np.float32]

# libsndfile's formats and the suffixes they are stored under, the usual one first. When writing, a suffix of
# several formats means the first of them.
SUFFIXES_OF = {
    "WAV": (".wav",),
    "WAVEX": (".wav",),
    "NIST": (".wav",),
    "RF64": (".rf64", ".wav"),
    "W64": (".w64",),
    "FLAC": (".flac",),
    "MP3": (".mp3",),
    "OGG": (".ogg", ".opus", ".oga"),
    "AIFF": (".aiff", ".aif", ".aifc"),
    "AU": (".au",),
    "CAF": (".caf",),
}

# What only ffmpeg opens, and only for reading.
FFMPEG_SUFFIXES = frozenset((".m4a", ".mp4", ".webm", ".aac", ".wma", ".mka", ".mkv", ".mov", ".amr"))
SOUND_SUFFIXES: frozenset[str] = FFMPEG_SUFFIXES.union(*SUFFIXES_OF.values())


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file holds.

    Attributes:
        path: the file.
        sample_rate: in Hz.
        n_channels: number of channels.
        n_frames: samples of each channel, exactly as many as reading delivers.
        format: libsndfile's name, as "WAV", or "FFMPEG" for what only ffmpeg can read.
        subtype: libsndfile's name of the encoding, as "PCM_16"; with "FFMPEG" the suffix, as "M4A".
    """

    path: Path
    sample_rate: int
    n_channels: int
    n_frames: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.n_frames / self.sample_rate


def find_sounds(folder: str | Path) -> list[Path]:
    """Return the sound files in `folder` and its subfolders, sorted by their POSIX path relative to it.

    Hidden files and folders are skipped, and with them the unfinished files of `SoundWriter`.

    Raises:
        AudioError: `folder` is not a folder, or one in it cannot be listed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise audio_error(folder, "is not a folder; name a folder that holds sound files")

    def refuse(error: OSError) -> None:
        raise audio_error(Path(error.filename), f"cannot be listed ({error.strerror}); check its permissions")

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(parent, name) for name in names if not name.startswith("."))
        found += [file for file in files if file.suffix.lower() in SOUND_SUFFIXES and file.is_file()]
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def check_finite(samples: Samples, path: str | Path, sample_rate: int | None = None, start: int = 0) -> None:
    """Refuse samples that are NaN or infinite.

    Args:
        samples: shape (channel, time).
        path: the file they came from or go to, for the message.
        sample_rate: in Hz; with it the message gives the place in seconds, else in frames.
        start: frame of the file that samples[:, 0] is.

    Raises:
        AudioError: a sample is NaN or infinite.
    """
    finite = np.isfinite(samples)
    if finite.all():
        return
    frame = start + int(np.argmin(finite.all(axis=0)))
    place = f"frame {frame}" if sample_rate is None else f"{frame / sample_rate:.3f} s"
    count = finite.size - np.count_nonzero(finite)
    text = f"holds NaN or infinite samples: {count} of {finite.size}, the first at {place}; repair them"
    raise audio_error(Path(path), text)


def audio_error(path: Path, text: str) -> AudioError:
    """Return an error about `path` in one line, even where the name or a library's message has several."""
    return AudioError(" ".join(f"{path} {text}".split()))


def reason_of(error: Exception) -> str:
    """Return what a library says about a failure."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    if text.startswith("File does not exist"):  # said of any MP3 file that cannot be decoded
        return "no MPEG audio in it"
    return str(text).removeprefix("Error : ").rstrip(".") or "no reason given"


def os_name(path: Path) -> str | bytes:
    """Return a file's name as soundfile takes it."""
    # It refuses text that is not UTF-8, as old file names have it; Windows has no such names.
    return os.fsencode(path) if os.name == "posix" else str(path)
