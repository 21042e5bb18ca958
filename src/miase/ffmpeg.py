"""Decoding by the `ffmpeg` program of what libsndfile cannot open; only `audio` uses it."""

import shutil
import struct
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import IO

import numpy as np

from miase.sounds import AudioInfo, Samples, audio_error

# Containers that ffmpeg may open. No playlists: one that is named .mp4 could point to any other file.
_DEMUXERS = "mov,mp4,matroska,webm,aac,asf,amr,amrnb,amrwb"


def has_ffmpeg() -> bool:
    """Whether the program is there."""
    return shutil.which("ffmpeg") is not None


@contextmanager
def _decoded(path: Path) -> Iterator[tuple[IO[bytes], int, int]]:
    """Decode the first sound stream of `path`; give its big-endian float32 frames, rate in Hz and n_channels.

    The frames come behind the header of an AU file, which tells rate and channels.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise audio_error(path, f"needs ffmpeg, as all {path.suffix} files; install ffmpeg or convert to WAV")
    command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe"]
    command += ["-format_whitelist", _DEMUXERS, "-i", f"file:{path}", "-map", "0:a:0"]
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
                raise audio_error(path, f"cannot be decoded by ffmpeg ({reason}); convert it to WAV")
        finally:
            process.kill()


def ffmpeg_blocks(path: Path, n_frames: int, start: int) -> Generator[Samples, None, None]:
    """Decode `path` from frame `start` on; give blocks of shape (time, channel)."""
    with _decoded(path) as (output, _, n_channels):
        while data := output.read(4 * n_channels * n_frames):
            whole = len(data) // (4 * n_channels) * n_channels
            block = np.frombuffer(data, ">f4", count=whole).astype(np.float32).reshape(-1, n_channels)
            if start < len(block):
                yield block[start:]
            start = max(0, start - len(block))


def ffmpeg_info(path: Path) -> AudioInfo:
    """Decode all of `path` and return what it holds."""
    # Containers state a rounded duration or, recorded by a browser, none: only decoding tells the length.
    with _decoded(path) as (output, sample_rate, n_channels):
        n_bytes = sum(len(data) for data in iter(lambda: output.read(2**20), b""))
    n_frames = n_bytes // (4 * n_channels)
    return AudioInfo(path, sample_rate, n_channels, n_frames, "FFMPEG", path.suffix[1:].upper())
