"""Settings of the networks, the data, the objectives and the training: frozen dataclasses.

They are the one source of the command's flags, of the TOML file's keys and of what a checkpoint remembers.
Every value is checked when its dataclass is made.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from cyclopts import Parameter

from miase.errors import ConfigError

MOST_SHIFTS = 64
HighBand = Literal["follow", "keep", "drop", "hear"]
HIGH_BANDS: tuple[str, ...] = get_args(HighBand)
CODEC_NAMES = ("mulaw", "alaw", "pcm8", "adpcm", "gsm", "mp3", "vorbis", "opus")


def require(ok: bool, name: str, got: object, allowed: str) -> None:
    """Refuse a setting, with what is allowed, unless it is ok and finite.

    Raises:
        ConfigError: it is not.
    """
    numbers = got if isinstance(got, tuple) else (got,)
    if not ok or any(isinstance(number, float) and math.isinf(number) for number in numbers):
        raise ConfigError(f"{name} is {got!r}; it must be {allowed}")


@dataclass(frozen=True)
class ModelConfig:
    """A network and the signal that it is made for.

    Attributes:
        name: network to train: dcunet10, dcunet10_rtstm, dcunet10_ctstm, dcunet10_ctstm_fine
            or dcunet20.
        sample_rate: rate of the sound that the network works at, in Hz.
        n_fft: length of an STFT frame, in samples.
        hop_length: distance between STFT frames, in samples.
        n_blocks: two-stage transformer blocks of the bottleneck.
        window_frames: STFT frames that the transformer sees at once; 0 means all of them, as published.
        level_seconds: span over which the level that is taken out of the network's input is measured.
        compression: exponent of the magnitudes that the network sees; 1 leaves them alone, as published.
        mask_exponent: of the mask's magnitude; below 1 less is taken away; 1 as published.
    """

    name: Annotated[str, Parameter(name="--model")] = "dcunet10_ctstm"
    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    n_blocks: int = 6
    window_frames: int = 256
    level_seconds: float = 4.0
    compression: float = 1.0
    mask_exponent: float = 1.0

    def __post_init__(self) -> None:
        require(4000 <= self.sample_rate <= 192000, "sample_rate", self.sample_rate, "4000 to 192000 Hz")
        require(self.n_fft >= 16 and self.n_fft % 2 == 0, "n_fft", self.n_fft, "an even number from 16 up")
        require(
            0 < self.hop_length <= self.n_fft // 2,
            "hop_length",
            self.hop_length,
            "1 to half of n_fft samples",
        )
        require(self.n_blocks >= 1, "n_blocks", self.n_blocks, "1 or more")
        require(
            self.window_frames >= 0 and self.window_frames % 16 == 0,
            "window_frames",
            self.window_frames,
            "0 or a multiple of 16 frames",
        )
        require(self.level_seconds > 0, "level_seconds", self.level_seconds, "above 0 s")
        for name in ("compression", "mask_exponent"):
            require(0 < getattr(self, name) <= 1, name, getattr(self, name), "above 0 and at most 1")


@dataclass(frozen=True)
class DataConfig:
    """How excerpts are taken from a folder of recordings.

    Attributes:
        excerpt_seconds: length of a training excerpt.
        batch_size: excerpts in a step.
        valid_share: share of the recordings that is kept for validation.
        workers: processes that read ahead; 0 reads between the steps.
    """

    excerpt_seconds: float = 2.0
    batch_size: int = 4
    valid_share: float = 0.05
    workers: int = 1

    def __post_init__(self) -> None:
        require(self.excerpt_seconds > 0, "excerpt_seconds", self.excerpt_seconds, "above 0 s")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        require(0 <= self.valid_share < 1, "valid_share", self.valid_share, "from 0 to below 1")
        require(self.workers >= 0, "workers", self.workers, "0 or more")


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the network learns from, and the parts of its loss.

    Attributes:
        name: what to learn from. Noisy recordings alone: iddp, iddp_paper (iddp as published), remixit,
            noisy_target, wiener_target, recorrupted or only_noisy. A corpus with two noisy takes of the same
            speech: noise2noise. A corpus with clean speech: noise2clean.
        noise: sources of the noise that is added: white, synthetic, pauses (quiet stretches of the
            recordings), residual (what the first pass removed) or folders of noise recordings. Each
            of several serves an equal share of the excerpts; repeat the flag for each.
        snr_db: lowest and highest signal-to-noise ratio at which noise is added, in dB.
        prior: network of the first pass: current, or average (its moving average).
        warmup: objective that iddp and remixit begin with: wiener_target, recorrupted or noisy_target.
        warmup_steps: steps that it takes; only wiener_target takes them when the residual is the only noise.
        target_share: share of the items of iddp and remixit that learn by the objective of the warm-up; it
            keeps speech that the first pass would lose.
        first_share: how far the first pass of iddp and wiener_target goes from the recording (0) to its
            estimate (1): what it would lose, it then loses less of.
        speech_share: share of the power around a bin that is left by the first pass of iddp where there is
            speech, and first_share holds; the less is left, the further it goes, all of the way where
            nothing is. 0: first_share everywhere.
        cleanest_of: iddp and wiener_target learn from the cleanest of each so many excerpts of a batch, by
            the SNR that the first pass estimates, with as many noises; 1 for all.
        cleanest_share: share of the recordings in steady noise that iddp learns from, those with the highest
            SNR by a Wiener filter at first, then by the network as it is in the warm-up. Where noise
            comes and goes it tells nothing; all stay.
        removed_weight: weight in the compressed spectrum's error of a bin of which the first pass of iddp and
            wiener_target removed all, where one that it left alone has 1: what it removed may have been
            speech.
        wsdr_weight: weight of the weighted SDR loss.
        time_weight: weight of the waveform's mean absolute error, relative to the target's level.
        spectrum_weight: weight of the compressed spectrum's error, relative to the target's level.
        loudness_weight: weight of the disturbance of loudness, about a point of PESQ each.
        mse_weight: weight of the waveform's mean squared error, as published.
        stft_weight: weight of the error of STFT magnitudes, as published.
        mrstft_weight: weight of the multi-resolution STFT loss.
        fidelity_weight: weight of the distance |x - f(x)| between the recording and the network's estimate,
            with its gradient.
        gamma: weight of the regularisation of only_noisy; published: 2 for artificial noise, 1 for real.
    """

    name: Annotated[str, Parameter(name="--objective")] = "iddp"
    noise: tuple[str, ...] = ("pauses", "pauses", "synthetic")
    snr_db: tuple[float, float] = (-5.0, 15.0)
    prior: str = "average"
    warmup: str = "wiener_target"
    warmup_steps: int = 400
    target_share: float = 0.5
    first_share: float = 0.85
    speech_share: float = 0.1
    cleanest_of: int = 2
    cleanest_share: float = 0.5
    removed_weight: float = 0.1
    wsdr_weight: float = 1.0
    time_weight: float = 1.0
    spectrum_weight: float = 2.0
    loudness_weight: float = 0.0
    mse_weight: float = 0.0
    stft_weight: float = 0.0
    mrstft_weight: float = 0.0
    fidelity_weight: float = 0.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        require(len(self.noise) > 0 and all(self.noise), "noise", self.noise, "one source or more")
        require(self.snr_db[0] <= self.snr_db[1], "snr_db", self.snr_db, "the lower end first")
        require(self.prior in ("current", "average"), "prior", self.prior, "current or average")
        require(
            self.warmup in ("wiener_target", "recorrupted", "noisy_target"),
            "warmup",
            self.warmup,
            "wiener_target, recorrupted or noisy_target",
        )
        require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")
        require(0 <= self.target_share <= 1, "target_share", self.target_share, "from 0 to 1")
        require(0 <= self.first_share <= 1, "first_share", self.first_share, "from 0 to 1")
        require(0 <= self.speech_share <= 1, "speech_share", self.speech_share, "from 0 to 1")
        require(self.cleanest_of >= 1, "cleanest_of", self.cleanest_of, "1 or more")
        require(0 < self.cleanest_share <= 1, "cleanest_share", self.cleanest_share, "above 0 and at most 1")
        require(0 < self.removed_weight <= 1, "removed_weight", self.removed_weight, "above 0 and at most 1")
        for weight in (f.name for f in dataclasses.fields(self)):
            if weight.endswith("_weight") or weight == "gamma":
                require(getattr(self, weight) >= 0, weight, getattr(self, weight), "0 or more")


@dataclass(frozen=True)
class TrainingConfig:
    """The course of a training run.

    Attributes:
        lr: highest learning rate of Adam.
        lr_schedule: linear or cosine (falls at the end of the run, see lr_decay), exponential (times 0.95
            each epoch, as published) or constant.
        lr_decay: share of the run, at its end, in which the learning rate falls to a hundredth.
        average_decay: decay of the moving average of the weights, which is the model that is kept.
        clip_norm: largest norm of the gradient.
        accumulate: batches whose gradients make one step.
        max_steps: steps after which the run ends; 0 for no such limit. One of the two limits is needed.
        max_minutes: minutes after which the run ends; 0 for no such limit. With this limit alone, the
            learning rate follows the minutes.
        valid_steps: steps between validations; the model that is kept is the last that is as good as the
            best of them, by a measure that needs no clean speech.
        patience: validations without a better one after which the run ends early; 0 for never.
        checkpoint_minutes: minutes between checkpoints, besides those at the end of each epoch.
        seed: seed of the weights, the excerpts and the noise.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto (bf16-mixed on a GPU that is fast at it, else 32-true) or one of Fabric's precisions.
        compile: compile the network with torch.compile.
        activation_checkpointing: keep little of what the layers computed and compute it again on the way
            back: less memory for more time.
        threads: threads of the CPU; 0 leaves the choice to torch.
        start: name or folder of a model whose weights the run starts from; the network's settings are then
            those of that model. Without it, the weights start at random.
        freeze_norms: leave the statistics of the batch norms as they are at the start, in the steps too.
    """

    lr: float = 1e-3
    lr_schedule: str = "linear"
    lr_decay: float = 0.4
    average_decay: float = 0.99
    clip_norm: float = 5.0
    accumulate: int = 1
    max_steps: int = 0
    max_minutes: float = 0.0
    valid_steps: int = 200
    patience: int = 20
    checkpoint_minutes: float = 2.0
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    activation_checkpointing: bool = False
    threads: int = 0
    start: str = ""
    freeze_norms: bool = False

    def __post_init__(self) -> None:
        require(self.lr > 0, "lr", self.lr, "above 0")
        schedules = ("linear", "cosine", "exponential", "constant")
        require(
            self.lr_schedule in schedules, "lr_schedule", self.lr_schedule, f"one of {', '.join(schedules)}"
        )
        require(self.accumulate >= 1, "accumulate", self.accumulate, "1 or more")
        require(self.valid_steps >= 1, "valid_steps", self.valid_steps, "1 or more")
        require(self.patience >= 0, "patience", self.patience, "0 or more")
        require(0 <= self.lr_decay <= 1, "lr_decay", self.lr_decay, "from 0 to 1")
        require(0 <= self.average_decay < 1, "average_decay", self.average_decay, "from 0 to below 1")
        require(self.clip_norm > 0, "clip_norm", self.clip_norm, "above 0")
        require(self.max_steps >= 0, "max_steps", self.max_steps, "0 or more")
        require(self.max_minutes >= 0, "max_minutes", self.max_minutes, "0 or more")
        require(self.checkpoint_minutes >= 0, "checkpoint_minutes", self.checkpoint_minutes, "0 or more")
        require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to below 2**32")
        require(self.threads >= 0, "threads", self.threads, "0 or more")
        require(
            bool(self.start) or not self.freeze_norms,
            "freeze_norms",
            self.freeze_norms,
            "left out of a run that starts from random weights; give --start",
        )


@dataclass(frozen=True)
class MixConfig:
    """Noisy recordings that are mixed while training, in place of a folder of them; see docs/data.md.

    Attributes:
        speech: folders of speech, read with their subfolders; repeat the flag for each.
        mix_noise: what the speech is mixed with: folders of noise recordings, white or synthetic. Each of
            several serves an equal share of the mixtures; repeat the flag for each.
        mix_noise_class: take only files named as in UrbanSound8K: of one class by name or number, or mixed
            for all; by default any recording will do.
        split: all, or train, valid or test: the parts of speakers and noise recordings that 'miase corpus'
            knows.
        mix_snr_db: lowest and highest SNR of a mixture in dB, over the whole utterance.
        takes: noisy versions that there are of each utterance, as a real recording exists once; 0 makes a
            new one each time.
        level_db: lowest and highest change of a mixture's level in dB; 0 0 for none.
        band_share: share of the mixtures that lose the sound above a cut-off; so does their clean speech.
        band_hz: lowest and highest cut-off in Hz.
        clip_share: share of the mixtures that are clipped.
        clip_fraction: smallest and largest part of the samples that clipping touches.
        codec_share: share of the mixtures that go through a codec.
        codecs: codecs to draw from: mulaw, alaw, pcm8, adpcm, gsm, mp3, vorbis, opus; repeat the flag for
            each.
        room_share: share of the mixtures whose speech is heard in a room.
        rooms: simulated (needs pyroomacoustics), or folders of room impulse responses; repeat the flag for
            each.
        room_rt60: shortest and longest reverberation time of simulated rooms in s.
        room_target: what clean speech is in a room: reverberant, or early for its first 50 ms.
    """

    speech: tuple[str, ...] = ()
    mix_noise: tuple[str, ...] = ()
    mix_noise_class: str = ""
    split: str = "all"
    mix_snr_db: tuple[float, float] = (-5.0, 15.0)
    takes: int = 0
    level_db: tuple[float, float] = (0.0, 0.0)
    band_share: float = 0.0
    band_hz: tuple[float, float] = (2000.0, 7000.0)
    clip_share: float = 0.0
    clip_fraction: tuple[float, float] = (0.001, 0.05)
    codec_share: float = 0.0
    codecs: tuple[str, ...] = CODEC_NAMES
    room_share: float = 0.0
    rooms: tuple[str, ...] = ("simulated",)
    room_rt60: tuple[float, float] = (0.2, 0.8)
    room_target: str = "reverberant"

    def __post_init__(self) -> None:
        require(all(self.speech), "speech", self.speech, "folders")
        require(all(self.mix_noise), "mix_noise", self.mix_noise, "folders, white or synthetic")
        if self.speech and not self.mix_noise:
            raise ConfigError(
                "speech to mix needs noise; give --mix-noise with a folder, or --mix-noise synthetic"
            )
        if self.mix_noise and not self.speech:
            raise ConfigError("mix_noise needs speech to mix with; give --speech with a folder of it")
        require(
            self.split in ("all", "train", "valid", "test"), "split", self.split, "all, train, valid or test"
        )
        require(self.takes >= 0, "takes", self.takes, "0 or more")
        for name, least, most, unit in (
            ("mix_snr_db", -100, 100, "dB"),
            ("level_db", -60, 20, "dB"),
            ("band_hz", 500, 96000, "Hz"),
            ("clip_fraction", 0, 0.5, "of the samples"),
            ("room_rt60", 0.1, 1.0, "s"),
        ):
            low, high = getattr(self, name)
            allowed = f"{least:g} to {most:g} {unit}, the lower end first"
            require(least <= low <= high <= most, name, (low, high), allowed)
        for name in ("band_share", "clip_share", "codec_share", "room_share"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        require(
            len(self.codecs) > 0 and set(self.codecs) <= set(CODEC_NAMES),
            "codecs",
            self.codecs,
            f"some of {', '.join(CODEC_NAMES)}",
        )
        require(len(self.rooms) > 0 and all(self.rooms), "rooms", self.rooms, "simulated, or folders")
        require(
            self.room_target in ("reverberant", "early"),
            "room_target",
            self.room_target,
            "reverberant or early",
        )


@dataclass(frozen=True)
class RunConfig:
    """All settings of a training run; one TOML table for each part."""

    model: Annotated[ModelConfig, Parameter(name="*")] = field(default_factory=ModelConfig)
    data: Annotated[DataConfig, Parameter(name="*")] = field(default_factory=DataConfig)
    objective: Annotated[ObjectiveConfig, Parameter(name="*")] = field(default_factory=ObjectiveConfig)
    training: Annotated[TrainingConfig, Parameter(name="*")] = field(default_factory=TrainingConfig)
    mix: Annotated[MixConfig, Parameter(name="*")] = field(default_factory=MixConfig)


@dataclass(frozen=True)
class EnhanceConfig:
    """How to enhance.

    Attributes:
        strength: share of the noise that is removed: 0 gives the input back, 1 the model's estimate.
        atten_lim: largest attenuation, in dB; by default there is no limit.
        high_band: what becomes of the sound above the model's band, for inputs of a higher rate: follow
            lowers it by as much as the model lowers the upper half of its own band; keep leaves it; drop
            removes it; hear does as follow, and has the model's weights take away the noise that they hear
            in what is left, at up to 48 kHz, which takes up to four times as long.
        shifts: passes over the sound, each begun at another place of the network's grid, whose mean is the
            estimate: better, and each costs as much as the first.
        segment: seconds enhanced at once by what takes whole signals only: ONNX models, and models whose
            transformer sees all frames at once (window_frames 0). Longer segments need more memory.
        overlap: seconds of context on each side of such a segment.
    """

    strength: float = 1.0
    atten_lim: Annotated[float | None, Parameter(name="--atten-lim")] = None
    high_band: HighBand = "follow"
    shifts: int = 1
    segment: float = 16.0
    overlap: float = 2.0

    def __post_init__(self) -> None:
        require(0 <= self.strength <= 1, "strength", self.strength, "from 0 to 1")
        require(self.atten_lim is None or self.atten_lim >= 0, "atten_lim", self.atten_lim, "0 dB or more")
        require(self.high_band in HIGH_BANDS, "high_band", self.high_band, ", ".join(HIGH_BANDS))
        require(1 <= self.shifts <= MOST_SHIFTS, "shifts", self.shifts, f"1 to {MOST_SHIFTS}")
        require(self.segment > 0, "segment", self.segment, "above 0 s")
        require(self.overlap >= 0, "overlap", self.overlap, "0 s or more")

    @property
    def share_removed(self) -> float:
        """Share of the removed noise that stays removed, after ``strength`` and ``atten_lim``."""
        limit = 1.0 if self.atten_lim is None else 1 - 10 ** (-self.atten_lim / 20)
        return min(self.strength, limit)


@dataclass(frozen=True)
class AdaptConfig:
    """How to fit a model to recordings.

    Attributes:
        minutes: of training, on the clock.
        noise: sources of the noise that is added: pauses (what is heard while nobody speaks), residual (what
            the model removes from others; with it there is no rehearsal), synthetic, white or folders of
            noise. Each of several serves an equal share of the excerpts; repeat the flag for each.
        lr: highest learning rate of Adam.
        seed: of the excerpts and the noise.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto (bf16-mixed where the device is measured to be quicker at it, else 32-true) or one of
            Fabric's precisions.
        threads: threads of the CPU; 0 leaves the choice to torch.
    """

    minutes: float = 15.0
    noise: tuple[str, ...] = ("pauses", "pauses", "pauses", "synthetic")
    lr: float = 6e-4
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        require(self.minutes > 0, "minutes", self.minutes, "above 0")
