"""Sound files in and out: the only file of the package that opens them.

Samples are float32 arrays of shape (channel, time), full scale +-1.0; a frame is a sample of each channel.
libsndfile reads and writes. What it cannot open (m4a, mp4, webm, ...) is decoded by the `ffmpeg` program
where that is installed, and can only be written in another format. Every failure is a one-line AudioError.
"""

import os
import secrets
import shutil
import struct
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from miase.errors import AudioError

Samples = npt.NDArray[np.float32]

# libsndfile's formats and the suffixes they are stored under, the usual one first. When writing, a suffix of
# several formats means the first of them.
_SUFFIXES_OF = {
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
_FFMPEG_SUFFIXES = frozenset((".m4a", ".mp4", ".webm", ".aac", ".wma", ".mka", ".mkv", ".mov", ".amr"))
SOUND_SUFFIXES: frozenset[str] = _FFMPEG_SUFFIXES.union(*_SUFFIXES_OF.values())

# Containers that ffmpeg may open. No playlists: one that is named .mp4 could point to any other file.
_FFMPEG_DEMUXERS = "mov,mp4,matroska,webm,aac,asf,amr,amrnb,amrwb"

# Bits of the subtypes that store integers; the other integer subtypes are coded from 16 bits.
_BITS_OF = {"PCM_S8": 8, "PCM_U8": 8, "ALAC_20": 20, "PCM_24": 24, "ALAC_24": 24, "PCM_32": 32, "ALAC_32": 32}
_FLOAT_SUBTYPES = frozenset({"FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_III"})
# Subtypes that keep the length; ADPCM and GSM fill up their last block with silence.
_EXACT_LENGTH_SUBTYPES = _FLOAT_SUBTYPES.union(_BITS_OF, {"PCM_16", "ALAC_16", "ULAW", "ALAW"})

# 32 bits hold the length in the headers of these formats. Some room is left for the header itself.
_FORMATS_OF_4_GB = frozenset({"WAV", "WAVEX", "AIFF"})
_MAX_BYTES_OF_4_GB = 2**32 - 2**16

# Rates outside are headers that lie, and resampling from or to them would fill the memory.
_MIN_SAMPLE_RATE, _MAX_SAMPLE_RATE = 1_000, 768_000

_READ_SAMPLES = 2**20  # samples of all channels in one read of `load`: 4 MiB
_WRITE_FRAMES = 2**14  # libsndfile keeps a block of Vorbis on the stack, where a long one overflows


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


def _error(path: Path, text: str) -> AudioError:
    """Return an error about `path` in one line, even where the name or a library's message has several."""
    return AudioError(" ".join(f"{path} {text}".split()))


def find_sounds(folder: str | Path) -> list[Path]:
    """Return the sound files in `folder` and its subfolders, sorted by their POSIX path relative to it.

    Hidden files and folders are skipped, and with them the unfinished files of `SoundWriter`.

    Raises:
        AudioError: `folder` is not a folder, or one in it cannot be listed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise _error(folder, "is not a folder; name a folder that holds sound files")

    def refuse(error: OSError) -> None:
        raise _error(Path(error.filename), f"cannot be listed ({error.strerror}); check its permissions")

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
    raise _error(Path(path), text)


def resampled_length(n_frames: int, source_rate: int, target_rate: int) -> int:
    """Return n_frames * target_rate / source_rate, rounded to the nearest integer and halves up."""
    return (2 * n_frames * target_rate + source_rate) // (2 * source_rate)


def _check_rate(sample_rate: int, what: str) -> None:
    if not _MIN_SAMPLE_RATE <= sample_rate <= _MAX_SAMPLE_RATE:
        allowed = f"{_MIN_SAMPLE_RATE} to {_MAX_SAMPLE_RATE} Hz"
        raise AudioError(f"{what} {sample_rate} Hz; allowed are {allowed}")


def resample(samples: Samples, source_rate: int, target_rate: int) -> Samples:
    """Return `samples` at `target_rate`, in phase with the input (zero delay).

    Args:
        samples: shape (channel, time) or (time,).
        source_rate: in Hz.
        target_rate: in Hz.

    Returns:
        As many axes as `samples`, with resampled_length(time, source_rate, target_rate) samples.

    Raises:
        AudioError: a rate is out of bounds.
    """
    whole = StreamResampler(source_rate, target_rate, 1 if samples.ndim == 1 else samples.shape[0])
    return whole.process(np.atleast_2d(samples), last=True).reshape(*samples.shape[:-1], -1)


class StreamResampler:
    """Resamples a signal block by block; the outputs joined equal `resample` of the whole, to the bit.

    Args:
        source_rate: in Hz.
        target_rate: in Hz.
        n_channels: channels of each block.

    Raises:
        AudioError: a rate is out of bounds.
    """

    def __init__(self, source_rate: int, target_rate: int, n_channels: int) -> None:
        _check_rate(source_rate, "cannot resample from")
        _check_rate(target_rate, "cannot resample to")
        self._stream = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, n_channels, "float32", "HQ")

    def process(self, block: Samples, last: bool = False) -> Samples:
        """Return the output that `block` completes, with no, fewer or more frames than it has.

        Args:
            block: shape (channel, time); time may be 0.
            last: the signal ends with `block`, and what was held back comes out. Nothing may follow.

        Returns:
            Shape (channel, time).
        """
        if self._stream is None:
            return block
        frames = np.ascontiguousarray(block.T, dtype=np.float32)
        return np.ascontiguousarray(self._stream.resample_chunk(frames, last=last).T)


@contextmanager
def _ffmpeg(path: Path) -> Iterator[tuple[IO[bytes], int, int]]:
    """Decode the first sound stream of `path`; give its big-endian float32 frames, rate in Hz and n_channels.

    The frames come behind the header of an AU file, which tells rate and channels.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise _error(path, f"needs ffmpeg, as all {path.suffix} files; install ffmpeg or convert to WAV")
    command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe"]
    command += ["-format_whitelist", _FFMPEG_DEMUXERS, "-i", f"file:{path}", "-map", "0:a:0"]
    command += ["-f", "au", "-c:a", "pcm_f32be", "pipe:1"]
    with (
        tempfile.TemporaryFile() as messages,
        Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=messages) as process,
    ):
        assert process.stdout is not None
        try:
            header = process.stdout.read(24).ljust(24, b"\0")
            magic, header_size, _, encoding, sample_rate, n_channels = struct.unpack(">4s5I", header)
            if decodes := (magic, encoding) == (b".snd", 6):
                process.stdout.read(header_size - 24)
                yield process.stdout, sample_rate, n_channels
            if process.wait() != 0 or not decodes:
                messages.seek(0)
                lines = messages.read(4096).decode(errors="replace").splitlines() or ["no reason given"]
                reason = lines[0].split("] ")[-1]
                raise _error(path, f"cannot be decoded by ffmpeg ({reason}); convert it to WAV")
        finally:
            process.kill()


def _ffmpeg_blocks(path: Path, n_frames: int, start: int) -> Generator[Samples, None, None]:
    """Decode `path` from frame `start` on; give blocks of shape (time, channel)."""
    with _ffmpeg(path) as (output, _, n_channels):
        while data := output.read(4 * n_channels * n_frames):
            whole = len(data) // (4 * n_channels) * n_channels
            block = np.frombuffer(data, ">f4", count=whole).astype(np.float32).reshape(-1, n_channels)
            if start < len(block):
                yield block[start:]
            start = max(0, start - len(block))


def _ffmpeg_info(path: Path) -> AudioInfo:
    # Containers state a rounded duration or, recorded by a browser, none: only decoding tells the length.
    with _ffmpeg(path) as (output, sample_rate, n_channels):
        n_bytes = sum(len(data) for data in iter(lambda: output.read(2**20), b""))
    n_frames = n_bytes // (4 * n_channels)
    return AudioInfo(path, sample_rate, n_channels, n_frames, "FFMPEG", path.suffix[1:].upper())


def _sndfile_blocks(file: sf.SoundFile, n_frames: int, start: int) -> Generator[Samples, None, None]:
    """Read `file` from frame `start` on; give blocks of shape (time, channel)."""
    # libsndfile 1.2.2 garbles an Opus read that starts within the last packet, which lasts up to 120 ms.
    unsplit = file.samplerate // 8 if file.subtype == "OPUS" else 0
    file.seek(start)
    while start < file.frames:
        size = n_frames if file.frames - start - n_frames >= unsplit else -1
        frames = file.read(size, dtype="float32", always_2d=True)
        if not len(frames):
            return
        start += len(frames)
        for first in range(0, len(frames), n_frames):
            yield frames[first : first + n_frames]


def _mp3_length(path: Path, promised: int) -> int:
    """Return the number of frames of an MP3 file, for which libsndfile promises `promised`.

    That is exact where the first MPEG frame states the length. Otherwise it is a guess from the size of that
    frame, and libsndfile stops there even if the guess is too small.
    """
    with path.open("rb") as stream:
        head = stream.read(10)
        if head[:3] == b"ID3":
            stream.seek(10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)))
        first = stream.read(512)
        if any(tag in first for tag in (b"Xing", b"Info", b"VBRI")):
            return promised
        stream.seek(0)
        try:
            with sf.SoundFile(stream) as file:
                n_frames = sum(len(block) for block in _sndfile_blocks(file, 2**16, 0))
        except sf.SoundFileError as error:
            raise _error(path, f"is a damaged MP3 file ({_reason(error)}); record or copy it again") from None
        behind = stream.read(2)
        if n_frames == promised and len(behind) == 2 and behind[0] == 0xFF and behind[1] >= 0xE0:
            text = "states no length, and libsndfile would read only a part of it; convert it to WAV or FLAC"
            raise _error(path, f"is an MP3 file of variable bit rate that {text}")
        return n_frames


def _reason(error: Exception) -> str:
    """Return what a library says about a failure."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    if text.startswith("File does not exist"):  # said of any MP3 file that cannot be decoded
        return "no MPEG audio in it"
    return str(text).removeprefix("Error : ").rstrip(".") or "no reason given"


def _os_name(path: Path) -> str | bytes:
    # soundfile refuses text that is not UTF-8, as old file names have it; Windows has no such names.
    return os.fsencode(path) if os.name == "posix" else str(path)


def _open(path: Path) -> sf.SoundFile | None:
    """Return the file opened by libsndfile, or None where that is left to ffmpeg."""
    try:
        if path.exists() and not path.is_file():
            raise _error(path, "is not a regular file; name a sound file")
        with path.open("rb") as stream:
            if not stream.read(1):
                raise _error(path, "is empty (0 bytes); record or copy it again")
    except FileNotFoundError:
        raise _error(path, "does not exist; check the name") from None
    except (OSError, ValueError) as error:
        raise _error(path, f"cannot be read ({_reason(error)}); name a sound file that may be read") from None
    try:
        file = sf.SoundFile(_os_name(path))
        if file.format != "RAW":
            return file
        file.close()  # libsndfile takes any bytes named .au for telephone speech without a header
        reason = "no header"
    except (sf.SoundFileError, TypeError, ValueError) as error:
        reason = _reason(error)
    if path.suffix.lower() in _FFMPEG_SUFFIXES:
        return None
    raise _error(path, f"is not a sound file that can be read ({reason}); convert it to WAV or FLAC")


def _describe(path: Path, file: sf.SoundFile | None) -> AudioInfo:
    if file is None:
        info = _ffmpeg_info(path)
    else:
        n_frames = _mp3_length(path, file.frames) if file.format == "MP3" else file.frames
        info = AudioInfo(path, file.samplerate, file.channels, n_frames, file.format, file.subtype)
    if info.n_frames < 1:
        raise _error(path, "holds no samples; record or copy it again")
    _check_rate(info.sample_rate, f"{path} states a sample rate of")
    return info


class SoundReader:
    """Reads a sound file block by block, in memory that does not grow with its length; a context manager.

    Args:
        path: the file.

    Attributes:
        info: what the file holds.

    Raises:
        AudioError: the file is missing, empty, without samples, not a sound file, or needs ffmpeg.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self._file = _open(path)
        try:
            self.info = _describe(path, self._file)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "SoundReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; leaving the `with` block does it too."""
        if self._file is not None:
            self._file.close()

    def blocks(self, n_frames: int, start: int = 0, stop: int | None = None) -> Iterator[Samples]:
        """Read frames `start` to `stop`, by default all, from the file anew at each call.

        Args:
            n_frames: frames in a block.
            start: first frame.
            stop: the frame behind the last one; the end of the file where None.

        Yields:
            Blocks of shape (channel, time) with time `n_frames`; the last one may be shorter.

        Raises:
            AudioError: the file is damaged or cut, or holds samples that are NaN or infinite.
        """
        info = self.info
        stop = info.n_frames if stop is None else stop
        if self._file is None:
            source = _ffmpeg_blocks(info.path, n_frames, start)
        else:
            source = _sndfile_blocks(self._file, n_frames, start)
        with closing(source):
            while start < stop:
                reason = ""
                try:
                    frames = next(source, None)
                except sf.SoundFileError as error:
                    frames, reason = None, f" ({_reason(error)})"
                if frames is None:
                    got = f"holds {start} of {info.n_frames} samples{reason}"
                    raise _error(info.path, f"is truncated or damaged: {got}; record or copy it again")
                block = np.ascontiguousarray(frames[: stop - start].T)
                check_finite(block, info.path, info.sample_rate, start)
                start += block.shape[1]
                yield block


def probe(path: str | Path) -> AudioInfo:
    """Return what a sound file holds; raises AudioError as `SoundReader` does."""
    with SoundReader(path) as reader:
        return reader.info


def load(
    path: str | Path, sample_rate: int | None = None, start: int = 0, n_frames: int | None = None
) -> tuple[Samples, int]:
    """Read a sound file, or a stretch of it, into memory.

    Args:
        path: the file.
        sample_rate: in Hz; the samples are resampled to it. None keeps the file's own.
        start: first frame, counted at the file's own rate.
        n_frames: at most this many frames, at that rate too; None for all up to the end.

    Returns:
        Samples of shape (channel, time) and their rate in Hz.

    Raises:
        AudioError: the file cannot be read, or holds nothing of what is asked for.
    """
    with SoundReader(path) as reader:
        info = reader.info
        if not 0 <= start < info.n_frames or (n_frames is not None and n_frames < 1):
            asked = f"start {start} and n_frames {n_frames}"
            raise _error(info.path, f"holds {info.n_frames} frames; asked for {asked}, which is none of them")
        stop = info.n_frames if n_frames is None else min(info.n_frames, start + n_frames)
        # Not one array of the promised length: a damaged header may promise more than the memory holds.
        blocks = list(reader.blocks(max(1, _READ_SAMPLES // info.n_channels), start, stop))
    samples = np.concatenate(blocks, axis=1)
    if sample_rate is None or sample_rate == info.sample_rate:
        return samples, info.sample_rate
    return resample(samples, info.sample_rate, sample_rate), sample_rate


def writable_format(info: AudioInfo) -> tuple[str, str, str]:
    """Return the format, subtype and suffix that write a sound back as it came in.

    What libsndfile cannot write, or only with another length, becomes 16-bit WAV.
    """
    suffix = info.path.suffix.lower()
    if info.format == "MP3":  # only layer III has an encoder
        return "MP3", "MPEG_LAYER_III", ".mp3"
    suffixes = _SUFFIXES_OF.get(info.format, ())
    if suffixes and info.subtype in _EXACT_LENGTH_SUBTYPES and sf.check_format(info.format, info.subtype):
        return info.format, info.subtype, suffix if suffix in suffixes else suffixes[0]
    return "WAV", "PCM_16", ".wav"


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
        named = next((name for name, suffixes in _SUFFIXES_OF.items() if suffix in suffixes), None)
        self.format = (format or named or "").upper()
        if self.format not in _SUFFIXES_OF:
            known = f"suffixes {' '.join(sorted(SOUND_SUFFIXES - _FFMPEG_SUFFIXES))}"
            raise _error(self.path, f"names no format that can be written; use the {known}")
        opus = self.format == "OGG" and suffix == ".opus"
        self.subtype = (subtype or ("OPUS" if opus else sf.default_subtype(self.format))).upper()
        if not sf.check_format(self.format, self.subtype):
            raise self._refusal(f"its subtypes are {' '.join(sf.available_subtypes(self.format))}")
        if self.subtype == "VORBIS" and (sample_rate > 200_000 or n_channels > 255):  # libsndfile would crash
            raise self._refusal("Vorbis has at most 200000 Hz and 255 channels")
        if self.path.is_dir() or (self.path.exists() and not overwrite):
            raise _error(self.path, "exists already; choose another name, or allow to overwrite a file")
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
        return _error(self.path, f"cannot be written as {what} ({reason}); choose another format or rate")

    def __enter__(self) -> "SoundWriter":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part.open("xb").close()  # says why it fails, as libsndfile does not
        except (OSError, ValueError) as error:
            reason = f"cannot be written ({_reason(error)}); choose a folder that may be written"
            raise _error(self.path, reason) from None
        try:
            how = (self.sample_rate, self.n_channels, self.subtype)
            self._file = sf.SoundFile(_os_name(self._part), "w", *how, format=self.format)
        except (sf.SoundFileError, TypeError, ValueError) as error:
            self._part.unlink()
            raise self._refusal(_reason(error)) from None
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
            raise _error(self.path, f"takes blocks of shape ({self.n_channels}, time), got {block.shape}")
        check_finite(block, self.path, self.sample_rate, self.n_frames)
        self.n_frames += block.shape[1]
        if self.format in _FORMATS_OF_4_GB and self.n_frames * self._bytes_per_frame > _MAX_BYTES_OF_4_GB:
            raise self._refusal("4 GB are its limit; RF64, W64 and FLAC hold more")
        try:
            for first in range(0, block.shape[1], _WRITE_FRAMES):
                self._file.write(self._encode(block[:, first : first + _WRITE_FRAMES].T))
        except (sf.SoundFileError, AssertionError) as error:  # soundfile asserts that all was written
            raise _error(self.path, f"cannot be written on ({_reason(error)}); is the disk full?") from None

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
                raise _error(self.path, f"cannot be finished ({_reason(error)}); is the disk full?") from None
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
        raise _error(Path(path), f"takes samples of shape (channel, time), got {samples.shape}")
    n_channels, n_frames = samples.shape
    how: dict[str, Any] = {"format": format, "subtype": subtype, "n_frames_expected": n_frames}
    with SoundWriter(path, sample_rate, n_channels, overwrite=True, **how) as writer:
        writer.write(samples)
