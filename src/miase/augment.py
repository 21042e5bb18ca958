"""What a recorder makes of a mixture: its level, band, overload and coding. First drawn, then applied.

Level and band are linear, and clean speech takes part in them. Clipping and codecs damage noisy alone.
"""

from dataclasses import dataclass

import numpy as np

from miase.codec import CODECS, through_codec
from miase.config import MixConfig
from miase.resampling import resample
from miase.sounds import Samples


@dataclass(frozen=True)
class Recorder:
    """One draw of all that a recorder does; None for what it leaves alone.

    Attributes:
        level_db: change of the level in dB.
        cut_hz: no sound is left above this frequency.
        clipped: part of the samples that clipping touches, 0 to 1.
        codec: name and compression level of `through_codec`.
    """

    level_db: float = 0.0
    cut_hz: int | None = None
    clipped: float | None = None
    codec: tuple[str, float | None] | None = None

    def pass_on(self, samples: Samples, sample_rate: int) -> Samples:
        """The linear part, for noisy and clean alike: shape (time,) at ``sample_rate`` Hz, the same back."""
        samples = change_level(samples, self.level_db)
        return samples if self.cut_hz is None else limit_band(samples, sample_rate, self.cut_hz)

    def damage(self, samples: Samples, sample_rate: int) -> Samples:
        """The rest, for noisy alone: shape (time,) at ``sample_rate`` Hz, the same back."""
        if self.clipped is not None:
            samples = clip(samples, self.clipped)
        return samples if self.codec is None else through_codec(samples, sample_rate, *self.codec)


def draw_recorder(config: MixConfig, rng: np.random.Generator) -> Recorder:
    """Draw a recorder. Each thing takes its draws whether it is wanted or not, so none changes the others."""
    level_db = float(rng.uniform(*config.level_db))
    has_band, cut_hz = rng.random() < config.band_share, round(rng.uniform(*config.band_hz))
    is_clipped, clipped = rng.random() < config.clip_share, float(rng.uniform(*config.clip_fraction))
    is_coded, name = rng.random() < config.codec_share, str(rng.choice(config.codecs))
    place, levels = rng.random(), CODECS[name].levels
    level = None if levels is None else levels[0] + place * (levels[1] - levels[0])
    return Recorder(
        level_db,
        cut_hz if has_band else None,
        clipped if is_clipped else None,
        (name, level) if is_coded else None,
    )


def change_level(samples: Samples, level_db: float) -> Samples:
    """Change the level by ``level_db``; shape (time,). Nothing is clipped."""
    return np.asarray(samples * np.float32(10 ** (level_db / 20)))


def limit_band(samples: Samples, sample_rate: int, cut_hz: int) -> Samples:
    """Take out what lies above ``cut_hz``, in phase, as a recorder of twice that sample rate does.

    Shape (time,), the same back. The slope begins at about 0.9 of ``cut_hz``.
    """
    if 2 * cut_hz >= sample_rate:
        return samples
    narrow = resample(samples, sample_rate, 2 * cut_hz)
    wide = resample(narrow, 2 * cut_hz, sample_rate)[: samples.size]
    return np.pad(wide, (0, samples.size - wide.size))


def clip(samples: Samples, fraction: float) -> Samples:
    """Clip at the magnitude that ``fraction`` of the samples, 0 to 1, reaches; shape (time,)."""
    n_clipped = round(fraction * samples.size)
    if n_clipped == 0:
        return samples
    ceiling = np.partition(np.abs(samples), samples.size - n_clipped)[samples.size - n_clipped]
    return np.clip(samples, -ceiling, ceiling)
