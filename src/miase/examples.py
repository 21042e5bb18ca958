"""What a run learns from and validates with: noisy recordings, or speech and noise to be mixed."""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miase.codec import through_codec
from miase.config import MixConfig, RunConfig
from miase.dataset import (
    Examples,
    ExampleSet,
    NoiseSource,
    Recordings,
    clean_partners,
    find_recordings,
    second_takes,
    split_recordings,
)
from miase.errors import ConfigError, CorpusError
from miase.manifest import discover
from miase.objectives import OBJECTIVES
from miase.onthefly import ARTIFICIAL, Material, MixedExamples, Utterance
from miase.rooms import simulate_response
from miase.sounds import AudioInfo, Samples, find_sounds
from miase.sources import (
    Pool,
    Sound,
    choose_noise,
    choose_speech,
    class_name,
    keep_sounds,
    keys_left,
    stable_hash,
)

PIECE_SECONDS = 10.0  # longer files of speech count as several utterances of at most this
N_ROOMS = 24  # that are simulated, at the beginning; one takes about half a second


@dataclass(frozen=True)
class TrainingData:
    """The examples of a run, and what they are made of.

    Attributes:
        train: to learn from.
        valid: to validate with; the first ``n_valid`` are held out from training.
        n_valid: 0 for no validation.
        fingerprint: a hash by which a resumed run knows its recordings.
        failures: a line for each file that cannot be read.
        summary: what they are made of, for the model's card.
    """

    train: ExampleSet
    valid: ExampleSet
    n_valid: int
    fingerprint: str
    failures: tuple[str, ...]
    summary: str

    def damaged(self) -> tuple[str, ...]:
        """A line for each file whose samples turned out to be of no use so far."""
        files = {*self.train.damaged_files(), *self.valid.damaged_files()}
        return tuple(
            f"{file} is damaged or silent, at least in part; others took its place" for file in sorted(files)
        )


def open_examples(
    noisy_dir: Path | None, config: RunConfig, needs: frozenset[str], recordings: Recordings | None = None
) -> TrainingData:
    """Find the recordings of a run and part them.

    Args:
        noisy_dir: folder of noisy recordings; None to mix from the folders of ``config.mix``.
        config: of the run.
        needs: fields of the examples.
        recordings: those of ``noisy_dir`` to learn from; by default all.

    Raises:
        ConfigError: there is neither a folder nor speech to mix, or both; or what the settings name is not
            installed.
        CorpusError: the folders cannot serve.
    """
    if noisy_dir is not None and config.mix.speech:
        raise ConfigError(
            f"there is a folder of noisy recordings, {noisy_dir}, and speech to mix, "
            f"{', '.join(config.mix.speech)}; give one of the two"
        )
    if noisy_dir is not None:
        return _open_folder(noisy_dir, config, needs, recordings)
    if not config.mix.speech:
        raise ConfigError(
            "there is nothing to learn from; name a folder of noisy recordings, "
            "or give --speech and --mix-noise to mix them while training"
        )
    return _open_mix(config, needs)


def _open_folder(
    noisy_dir: Path, config: RunConfig, needs: frozenset[str], recordings: Recordings | None
) -> TrainingData:
    recordings = recordings or find_recordings(discover(noisy_dir), noisy_dir)
    training, validation = split_recordings(recordings, config.data.valid_share)
    sample_rate, seed = config.model.sample_rate, config.training.seed
    partners = find_partners(noisy_dir, needs)

    def of(infos: list[AudioInfo], needs: frozenset[str], sources: Sequence[str]) -> Examples:
        noise = NoiseSource(sources, sample_rate, training)
        return Examples(infos, needs, config.data, sample_rate, seed, noise, partners)

    return TrainingData(
        of(training, needs, config.objective.noise),
        # Where a recording of the validation cannot be read, one of the others takes its place.
        of(validation + training, needs | {"noise"}, _probes(config)),
        len(validation),
        recordings.fingerprint(),
        recordings.failures,
        f"{len(recordings.infos)} noisy recordings, {recordings.seconds / 3600:.2f} h",
    )


def find_partners(noisy_dir: Path, needs: frozenset[str]) -> dict[str, dict[Path, Path]]:
    """The files beside the noisy ones that an objective needs, by field and noisy file.

    Raises:
        CorpusError: they are not there; the message says which objectives do without.
    """
    found: dict[str, dict[Path, Path]] = {}
    missing: dict[str, str] = {}
    for field, find in (("clean", clean_partners), ("noisy2", second_takes)):
        try:
            found[field] = find(noisy_dir)
        except CorpusError as error:
            missing[field] = str(error)
    for field in sorted(needs & missing.keys()):
        others = [name for name, other in OBJECTIVES.items() if not other.needs & missing.keys()]
        raise CorpusError(f"{missing[field]}, or use an objective that does without: {', '.join(others)}")
    return {field: found[field] for field in needs & found.keys()}


def _probes(config: RunConfig) -> Sequence[str]:
    """Sources of the noise that a validation adds; the residual is none to begin with."""
    return [source for source in config.objective.noise if source != "residual"] or ["white"]


def _open_mix(config: RunConfig, needs: frozenset[str]) -> TrainingData:
    mix = config.mix
    sounds = choose_speech(_folders(mix.speech), mix.split)
    speech = find_recordings([sound.path for sound in sounds], ", ".join(mix.speech))
    for name in mix.codecs if mix.codec_share > 0 else ():
        through_codec(np.zeros(config.model.sample_rate, np.float32), config.model.sample_rate, name)
    pool, noise = _open_noise(mix, 2 if "noisy2" in needs else 1)
    rooms = _open_rooms(config)
    utterances = _cut(sounds, speech.infos, max(PIECE_SECONDS, config.data.excerpt_seconds))
    learned, held = split_utterances(utterances, config.data.valid_share)
    learned_pool, held_pool = split_pool(pool, config.data.valid_share, mix.mix_noise_class)

    def of(
        utterances: Sequence[Utterance], pool: Pool, needs: frozenset[str], sources: Sequence[str]
    ) -> MixedExamples:
        material = Material(
            tuple(utterances),
            pool,
            {info.path: info for info in noise.infos},
            tuple(room.infos if isinstance(room, Recordings) else room for room in rooms),
        )
        sample_rate, seed = config.model.sample_rate, config.training.seed
        return MixedExamples(material, needs, mix, config.data, sample_rate, seed, sources)

    files = [speech, noise, *(room for room in rooms if isinstance(room, Recordings))]
    prints = "\n".join(recordings.fingerprint() for recordings in files)
    kinds = [name for name in mix.mix_noise if name in ARTIFICIAL]
    with_noise = [f"{len(noise.infos)} recordings of noise"] if noise.infos else []
    return TrainingData(
        of(learned, learned_pool, needs, config.objective.noise),
        of(held, held_pool, needs | {"noise"}, _probes(config)),
        len(held),
        hashlib.sha256(prints.encode()).hexdigest(),
        tuple(failure for recordings in files for failure in recordings.failures),
        f"{len(speech.infos)} recordings of speech, {speech.seconds / 3600:.2f} h, "
        f"mixed while training with {' and '.join(with_noise + [f'{kind} noise' for kind in kinds])}",
    )


def _folders(names: Iterable[str]) -> tuple[Path, ...]:
    return tuple(Path(name) for name in names)


def _open_noise(mix: MixConfig, n_takes: int) -> tuple[Pool, Recordings]:
    """The noise of the folders, without the files that cannot be read."""
    folders = [name for name in mix.mix_noise if name not in ARTIFICIAL]
    if not folders:
        return {}, Recordings((), ())
    by_class = bool(mix.mix_noise_class)
    noise_class = mix.mix_noise_class or "mixed"
    pool = choose_noise(_folders(folders), mix.split, by_class, noise_class, takes=n_takes)
    files = [sound.path for sources in pool.values() for sounds in sources.values() for sound in sounds]
    found = find_recordings(files, ", ".join(folders))
    readable = {info.path for info in found.infos}
    pool = keep_sounds(pool, lambda sound: sound.path in readable)
    if class_name(noise_class) not in ("mixed", *pool):
        raise CorpusError(f"no file of class {class_name(noise_class)} can be read ({found.failures[0]})")
    return pool, found


def _open_rooms(config: RunConfig) -> list[Recordings | list[Samples]]:
    """The responses of each of ``config.mix.rooms``, when there are mixtures in rooms at all."""
    mix, rooms = config.mix, list[Recordings | list[Samples]]()
    for name in mix.rooms if mix.room_share > 0 else ():
        if name == "simulated":
            rngs = [
                np.random.default_rng(stable_hash("room", config.training.seed, n)) for n in range(N_ROOMS)
            ]
            rooms.append(
                [
                    simulate_response(config.model.sample_rate, rng.uniform(*mix.room_rt60), rng)
                    for rng in rngs
                ]
            )
        elif Path(name).is_dir():
            rooms.append(find_recordings(find_sounds(name), name))
        else:
            raise CorpusError(f"rooms {name!r} is not there; it must be simulated or a folder of responses")
    return rooms


def _cut(sounds: Sequence[Sound], infos: Sequence[AudioInfo], longest: float) -> list[Utterance]:
    """The files as utterances of at most ``longest`` seconds; longer ones in equal pieces."""
    sound_of = {sound.path: sound for sound in sounds}
    utterances = []
    for info in infos:
        bounds = np.linspace(0, info.n_frames, math.ceil(info.seconds / longest) + 1).astype(int).tolist()
        for start, stop in itertools.pairwise(bounds):
            utterances.append(Utterance(sound_of[info.path], info, start, stop - start))
    return utterances


def hold_out(sources: Iterable[str], share: float) -> frozenset[str]:
    """Some of the sources by a hash of their names: about ``share`` of them, one at least, never all."""
    ranked = sorted(set(sources), key=stable_hash)
    n_held = min(max(1, round(share * len(ranked))), len(ranked) - 1) if share > 0 else 0
    return frozenset(ranked[:n_held])


def split_utterances(
    utterances: Sequence[Utterance], share: float
) -> tuple[Sequence[Utterance], Sequence[Utterance]]:
    """Utterances for training and for validation: of other speakers, or of other files where one speaks all.

    A single file serves as both.
    """
    sources_of: tuple[Callable[[Utterance], str], ...] = (lambda u: u.sound.source, lambda u: u.sound.name)
    for source_of in sources_of:
        if held := hold_out(map(source_of, utterances), share):
            return (
                [utterance for utterance in utterances if source_of(utterance) not in held],
                [utterance for utterance in utterances if source_of(utterance) in held],
            )
    return utterances, utterances if share > 0 else ()


def split_pool(pool: Pool, share: float, noise_class: str = "") -> tuple[Pool, Pool]:
    """Noise for training and for validation, from other recordings; from each class where classes are named.

    A single recording, or the single one of the class that is asked for, serves as both.
    """
    if noise_class:
        held = frozenset[str]().union(*(hold_out(sources, share) for sources in pool.values()))
    else:
        held = hold_out(pool, share)
    train = keep_sounds(pool, lambda sound: sound.source not in held)
    valid = keep_sounds(pool, lambda sound: sound.source in held)
    serve = all(keys_left(part, noise_class or "mixed", set()) for part in (train, valid))
    return (train, valid) if serve else (pool, pool)
