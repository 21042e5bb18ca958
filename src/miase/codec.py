"""Sound through a lossy codec and back, in memory, by libsndfile: what telephones and recorders leave."""

import io
from typing import NamedTuple

import numpy as np
import soundfile as sf

from miase.errors import ConfigError
from miase.resampling import resample
from miase.sounds import Samples, reason_of


class Codec(NamedTuple):
    """A coding of libsndfile.

    Attributes:
        format: libsndfile's container.
        subtype: libsndfile's coding.
        levels: range of libsndfile's ``compression_level``, 0 (best) to 1 (smallest); None without a choice.
        rates: sample rates in Hz that it has; empty for all.
    """

    format: str
    subtype: str
    levels: tuple[float, float] | None = None
    rates: tuple[int, ...] = ()


MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_RATES = (8000, 12000, 16000)  # above, its low bit rates carry no wider band, and are 0.1 ms out of phase

SHORTEST_SECONDS = 0.1  # libsndfile cannot read back what Opus makes of a few samples

# The ranges reach from what is heard well to the lowest rates in use: Opus at level 1 has 6 kbit/s.
CODECS = {
    "mulaw": Codec("WAV", "ULAW"),
    "alaw": Codec("WAV", "ALAW"),
    "pcm8": Codec("WAV", "PCM_U8"),
    "adpcm": Codec("WAV", "IMA_ADPCM"),
    "gsm": Codec("WAV", "GSM610"),
    "mp3": Codec("MP3", "MPEG_LAYER_III", (0.5, 0.9), MPEG_RATES),
    "vorbis": Codec("OGG", "VORBIS", (0.7, 1.0)),
    "opus": Codec("OGG", "OPUS", (0.9, 1.0), OPUS_RATES),
}
"""Name -> codec; `config.CODEC_NAMES` are the keys."""


def through_codec(samples: Samples, sample_rate: int, name: str, level: float | None = None) -> Samples:
    """Encode and decode; the result is in phase with the input.

    Args:
        samples: shape (time,); what exceeds full scale is clipped.
        sample_rate: in Hz. The codec works at it, or at the next higher of those it has, or the highest.
        name: of `CODECS`.
        level: ``compression_level`` of the codecs that have one; None for the highest of their range.

    Returns:
        Shape (time,), as many samples.

    Raises:
        ConfigError: libsndfile was built without this codec.
    """
    codec = CODECS[name]
    rate = sample_rate
    if codec.rates and sample_rate not in codec.rates:
        rate = next((r for r in codec.rates if r > sample_rate), codec.rates[-1])
    encoded = np.clip(resample(samples, sample_rate, rate), -1, 1)
    encoded = np.pad(encoded, (0, max(0, round(SHORTEST_SECONDS * rate) - encoded.size)))
    how = {} if codec.levels is None else {"compression_level": codec.levels[1] if level is None else level}
    stream = io.BytesIO()
    try:
        with sf.SoundFile(stream, "w", rate, 1, codec.subtype, format=codec.format, **how) as file:
            file.write(encoded)
        stream.seek(0)
        decoded, _ = sf.read(stream, dtype="float32")
    except (sf.SoundFileError, ValueError) as error:
        raise ConfigError(
            f"libsndfile has no codec {name!r} at {rate} Hz ({reason_of(error)}); leave it out of --codecs"
        ) from error
    decoded = resample(decoded, rate, sample_rate)[: samples.size]
    return np.pad(decoded, (0, samples.size - decoded.size))
