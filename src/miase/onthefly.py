"""Noisy recordings that are mixed while training: (seed, utterance, take) -> noisy, and clean where needed.

A take is what one recorder heard: speech, in a room or not, with noise at an SNR, through `augment.Recorder`.
All of it is drawn from a hash of the seed, the utterance's name and the take, so a take comes back the same,
in any process, as if it lay on the disk.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from miase.audio import load
from miase.augment import draw_recorder, limit_band
from miase.config import DataConfig, MixConfig
from miase.dataset import NoiseSource, read_excerpt
from miase.errors import AudioError, CorpusError
from miase.mixing import Mixture, fit_length, is_silent, mix_at_snr
from miase.noise import synthetic, white
from miase.rooms import early_part, reverberate
from miase.sounds import AudioInfo, Samples, audio_error
from miase.sources import Pool, Sound, draw_sound, keep_sounds, keys_left, stable_hash

N_DRAWS = 10  # of a noise or a room, before folders of silence are given up
RESPONSE_SECONDS = 3.0  # of a room impulse response that are used

ARTIFICIAL: dict[str, Callable[[int, int, np.random.Generator], Samples]] = {
    "white": lambda n, sample_rate, rng: white(n, rng),
    "synthetic": synthetic,
}
"""Name in `MixConfig.mix_noise` -> (samples, sample rate in Hz, generator) -> noise, (time,)."""


@dataclass(frozen=True)
class Utterance:
    """Frames ``start`` to ``start + n_frames`` of a file of speech."""

    sound: Sound
    info: AudioInfo
    start: int
    n_frames: int


@dataclass(frozen=True)
class Material:
    """What mixtures are made of.

    Attributes:
        utterances: of speech.
        pool: recordings of noise, see `sources.choose_noise`.
        noise_infos: of each file of the pool.
        rooms: groups of responses that serve equal shares; each a file, or (time,) at the mixtures' rate.
    """

    utterances: tuple[Utterance, ...]
    pool: Pool
    noise_infos: dict[Path, AudioInfo]
    rooms: tuple[Sequence[AudioInfo | Samples], ...] = ()


@dataclass(frozen=True)
class Take:
    """Fields of a take, (time,) each, the whole utterance; ``noisy2`` has the same speech and other noise."""

    noisy: Samples
    clean: Samples
    noisy2: Samples | None = None


class MixedExamples(Dataset[dict[str, Tensor]]):
    """Excerpts of takes with the fields that an objective needs; keys as those of `dataset.Examples`.

    Args:
        material: speech, noise and rooms.
        needs: fields to give: noisy, clean, noisy2, noise.
        config: how to mix.
        data: length of the excerpts.
        sample_rate: in Hz.
        seed: of everything that is drawn.
        sources: of the field ``noise``, see `NoiseSource`; pauses are those of the mixtures.
    """

    def __init__(
        self,
        material: Material,
        needs: frozenset[str],
        config: MixConfig,
        data: DataConfig,
        sample_rate: int,
        seed: int,
        sources: Sequence[str] = (),
    ) -> None:
        self.material = material
        self.needs = needs
        self.config = config
        self.n_samples = max(1, round(data.excerpt_seconds * sample_rate))
        self.sample_rate = sample_rate
        self.seed = seed
        self.noise = NoiseSource(sources, sample_rate, stretch=self._stretch)
        self.pool_of = {
            name: _below(Path(name), material.pool) for name in config.mix_noise if name not in ARTIFICIAL
        }
        speech = (utterance.info.path for utterance in material.utterances)
        rooms = (room.path for group in material.rooms for room in group if isinstance(room, AudioInfo))
        self.files = list(dict.fromkeys([*speech, *material.noise_infos, *rooms]))
        self.number_of = {path: number for number, path in enumerate(self.files)}
        self.damaged = multiprocessing.RawArray("b", len(self.files))

    def __len__(self) -> int:
        return len(self.material.utterances)

    def damaged_files(self) -> list[Path]:
        """The files that turned out to be unreadable or silent so far."""
        return [path for path, damaged in zip(self.files, self.damaged, strict=True) if damaged]

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Tensor]:
        epoch, position, index = key
        rng = np.random.default_rng((self.seed, epoch, position))
        take = self._draw_take(index, rng)
        start = int(rng.integers(max(0, take.noisy.size - self.n_samples) + 1))
        fields: dict[str, Samples] = {}
        for name in sorted(self.needs - {"noise"}):
            fields[name] = np.resize(getattr(take, name)[start : start + self.n_samples], self.n_samples)
        if "noise" in self.needs:
            fields["noise"] = self.noise.draw(self.n_samples, rng)
        return {
            name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in fields.items()
        }

    def make_take(self, utterance: Utterance, take: object) -> Take:
        """One take of an utterance.

        Args:
            utterance: whose speech is heard.
            take: its number, or anything else whose text tells takes apart.

        Raises:
            AudioError: the speech cannot be read, or is silent.
            CorpusError: no noise can be found that is not silent.
        """
        config, sample_rate = self.config, self.sample_rate
        speech = _read_speech(utterance, sample_rate)
        identity = (self.seed, utterance.sound.name, utterance.start, take)
        rng = np.random.default_rng(stable_hash("take", *identity))
        recorder = draw_recorder(config, rng)
        heard = target = speech
        if rng.random() < config.room_share:
            response = self._draw_response(rng)
            heard = target = reverberate(speech, response)
            if config.room_target == "early":
                target = reverberate(speech, early_part(response, sample_rate))
        used: set[str] = set()
        heard_at = utterance.info.sample_rate
        mixtures = [
            self._mix(heard, heard_at, used, np.random.default_rng(stable_hash("noise", *identity, number)))
            for number in ((1, 2) if "noisy2" in self.needs else (1,))
        ]
        # Both follow the one that had to be lowered most, so that their speech has one level.
        gain = min(mixture.gain for mixture in mixtures)
        noisy = [mixture.noisy * np.float32(gain / mixture.gain) for mixture in mixtures]
        clean = recorder.pass_on(target * np.float32(gain), sample_rate)
        noisy = [recorder.damage(recorder.pass_on(x, sample_rate), sample_rate) for x in noisy]
        return Take(noisy[0], clean, *noisy[1:])

    def _draw_take(self, index: int, rng: np.random.Generator) -> Take:
        """Some take of an utterance; the next one stands in for a file that cannot be read."""
        name = int(rng.integers(self.config.takes)) if self.config.takes else int(rng.integers(2**63))
        for attempt in range(len(self)):
            utterance = self.material.utterances[(index + attempt) % len(self)]
            try:
                return self.make_take(utterance, name)
            except AudioError:
                self._note(utterance.info)
        raise CorpusError("none of the speech can be read to its end, or all of it is silent")

    def _stretch(self, rng: np.random.Generator) -> Samples:
        return self._draw_take(int(rng.integers(len(self))), rng).noisy

    def _mix(self, speech: Samples, heard_at: int, used: set[str], rng: np.random.Generator) -> Mixture:
        """Speech and noise as a recorder of the speech's own rate heard them, ``heard_at``, in Hz.

        Noise above its band would tell a network of a higher rate that there is nothing but noise up there.
        """
        snr_db = float(rng.uniform(*self.config.mix_snr_db))
        noise = self._draw_noise(speech.size, used, rng)
        return mix_at_snr(speech, limit_band(noise, self.sample_rate, heard_at // 2), snr_db)

    def _draw_noise(self, n: int, used: set[str], rng: np.random.Generator) -> Samples:
        source = self.config.mix_noise[rng.integers(len(self.config.mix_noise))]
        if source in ARTIFICIAL:
            return ARTIFICIAL[source](n, self.sample_rate, rng)
        noise_class = self.config.mix_noise_class or "mixed"
        for attempt in range(N_DRAWS):
            # A folder of which nothing can be heard has been tried often enough after half of them.
            folder = self.pool_of[source] if attempt < N_DRAWS // 2 else self.material.pool
            pool, tried = self._left(folder, noise_class, used)
            sound = draw_sound(pool, noise_class, tried, rng)
            info = self.material.noise_infos[sound.path]
            try:
                noise = read_excerpt(info, n, self.sample_rate, rng, loop=False)
                noise = fit_length(noise, n, rng, seam=self.sample_rate // 100)
                used |= tried
                return noise
            except (AudioError, CorpusError):
                self._note(info)
        raise CorpusError(f"{N_DRAWS} draws of noise were silent or unreadable; check the noise folders")

    def _left(self, folder: Pool, noise_class: str, used: set[str]) -> tuple[Pool, set[str]]:
        """The noise of a folder, or all of it where nothing there will do, and what not to draw of it."""
        for pool in (folder, self.material.pool):
            if keys_left(pool, noise_class, used):
                return pool, set(used)
        # Held-out noise may be a single recording, of which a second take hears another stretch.
        return self.material.pool, set()

    def _draw_response(self, rng: np.random.Generator) -> Samples:
        for _ in range(N_DRAWS):
            group = self.material.rooms[rng.integers(len(self.material.rooms))]
            room = group[int(rng.integers(len(group)))]
            if not isinstance(room, AudioInfo):
                return room
            try:
                response = _read_response(room, self.sample_rate, rng)
                if not is_silent(response):
                    return response
            except AudioError:
                pass
            self._note(room)
        raise CorpusError(f"{N_DRAWS} room responses were silent or unreadable; check the folders of --rooms")

    def _note(self, info: AudioInfo) -> None:
        self.damaged[self.number_of[info.path]] = 1


def _read_speech(utterance: Utterance, sample_rate: int) -> Samples:
    """The mean of its channels, (time,)."""
    info = utterance.info
    samples, _ = load(info.path, sample_rate, utterance.start, utterance.n_frames)
    speech = np.asarray(samples.mean(axis=0), dtype=np.float32)
    if is_silent(speech):
        raise audio_error(info.path, "is silent; remove it")
    return speech


def _below(folder: Path, pool: Pool) -> Pool:
    folder = folder.resolve()
    return keep_sounds(pool, lambda sound: folder in sound.path.parents)


def _read_response(info: AudioInfo, sample_rate: int, rng: np.random.Generator) -> Samples:
    """A random channel, (time,)."""
    samples, _ = load(info.path, sample_rate, n_frames=round(RESPONSE_SECONDS * info.sample_rate))
    response: Samples = samples[rng.integers(len(samples))]
    return response
