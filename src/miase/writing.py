"""Sound files out, whole or block by block, by libsndfile; every failure is a one-line AudioError."""

import errno
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf

from miase.errors import AudioError, StorageError
from miase.sounds import (
    FFMPEG_SUFFIXES,
    SOUND_SUFFIXES,
    SUFFIXES_OF,
    AudioInfo,
    Samples,
    audio_error,
    check_finite,
    os_name,
    reason_of,
)

FORMATS = ("wav", "flac", "ogg", "opus", "mp3", "aiff", "w64")  # that may be asked for, by their suffix

# Bits of the subtypes that store integers; the other integer subtypes are coded from 16 bits.
_BITS_OF = {"PCM_S8": 8, "PCM_U8": 8, "ALAC_20": 20, "PCM_24": 24, "ALAC_24": 24, "PCM_32": 32, "ALAC_32": 32}
_FLOAT_SUBTYPES = frozenset({"FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_III"})
# Subtypes that keep the length; ADPCM and GSM fill up their last block with silence.
_EXACT_LENGTH_SUBTYPES = _FLOAT_SUBTYPES.union(_BITS_OF, {"PCM_16", "ALAC_16", "ULAW", "ALAW"})

# 32 bits hold the length in the headers of these formats. Some room is left for the header itself.
_FORMATS_OF_4_GB = frozenset({"WAV", "WAVEX", "AIFF"})
_MAX_BYTES_OF_4_GB = 2**32 - 2**16

_WRITE_FRAMES = 2**14  # libsndfile keeps a block of Vorbis on the stack, where a long one overflows


def writable_format(info: AudioInfo) -> tuple[str, str, str]:
    """Return the format, subtype and suffix that write a sound back as it came in.

    What libsndfile cannot write, or only with another length, becomes 16-bit WAV.
    """
    suffix = info.path.suffix.lower()
    if info.format == "MP3":  # only layer III has an encoder
        return "MP3", "MPEG_LAYER_III", ".mp3"
    suffixes = SUFFIXES_OF.get(info.format, ())
    if suffixes and info.subtype in _EXACT_LENGTH_SUBTYPES and sf.check_format(info.format, info.subtype):
        return info.format, info.subtype, suffix if suffix in suffixes else suffixes[0]
    return "WAV", "PCM_16", ".wav"


def writer_for(
    info: AudioInfo,
    target: Path,
    *,
    file_format: str | None = None,
    n_frames: int | None = None,
    overwrite: bool = False,
) -> "SoundWriter":
    """A writer of what a sound was made into: as it came in, or as the target's suffix says.

    Args:
        info: of the sound that came in.
        target: the file to write.
        file_format: given when another format was asked for, which the target's suffix then names.
        n_frames: length of the output; by default that of the input.
        overwrite: replace a file that is there already.

    Raises:
        AudioError: as `SoundWriter` does.
    """
    kind: str | None
    subtype: str | None
    kind, subtype, suffix = writable_format(info)
    if file_format is not None or target.suffix.lower() != suffix:
        kind, subtype = None, None
    return SoundWriter(
        target,
        info.sample_rate,
        info.n_channels,
        format=kind,
        subtype=subtype,
        overwrite=overwrite,
        n_frames_expected=info.n_frames if n_frames is None else n_frames,
    )


class SoundWriter:
    """Writes a sound file block by block under a hidden name and renames it when complete; a context manager.

    Nothing stays behind when the `with` block is left by an exception. Samples read from PCM of up to 24 bits
    are written as the same integers; float32 cannot hold all of PCM_32. Integer subtypes clip beyond +-1.0.

    Args:
        path: the file; folders on the way to it are made.
        sample_rate: in Hz.
        n_channels: number of channels.
        format: libsndfile's name, as "WAV"; by default what the suffix says.
        subtype: libsndfile's name of the encoding; by default PCM_16, or what a compressed format has.
        overwrite: replace a file that is there already.
        n_frames_expected: length, where known; WAV of more than 4 GB is then written as RF64.

    Attributes:
        n_frames: frames written so far.
        n_clipped: samples beyond +-1.0 that were clipped so far.

    Raises:
        AudioError: the file exists, or cannot be written like this or there.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        n_channels: int,
        *,
        format: str | None = None,  # noqa: A002 - libsndfile's and soundfile's word for it
        subtype: str | None = None,
        overwrite: bool = False,
        n_frames_expected: int = 0,
    ) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.n_channels = n_channels
        self.n_frames = 0
        self.n_clipped = 0
        suffix = self.path.suffix.lower()
        named = next((name for name, suffixes in SUFFIXES_OF.items() if suffix in suffixes), None)
        self.format = (format or named or "").upper()
        if self.format not in SUFFIXES_OF:
            known = f"suffixes {' '.join(sorted(SOUND_SUFFIXES - FFMPEG_SUFFIXES))}"
            raise audio_error(self.path, f"names no format that can be written; use the {known}")
        opus = self.format == "OGG" and suffix == ".opus"
        self.subtype = (subtype or ("OPUS" if opus else sf.default_subtype(self.format))).upper()
        if not sf.check_format(self.format, self.subtype):
            raise self._refusal(f"its subtypes are {' '.join(sf.available_subtypes(self.format))}")
        if self.subtype == "VORBIS" and (sample_rate > 200_000 or n_channels > 255):  # libsndfile would crash
            raise self._refusal("Vorbis has at most 200000 Hz and 255 channels")
        if self.path.is_dir() or (self.path.exists() and not overwrite):
            raise audio_error(self.path, "exists already; choose another name, or allow to overwrite a file")
        self._bytes_per_frame = n_channels * {"DOUBLE": 8, "FLOAT": 4}.get(self.subtype, self._bits // 8)
        if self.format in ("WAV", "WAVEX") and n_frames_expected * self._bytes_per_frame > _MAX_BYTES_OF_4_GB:
            self.format = "RF64"
        # A long name must stay within the 255 bytes that file systems allow.
        self._part = self.path.with_name(f".{self.path.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}.part")
        self._file: sf.SoundFile | None = None

    @property
    def _bits(self) -> int:
        return _BITS_OF.get(self.subtype, 16)

    def _refusal(self, reason: str) -> AudioError:
        what = f"{self.format} {self.subtype} with {self.n_channels} channels at {self.sample_rate} Hz"
        return audio_error(
            self.path, f"cannot be written as {what} ({reason}); choose another format or rate"
        )

    def _storage_error(self, text: str) -> StorageError:
        return StorageError(str(audio_error(self.path, f"{text}; is the disk full?")))

    def __enter__(self) -> "SoundWriter":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part.open("xb").close()  # says why it fails, as libsndfile does not
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise self._storage_error("cannot be written") from None
            reason = f"cannot be written ({reason_of(error)}); choose a folder that may be written"
            raise audio_error(self.path, reason) from None
        try:
            how = (self.sample_rate, self.n_channels, self.subtype)
            self._file = sf.SoundFile(os_name(self._part), "w", *how, format=self.format)
        except (sf.SoundFileError, TypeError, ValueError) as error:
            self._part.unlink()
            raise self._refusal(reason_of(error)) from None
        return self

    def write(self, block: Samples) -> None:
        """Append a block.

        Args:
            block: shape (channel, time), full scale at +-1.0.

        Raises:
            AudioError: wrong shape, NaN or infinite samples, a full disk, or a file that gets too long.
        """
        assert self._file is not None, "write within the with block"
        if block.ndim != 2 or block.shape[0] != self.n_channels:
            raise audio_error(
                self.path, f"takes blocks of shape ({self.n_channels}, time), got {block.shape}"
            )
        check_finite(block, self.path, self.sample_rate, self.n_frames)
        self.n_frames += block.shape[1]
        if self.format in _FORMATS_OF_4_GB and self.n_frames * self._bytes_per_frame > _MAX_BYTES_OF_4_GB:
            raise self._refusal("4 GB are its limit; RF64, W64 and FLAC hold more")
        try:
            for first in range(0, block.shape[1], _WRITE_FRAMES):
                self._file.write(self._encode(block[:, first : first + _WRITE_FRAMES].T))
        except (sf.SoundFileError, AssertionError) as error:  # soundfile asserts that all was written
            raise self._storage_error(f"cannot be written on ({reason_of(error)})") from None

    def _encode(self, frames: Samples) -> npt.NDArray[Any]:
        """Return `frames` as float32, or as the subtype's integers in the upper bits of int16 or int32."""
        if self.subtype in _FLOAT_SUBTYPES:
            return np.ascontiguousarray(frames, dtype=np.float32)
        # Given floats, libsndfile rounds down, half a step off; given int32, it wraps the lowest for ULAW.
        container = 16 if self._bits <= 16 else 32
        self.n_clipped += int(np.count_nonzero(np.abs(frames) > 1.0))
        full_scale = 2.0 ** (self._bits - 1)
        integers = np.rint(frames.astype(np.float64) * full_scale).clip(-full_scale, full_scale - 1)
        shifted = integers.astype(np.int32) << (container - self._bits)
        return np.ascontiguousarray(shifted.astype(f"int{container}"))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._file is not None
        try:
            self._file.close()
            if kind is None:
                self._part.replace(self.path)
        except (sf.SoundFileError, OSError) as error:
            if kind is None:
                raise self._storage_error(f"cannot be finished ({reason_of(error)})") from None
        finally:
            self._part.unlink(missing_ok=True)


def save(
    path: str | Path,
    samples: Samples,
    sample_rate: int,
    *,
    format: str | None = None,  # noqa: A002 - as in SoundWriter
    subtype: str | None = None,
) -> None:
    """Write `samples` of shape (channel, time) to a file, replacing one that is there; see `SoundWriter`.

    Raises:
        AudioError: the samples or the way of writing them are not allowed, or the folder cannot be written.
    """
    if samples.ndim != 2:
        raise audio_error(Path(path), f"takes samples of shape (channel, time), got {samples.shape}")
    n_channels, n_frames = samples.shape
    how: dict[str, Any] = {"format": format, "subtype": subtype, "n_frames_expected": n_frames}
    with SoundWriter(path, sample_rate, n_channels, overwrite=True, **how) as writer:
        writer.write(samples)
