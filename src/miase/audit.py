"""What a folder of noisy recordings is worth as material to learn from, told before minutes are spent on it.

Everything is read once: levels, clipping and copies are those of whole files. What needs a model, whether
anybody speaks, and the estimated SNR come from a stretch of at most 10 s from the middle of each.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from miase.audio import BLOCK_SECONDS, SoundReader, load
from miase.enhance import Enhancer
from miase.errors import AudioError, CorpusError
from miase.judge import LEAST_SPEECH, RATE, speech_share
from miase.manifest import discover
from miase.pauses import estimated_snr
from miase.sounds import AudioInfo

STRETCH_SECONDS = 10.0
FULL_SCALE = 0.999
CLIPPED = 1e-3  # share of the samples at full scale from which a recording is called clipped
SILENT_DB = -70.0  # below full scale
LEAST_SECONDS = 30.0  # of speech that an adaptation is refused below
ADVISED_SECONDS = 600.0
FEW = 10  # recordings


@dataclass(frozen=True)
class Recording:
    """One recording.

    Attributes:
        info: the file.
        level_db: RMS of all channels, in dB below full scale; -inf for digital silence.
        clipped: share of the samples at full scale.
        snr_db: estimated SNR; NaN where it cannot be told.
        speech: share of the frames that hold voiced speech.
        copy_of: an earlier recording with the same samples.
    """

    info: AudioInfo
    level_db: float
    clipped: float
    snr_db: float
    speech: float
    copy_of: Path | None = None

    @property
    def is_silent(self) -> bool:
        """Whether nothing is on it."""
        return self.level_db < SILENT_DB

    @property
    def has_speech(self) -> bool:
        """Whether somebody seems to speak, as far as the stretch tells."""
        return not self.is_silent and self.speech >= LEAST_SPEECH

    @property
    def is_useful(self) -> bool:
        """Whether it has something to learn from that no other has."""
        return self.copy_of is None and self.has_speech


@dataclass(frozen=True)
class Audit:
    """What a folder holds.

    Attributes:
        recordings: those that can be read, in the order of their names.
        failures: a line for each that cannot.
        sample_rate: of the model that listened, in Hz.
    """

    recordings: tuple[Recording, ...]
    failures: tuple[str, ...]
    sample_rate: int

    @property
    def useful(self) -> list[Recording]:
        """The recordings to learn from: speech, each once."""
        return [recording for recording in self.recordings if recording.is_useful]

    def facts(self) -> Iterator[tuple[str, str]]:
        """What there is: pairs of a name and a text."""
        infos = [recording.info for recording in self.recordings]
        unreadable = f", {len(self.failures)} unreadable" if self.failures else ""
        yield "recordings", f"{len(infos)} files, {_duration(_seconds(self.recordings))}{unreadable}"
        yield "of use", f"{len(self.useful)} files, {_duration(_seconds(self.useful))}"
        yield "rates", _counted([f"{info.sample_rate} Hz" for info in infos])
        yield "channels", _counted([str(info.n_channels) for info in infos])
        heard = [recording for recording in self.recordings if not recording.is_silent]
        yield "level", f"{_spread([r.level_db for r in heard], 'dBFS')}"
        yield "SNR", f"{_spread([r.snr_db for r in heard if r.has_speech], 'dB')}, estimated from the pauses"
        clipped = sum(recording.clipped >= CLIPPED for recording in self.recordings)
        yield "clipped", f"{clipped} files with {100 * CLIPPED:g} % of their samples or more at full scale"
        yield "copies", f"{sum(r.copy_of is not None for r in self.recordings)} files"
        silent = sum(not recording.has_speech for recording in self.recordings)
        yield "no speech", f"{silent} files, {100 * silent / len(self.recordings):.0f} %"

    def warnings(self) -> Iterator[str]:
        """What is amiss, a sentence each."""
        n = len(self.recordings)
        if self.failures:
            yield f"{len(self.failures)} of {n + len(self.failures)} recordings cannot be read."
        copies = sum(recording.copy_of is not None for recording in self.recordings)
        if copies:
            yield f"{copies} of {n} recordings are copies of others; each counts once."
        silent = sum(recording.is_silent for recording in self.recordings)
        if silent:
            yield f"{silent} of {n} recordings are silent; they are left out."
        mute = sum(not recording.has_speech and not recording.is_silent for recording in self.recordings)
        if mute:
            yield (
                f"{mute} of {n} recordings seem to hold no speech; they are left out. "
                f"If they hold the noise of the others, put them into a folder and name it by --noise."
            )
        clipped = sum(recording.clipped >= CLIPPED for recording in self.recordings)
        if clipped:
            yield f"{clipped} of {n} recordings are clipped; the model cannot mend that. Record them lower."
        narrow = sum(recording.info.sample_rate < self.sample_rate for recording in self.recordings)
        if narrow:
            yield (
                f"{narrow} of {n} recordings have a lower rate than the {self.sample_rate} Hz of the model, "
                f"and nothing in the upper part of its band."
            )
        if _seconds(self.useful) < ADVISED_SECONDS:
            yield f"Only {_duration(_seconds(self.useful))} are of use; ten minutes or more are advised."
        if 1 < len(self.useful) < FEW:
            yield f"Only {len(self.useful)} recordings are of use; {FEW} make the check at the end surer."
        snr = [recording.snr_db for recording in self.useful if np.isfinite(recording.snr_db)]
        if snr and np.median(snr) > 25:
            yield "Most recordings seem to be clean already; there is little to gain."
        if snr and np.median(snr) < -2:
            yield "The noise is louder than the speech in most recordings; expect little."

    def refusal(self) -> str:
        """Why nothing can be learned from the folder; empty if something can."""
        if all(recording.is_silent for recording in self.recordings):
            return "all recordings are silent; name a folder of noisy speech"
        if not self.useful:
            return "none of the recordings seems to hold speech; name a folder of noisy speech"
        if len(self.useful) < 0.2 * len({r.copy_of or r.info.path for r in self.recordings}):
            return (
                f"only {len(self.useful)} of {len(self.recordings)} recordings seem to hold speech; "
                f"keep those alone in the folder, so that the model does not learn to keep the rest"
            )
        if _seconds(self.useful) < LEAST_SECONDS:
            return (
                f"only {_duration(_seconds(self.useful))} of recordings are of use; "
                f"give {LEAST_SECONDS:g} s or more of different noisy speech, ten minutes are advised"
            )
        if len(self.useful) == 1:
            return (
                "only one recording is of use, and none is left to check the result with; "
                "cut it into two files or more"
            )
        return ""


def audit(folder: Path, enhancer: Enhancer, *, quiet: bool = True) -> Audit:
    """Look through a folder.

    Args:
        folder: of noisy recordings, or one made by `miase corpus`.
        enhancer: a model, which tells speech from noise.
        quiet: show no progress.

    Raises:
        CorpusError: there is no recording that can be read.
    """
    recordings: list[Recording] = []
    failures = []
    first_of: dict[str, Path] = {}
    for path in tqdm(discover(folder), unit="file", desc="audit", disable=quiet, dynamic_ncols=True):
        try:
            recordings.append(_look(path, enhancer, first_of))
        except AudioError as error:
            failures.append(str(error))
    if not recordings:
        raise CorpusError(f"{folder} holds no recording that can be read ({failures[0]})")
    return Audit(tuple(recordings), tuple(failures), enhancer.sample_rate)


def _look(path: Path, enhancer: Enhancer, first_of: dict[str, Path]) -> Recording:
    digest = hashlib.sha256()
    energy, n_full, n = 0.0, 0, 0
    with SoundReader(path) as reader:
        info = reader.info
        digest.update(f"{info.sample_rate} {info.n_channels}".encode())
        for block in reader.blocks(round(BLOCK_SECONDS * info.sample_rate)):
            energy += float(np.sum(np.square(block, dtype=np.float64)))
            n_full += int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
            n += block.size
            # At 16 bits, so that a copy in another lossless format is one, too.
            digest.update(np.round(block * 32767).astype(np.int32).tobytes())
    n_stretch = min(info.n_frames, round(STRETCH_SECONDS * info.sample_rate))
    samples, _ = load(path, RATE, (info.n_frames - n_stretch) // 2, n_stretch)
    estimate = enhancer.enhance(samples[0], RATE)
    first = first_of.setdefault(digest.hexdigest(), path)
    return Recording(
        info,
        level_db=_db(energy / n),
        clipped=n_full / n,
        snr_db=estimated_snr(samples[0], RATE),
        speech=speech_share(estimate, samples[0]),
        copy_of=None if first == path else first,
    )


def _db(power: float) -> float:
    return float(10 * np.log10(power)) if power > 0 else -np.inf


def _seconds(recordings: Sequence[Recording]) -> float:
    return sum(recording.info.seconds for recording in recordings)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in Counter(names).most_common(5))


def _spread(values: Sequence[float], unit: str) -> str:
    found = [value for value in values if np.isfinite(value)]
    if not found:
        return "unknown"
    low, middle, high = np.quantile(found, (0.1, 0.5, 0.9))
    return f"{middle:.0f} {unit} in the middle, {low:.0f} to {high:.0f} for eight of ten"
