"""Sound files in: the file of the package that opens them.

libsndfile reads. What it cannot open (m4a, mp4, webm, ...) is decoded by the `ffmpeg` program where that is
installed. Every failure is a one-line AudioError.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import soundfile as sf

from miase.ffmpeg import ffmpeg_blocks, ffmpeg_info, has_ffmpeg
from miase.resampling import check_rate, resample
from miase.sounds import (
    FFMPEG_SUFFIXES,
    SOUND_SUFFIXES,
    AudioInfo,
    Samples,
    audio_error,
    check_finite,
    os_name,
    reason_of,
)

BLOCK_SECONDS = 4.0  # of a file that is worked on as a stream
_READ_SAMPLES = 2**20  # samples of all channels in one read of `load`: 4 MiB


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
            source = ffmpeg_blocks(info.path, n_frames, start)
        else:
            source = _sndfile_blocks(self._file, n_frames, start)
        with closing(source):
            while start < stop:
                reason = ""
                try:
                    frames = next(source, None)
                except sf.SoundFileError as error:
                    frames, reason = None, f" ({reason_of(error)})"
                if frames is None:
                    got = f"holds {start} of {info.n_frames} samples{reason}"
                    raise audio_error(info.path, f"is truncated or damaged: {got}; record or copy it again")
                block = np.ascontiguousarray(frames[: stop - start].T)
                check_finite(block, info.path, info.sample_rate, start)
                start += block.shape[1]
                yield block


def readable_suffixes() -> frozenset[str]:
    """Suffixes of the sound files that can be read here: some need ffmpeg."""
    return SOUND_SUFFIXES if has_ffmpeg() else SOUND_SUFFIXES - FFMPEG_SUFFIXES


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
            raise audio_error(
                info.path, f"holds {info.n_frames} frames; asked for {asked}, which is none of them"
            )
        stop = info.n_frames if n_frames is None else min(info.n_frames, start + n_frames)
        # Not one array of the promised length: a damaged header may promise more than the memory holds.
        blocks = list(reader.blocks(max(1, _READ_SAMPLES // info.n_channels), start, stop))
    samples = np.concatenate(blocks, axis=1)
    if sample_rate is None or sample_rate == info.sample_rate:
        return samples, info.sample_rate
    return resample(samples, info.sample_rate, sample_rate), sample_rate


def _open(path: Path) -> sf.SoundFile | None:
    """Return the file opened by libsndfile, or None where that is left to ffmpeg."""
    try:
        if path.exists() and not path.is_file():
            raise audio_error(path, "is not a regular file; name a sound file")
        with path.open("rb") as stream:
            if not stream.read(1):
                raise audio_error(path, "is empty (0 bytes); record or copy it again")
    except FileNotFoundError:
        raise audio_error(path, "does not exist; check the name") from None
    except (OSError, ValueError) as error:
        raise audio_error(
            path, f"cannot be read ({reason_of(error)}); name a sound file that may be read"
        ) from None
    try:
        file = sf.SoundFile(os_name(path))
        if file.format != "RAW":
            return file
        file.close()  # libsndfile takes any bytes named .au for telephone speech without a header
        reason = "no header"
    except (sf.SoundFileError, TypeError, ValueError) as error:
        reason = reason_of(error)
    if path.suffix.lower() in FFMPEG_SUFFIXES:
        return None
    raise audio_error(path, f"is not a sound file that can be read ({reason}); convert it to WAV or FLAC")


def _describe(path: Path, file: sf.SoundFile | None) -> AudioInfo:
    if file is None:
        info = ffmpeg_info(path)
    else:
        n_frames = _mp3_length(path, file.frames) if file.format == "MP3" else file.frames
        info = AudioInfo(path, file.samplerate, file.channels, n_frames, file.format, file.subtype)
    if info.n_frames < 1:
        raise audio_error(path, "holds no samples; record or copy it again")
    check_rate(info.sample_rate, f"{path} states a sample rate of")
    return info


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
            raise audio_error(
                path, f"is a damaged MP3 file ({reason_of(error)}); record or copy it again"
            ) from None
        behind = stream.read(2)
        if n_frames == promised and len(behind) == 2 and behind[0] == 0xFF and behind[1] >= 0xE0:
            text = "states no length, and libsndfile would read only a part of it; convert it to WAV or FLAC"
            raise audio_error(path, f"is an MP3 file of variable bit rate that {text}")
        return n_frames
