"""What worker processes do for the service: look at a sound, enhance it, write it in a format, rate it.

What the model removes is kept as raw little-endian float32 frames, so any strength and format can be made of
the upload and of it, to the bit what `miase enhance` writes, without the model. Sounds of others are opened
nowhere else than here: a decoder that crashes takes a worker along, not the service.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from miase.audio import BLOCK_SECONDS, SoundReader
from miase.config import EnhanceConfig
from miase.errors import AudioError
from miase.sounds import AudioInfo, Samples
from miase.streamer import take_away
from miase.writing import SoundWriter, writable_format, writer_for

SILENT = 1e-4  # largest sample of a recording that counts as silent: -80 dB
JUDGED_CHANNELS = 2  # DNSMOS, which takes by far the longest, rates the first of them

Progress = Callable[[float], None]
Part = Literal["noisy", "estimate", "noise"]
Ratings = dict[str, float | None]


class TooLongError(AudioError):
    """The sound is longer, or has more channels, than the service allows."""


@dataclass(frozen=True)
class Sound:
    """What an upload holds; ``n_frames`` are those that are worked on.

    Attributes:
        sample_rate: in Hz.
        n_channels: number of channels.
        n_frames: samples of each channel.
    """

    sample_rate: int
    n_channels: int
    n_frames: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.n_frames / self.sample_rate


@dataclass(frozen=True)
class Scores:
    """What can be said of an estimate without clean speech.

    Attributes:
        noisy: DNSMOS of the recording by SIG, BAK and OVRL; None without the extra `eval`.
        estimate: the same of the estimate.
        warning: why speech may be damaged, in a sentence; None if it does not seem so.
    """

    noisy: Ratings | None
    estimate: Ratings | None
    warning: str | None


@dataclass(frozen=True)
class Probe:
    """Look at what an upload holds.

    Attributes:
        source: the upload.
        minutes: longest sound that is allowed.
        channels: most channels that are allowed.
        first_seconds: work on so much from the start; 0 for all.
    """

    source: Path
    minutes: float
    channels: int
    first_seconds: float = 0.0

    def run(self, models: Any, progress: Progress) -> Sound:
        """Give what it holds; raises AudioError where it is no sound, or more than allowed."""
        with SoundReader(self.source) as reader:
            info = reader.info
        if info.seconds > 60 * self.minutes:
            raise TooLongError(
                f"{self.source} lasts {info.seconds / 60:.1f} minutes; up to {self.minutes:g} are allowed, "
                f"cut it"
            )
        if info.n_channels > self.channels:
            raise TooLongError(
                f"{self.source} has {info.n_channels} channels; up to {self.channels} are allowed, split it"
            )
        n_frames = info.n_frames
        if self.first_seconds:
            n_frames = min(n_frames, max(1, round(self.first_seconds * info.sample_rate)))
        return Sound(info.sample_rate, info.n_channels, n_frames)


@dataclass(frozen=True)
class Enhance:
    """Write down what the model removes from a sound.

    Attributes:
        source: the upload.
        noise: file to write.
        sound: what the upload holds.
        model: name of the model.
        config: how to enhance.
    """

    source: Path
    noise: Path
    sound: Sound
    model: str
    config: EnhanceConfig

    def run(self, models: Any, progress: Progress) -> None:
        """Raises AudioError where the sound is damaged or silent."""
        peak = 0.0

        def heard(reader: SoundReader) -> Iterator[Samples]:
            nonlocal peak
            done = 0
            # The length that was allowed also ends the reading: a header may say something else each time.
            for block in reader.blocks(round(BLOCK_SECONDS * rate), 0, self.sound.n_frames):
                peak = max(peak, float(np.abs(block).max()))
                progress(done / self.sound.n_frames)
                done += block.shape[1]
                yield block

        rate, n_channels = self.sound.sample_rate, self.sound.n_channels
        enhancer = models[self.model]
        with SoundReader(self.source) as reader, self.noise.open("xb") as noise:
            for block in enhancer.noise_blocks(heard(reader), rate, n_channels, self.config):
                noise.write(np.ascontiguousarray(block.T, "<f4").tobytes())
        if peak < SILENT:
            raise AudioError(
                f"{self.source} is silent (no sample above {20 * np.log10(SILENT):.0f} dB); check the "
                f"microphone and record it again"
            )


@dataclass(frozen=True)
class Render:
    """Write a sound file from an upload and from what the model removed.

    Attributes:
        source: the upload.
        noise: what was removed.
        sound: what the upload holds.
        target: folder and name without suffix of the file to write.
        part: noisy is the upload, noise what was removed, estimate the difference.
        config: strength and limit of the estimate.
        file_format: suffix without its dot; None for the upload's format; "pcm" for 16-bit WAV in any case.
    """

    source: Path
    noise: Path
    sound: Sound
    target: Path
    part: Part
    config: EnhanceConfig
    file_format: str | None = None

    def run(self, models: Any, progress: Progress) -> Path:
        """Give the path that was written; raises AudioError where the format cannot hold the sound."""
        with SoundReader(self.source) as reader, self._writer(reader.info) as writer:
            done = 0
            for noisy, noise in paired_blocks(reader, self.noise, self.sound):
                progress(done / self.sound.n_frames)
                done += noisy.shape[1]
                if self.part == "estimate":
                    writer.write(take_away(noisy, noise, self.config))
                else:
                    writer.write(noisy if self.part == "noisy" else noise)
        return writer.path

    def _writer(self, info: AudioInfo) -> SoundWriter:
        n_frames, sound = self.sound.n_frames, self.sound
        if self.file_format == "pcm":
            how = {"format": "WAV", "subtype": "PCM_16", "n_frames_expected": n_frames}
            return SoundWriter(self.target.with_suffix(".wav"), sound.sample_rate, sound.n_channels, **how)  # type: ignore[arg-type]
        suffix = writable_format(info)[2] if self.file_format is None else f".{self.file_format}"
        return writer_for(
            info, self.target.with_suffix(suffix), file_format=self.file_format, n_frames=n_frames
        )


@dataclass(frozen=True)
class Rate:
    """Rate a sound before and after.

    Attributes:
        source: the upload.
        noise: what was removed.
        sound: what the upload holds.
        config: strength and limit of the estimate.
        seconds: from the start, that are rated.
    """

    source: Path
    noise: Path
    sound: Sound
    config: EnhanceConfig
    seconds: float

    def run(self, models: Any, progress: Progress) -> Scores:
        """Give the ratings."""
        from miase.judge import MEASURES, measure, verdict
        from miase.metrics import DNSMOS, METRICS, installed, score

        rate, n_channels = self.sound.sample_rate, self.sound.n_channels
        sound = Sound(rate, n_channels, min(self.sound.n_frames, max(1, round(self.seconds * rate))))
        with SoundReader(self.source) as reader:
            pairs = list(paired_blocks(reader, self.noise, sound))
        noisy, noise = (
            np.concatenate(blocks, axis=1)[:JUDGED_CHANNELS] for blocks in zip(*pairs, strict=True)
        )
        estimate = take_away(noisy, noise, self.config)
        values = {
            name: float(
                np.mean([measure(*pair, rate, name)[name] for pair in zip(estimate, noisy, strict=True)])
            )
            for name in MEASURES
            if name != "self_consistency"
        }
        names = DNSMOS[:3] if installed(METRICS[DNSMOS[0]]) else ()
        progress(0.2)
        noisy_values = score(noisy[0], None, rate, names)
        progress(0.6)
        values |= score(estimate[0], None, rate, names)
        worse = verdict(values, noisy_values)
        warning = (
            f"Speech may be damaged: {worse}. Listen, and lower the strength if it is." if worse else None
        )
        if not names:
            return Scores(None, None, warning)
        return Scores(_ratings(noisy_values), _ratings(values), warning)


Task = Probe | Enhance | Render | Rate


def paired_blocks(reader: SoundReader, noise: Path, sound: Sound) -> Iterator[tuple[Samples, Samples]]:
    """The upload and what was removed from it, (channel, time) each, block by block."""
    with noise.open("rb") as file:
        for block in reader.blocks(round(BLOCK_SECONDS * sound.sample_rate), 0, sound.n_frames):
            removed = np.fromfile(file, "<f4", block.size).reshape(-1, len(block)).T
            yield block, removed.astype(np.float32, copy=False)


def _ratings(values: dict[str, float]) -> Ratings:
    return {
        name: round(values[f"dnsmos_{name.lower()}"], 3)
        if np.isfinite(values[f"dnsmos_{name.lower()}"])
        else None
        for name in ("SIG", "BAK", "OVRL")
    }
