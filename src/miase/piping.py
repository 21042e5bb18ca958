"""Sound through pipes: WAV or raw PCM in, the same out, as it comes."""

import struct
import wave
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from miase.config import EnhanceConfig
from miase.enhance import Enhancer
from miase.errors import AudioError, ConfigError
from miase.resampling import check_rate
from miase.sounds import Samples

_READ_SECONDS = 0.02  # what is read at once
_UNKNOWN_SIZE = 0xFFFFFFFF  # in the header of a WAV whose length is not known yet


def enhance_pipe(
    enhancer: Enhancer,
    source: BinaryIO,
    target: BinaryIO,
    config: EnhanceConfig,
    *,
    raw_rate: int = 0,
    raw_channels: int = 1,
    lookahead: float | None = None,
) -> None:
    """Enhance what comes from one stream into another, block by block.

    Args:
        enhancer: the model.
        source: WAV of 16, 24 or 32-bit integers, or raw samples.
        target: gets the same kind.
        config: how to enhance.
        raw_rate: in Hz; the samples are raw then, 16-bit little-endian, without a header. 0 for WAV.
        raw_channels: channels of raw samples.
        lookahead: see `Enhancer.streamer`.

    Raises:
        AudioError: the source is no such sound.
        ConfigError: there are no channels, or a wrong lookahead.
    """
    if raw_channels < 1:
        raise ConfigError(f"raw_channels is {raw_channels}; it must be 1 or more")
    if raw_rate:
        sample_rate, n_channels, width = raw_rate, raw_channels, 2
        check_rate(sample_rate, "standard input cannot have a raw rate of")
        blocks = _raw_blocks(source, round(_READ_SECONDS * sample_rate) * n_channels * width)
    else:
        try:
            reader = wave.open(source, "rb")  # noqa: SIM115 - the stream is the caller's
        except (wave.Error, EOFError) as error:
            raise AudioError(
                f"standard input is no WAV of integers ({error or 'it ended'}); "
                f"give one, or raw 16-bit samples with --raw-rate"
            ) from error
        sample_rate, n_channels, width = reader.getframerate(), reader.getnchannels(), reader.getsampwidth()
        if width == 1:
            raise AudioError("standard input is a WAV of 8 bits; give 16, 24 or 32")
        check_rate(sample_rate, "standard input states a sample rate of")
        blocks = _wav_blocks(reader, round(_READ_SECONDS * sample_rate))
    streamer = enhancer.streamer(sample_rate, n_channels, config, lookahead=lookahead)
    if not raw_rate:
        target.write(_wav_header(sample_rate, n_channels, width))
    for block in blocks:
        estimate = streamer.feed(_decode(block, n_channels, width))
        if estimate.size:
            target.write(_encode(estimate, width))
            target.flush()
    target.write(_encode(streamer.flush(), width))
    target.flush()


def _raw_blocks(source: BinaryIO, n_bytes: int) -> Iterator[bytes]:
    while block := source.read(n_bytes):
        yield block


def _wav_blocks(reader: wave.Wave_read, n_frames: int) -> Iterator[bytes]:
    while block := reader.readframes(n_frames):
        yield block


def _decode(data: bytes, n_channels: int, width: int) -> Samples:
    """Little-endian integers of ``width`` bytes -> (channel, time); a frame that was cut off is left out."""
    n_frames = len(data) // (n_channels * width)
    octets = np.frombuffer(data, np.uint8, count=n_frames * n_channels * width).reshape(-1, width)
    upper = np.zeros((len(octets), 4), np.uint8)
    upper[:, 4 - width :] = octets
    samples = upper.view("<i4")[:, 0].astype(np.float64) / 2.0**31
    return np.ascontiguousarray(samples.reshape(n_frames, n_channels).T, dtype=np.float32)


def _encode(samples: Samples, width: int) -> bytes:
    """(channel, time) -> little-endian integers of ``width`` bytes, clipped at full scale."""
    full_scale = 2.0 ** (8 * width - 1)
    integers = np.rint(samples.T.astype(np.float64) * full_scale).clip(-full_scale, full_scale - 1)
    octets = integers.astype("<i8").reshape(-1, 1).view(np.uint8)[:, :width]
    return bytes(octets.tobytes())


def _wav_header(sample_rate: int, n_channels: int, width: int) -> bytes:
    frame = n_channels * width
    layout = struct.pack("<HHIIHH", 1, n_channels, sample_rate, sample_rate * frame, frame, 8 * width)
    return (
        b"RIFF" + struct.pack("<I", _UNKNOWN_SIZE) + b"WAVEfmt " + struct.pack("<I", len(layout)) + layout
    ) + (b"data" + struct.pack("<I", _UNKNOWN_SIZE))
