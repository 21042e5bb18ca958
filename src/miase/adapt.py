"""The verb ``adapt``: fit a model to one's own noisy recordings, and keep the result only where it is better.

First the folder is looked through (``audit.py``); those of its recordings that hold speech are learned from,
copies once. What is heard in them while nobody speaks is mixed with recordings that come with the package,
whose noise is faint (``rehearsal/``), and from these mixtures the model goes on learning: it meets the
domain's noise, and what it knows of speech is kept. Where there is too little of such noise, or the model
works above 16 kHz, it learns from the recordings themselves by denoising twice. The weights are then taken
part of the way back, farther where the noise is steady (``blended``). Last, both models are compared on
recordings that were held out (``gate.py``).

    NEW/config.json, model.safetensors, README.md    the model for ``-m NEW``
    NEW/adaptation.json                              how it came about: state, base model, audit, figures
    NEW/noise/                                       what was heard while nobody spoke, slower and faster, too
    NEW/run/                                         the training run: settings, log, checkpoints

NEW holds the weights it began with from the first moment, and others only when they passed the comparison. So
a run may be stopped or killed at any time; the same command goes on with it.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

import miase
from miase.audio import load, probe
from miase.audit import Audit, audit
from miase.checkpoint import (
    CARD_NAME,
    CONFIG_NAME,
    WEIGHTS_NAME,
    load_pretrained,
    read_config,
    save_pretrained,
    written_whole,
)
from miase.config import AdaptConfig, DataConfig, MixConfig, ObjectiveConfig, RunConfig, TrainingConfig
from miase.config_file import to_dict
from miase.dataset import Recordings, read_excerpt, split_recordings
from miase.enhance import Enhancer
from miase.errors import AudioError, CorpusError, TrainingError
from miase.gate import Comparison, compare
from miase.models import DCUNet
from miase.parallel import quicker_precision
from miase.pauses import cut_gaps, level_spread
from miase.registry import resolve
from miase.resampling import resample
from miase.sounds import AudioInfo, Samples
from miase.train import TrainResult, fit
from miase.writing import SoundWriter

STATE_NAME = "adaptation.json"
RUN_NAME = "run"
NOISE_NAME = "noise"
REHEARSAL = Path(str(files("miase"))) / "rehearsal" / "train"
JUDGED_ON = REHEARSAL.with_name("valid")
REHEARSAL_RATE = 16000  # what lies above is missing there, and a model would learn to take it away
HELD_OUT = 0.15  # of the recordings
LEAST_NOISE_SECONDS = 10.0
MOST_NOISE_SECONDS = 600.0
LOOKED_THROUGH_SECONDS = 60.0  # of a recording, for noise
SPEEDS = (1.0, 0.7, 0.84, 1.19, 1.41)  # of noise: the next horn or bark is higher or lower (experiments, 37)
LAST_ONLY = 10**9  # steps between validations: the model at the end of the run is the one that is kept

# Shares of the way to what was learned (docs/experiments.md, 21 and 37). What is learned of steady noise is
# what these recordings of it sound like, and others of the same kind sound otherwise.
SHARE_WITHOUT_REHEARSAL = 0.5
SHARE_STEADY = 0.25
SHARE_EVENTS = 0.75
STEADY_DB = 1.75  # spread of the level, see `pauses.level_spread`


@dataclass(frozen=True)
class Adaptation:
    """What became of an adaptation.

    Attributes:
        audit: of the folder.
        training: the run.
        comparison: of the models before and after; None when the run was interrupted.
    """

    audit: Audit
    training: TrainResult
    comparison: Comparison | None

    @property
    def adapted(self) -> bool:
        """Whether the new weights were kept."""
        return self.comparison is not None and self.comparison.passed


def adapt(
    noisy_dir: Path,
    out: Path,
    model: str,
    config: AdaptConfig | None = None,
    *,
    quiet: bool = False,
    on_audit: Callable[[Audit], None] = lambda found: None,
) -> Adaptation:
    """Fit a model to a folder of noisy recordings.

    Args:
        noisy_dir: any folder of noisy speech.
        out: folder of the new model; a run that was stopped there goes on.
        model: name or folder of the model to begin with.
        config: how.
        quiet: show no progress.
        on_audit: is told what the folder holds, before the training.

    Raises:
        CorpusError: the folder cannot serve; the message says why.
        TrainingError: ``out`` holds another adaptation or a finished one, or the training diverged.
        WeightsError: there is no such model.
    """
    config = config or AdaptConfig()
    base = resolve(model)
    settings = run_config(config, str(base))
    state = _begin(out, base, model, config)
    if config.threads:
        torch.set_num_threads(config.threads)
    before = Enhancer(load_pretrained(base), config.device)
    found = audit(noisy_dir, before, quiet=quiet)
    on_audit(found)
    if reason := found.refusal():
        raise CorpusError(f"{noisy_dir} cannot serve to adapt a model: {reason}")
    if config.precision == "auto" and before.device.type == "cpu":
        # The clock limits the run: in the quicker one it takes more steps.
        precision = quicker_precision(before.model, before.sample_rate)
        settings = replace(settings, training=replace(settings.training, precision=precision))
    state |= {"audit": dict(found.facts()), "warnings": [*found.warnings()]}
    _write_state(out, state)
    if not (out / CARD_NAME).exists():
        _keep(out, base, _card(model, base, found, config, "is not finished", None))
    recordings = Recordings(tuple(recording.info for recording in found.useful), found.failures)
    learned_from, held_out = split_recordings(recordings, HELD_OUT)
    rehearses = _rehearses(config, before) and _write_noise(
        before, learned_from, out / NOISE_NAME, config.seed
    )
    try:
        if rehearses:
            settings = rehearsing(settings, out / NOISE_NAME)
            training = fit(None, out / RUN_NAME, settings, resume=True, quiet=quiet)
            training = replace(training, failures=found.failures + training.failures)
        else:
            training = fit(
                noisy_dir, out / RUN_NAME, settings, resume=True, quiet=quiet, recordings=recordings
            )
    except TrainingError as error:
        raise TrainingError(f"{error}; {out} holds the weights of {model} as they were") from error
    if not training.finished:
        return Adaptation(found, training, None)
    spread_db = noise_spread(out / NOISE_NAME) if rehearses else None
    share = share_learned(spread_db)
    adapted = blended(load_pretrained(base), load_pretrained(training.model_dir), share)
    after = Enhancer(adapted, config.device)
    comparison = compare(before, after, held_out, JUDGED_ON if rehearses else None)
    what = "passed the comparison" if comparison.passed else "did not pass the comparison"
    card = _card(model, base, found, config, what, (training, comparison, spread_db))
    if comparison.passed:
        save_pretrained(adapted.cpu(), out, card)
    else:
        _keep(out, base, card)
    state |= {
        "state": "adapted" if comparison.passed else "kept",
        "steps": training.step,
        "noise_spread_db": spread_db,
        "share": share,
        "reasons": list(comparison.reasons),
        "figures": comparison.figures(),
    }
    _write_state(out, state)
    return Adaptation(found, training, comparison)


def blended(first: DCUNet, second: DCUNet, share: float) -> DCUNet:
    """Weights on the straight line from one network to another that went on learning from it.

    Wortsman et al. 2022, "Robust fine-tuning of zero-shot models": between the two lie weights that have most
    of what the second learned, and have forgotten less of what the first could.

    Args:
        first: the network to go from; it becomes the result.
        second: the one to go to.
        share: of the way; 1 gives the second.
    """
    theirs = second.state_dict()
    for name, value in first.state_dict().items():
        if value.is_floating_point():
            value.lerp_(theirs[name], share)
    return first


def run_config(config: AdaptConfig, start: str) -> RunConfig:
    """The settings of the training run; `docs/adaptation.md` has the experiments that chose them."""
    return RunConfig(
        data=DataConfig(valid_share=HELD_OUT),
        objective=ObjectiveConfig(
            noise=config.noise,
            warmup="noisy_target",
            warmup_steps=0,
            target_share=0.1,
            first_share=1.0,
            cleanest_of=1,
            cleanest_share=1.0,
            removed_weight=1.0,
            snr_db=(-5.0, 15.0),
            wsdr_weight=2.0,
            time_weight=1.5,
            loudness_weight=0.3,
        ),
        training=TrainingConfig(
            lr=config.lr,
            lr_decay=1.0,
            average_decay=0.99,
            freeze_norms=True,
            max_minutes=config.minutes,
            checkpoint_minutes=1.0,
            seed=config.seed,
            device=config.device,
            precision=config.precision,
            threads=config.threads,
            start=start,
        ),
    )


def rehearsing(settings: RunConfig, noise: Path) -> RunConfig:
    """The settings of a run that learns from the noise in a folder and the recordings of `REHEARSAL`.

    The losses are those of the fourth round of the packaged models, `recipes/refine.sh`.
    """
    sources = tuple(str(noise) if source == "pauses" else source for source in settings.objective.noise)
    return replace(
        settings,
        mix=MixConfig(speech=(str(REHEARSAL),), mix_noise=sources),
        objective=replace(
            settings.objective,
            name="noise2clean",
            loudness_weight=0.7,
            spectrum_weight=4.0,
            noise=("pauses",),
        ),
        training=replace(settings.training, patience=0, valid_steps=LAST_ONLY),
    )


def noise_spread(folder: Path) -> float:
    """The median over the noise files of a folder, as heard, of `level_spread`, in dB."""
    noises = (load(path) for path in _as_heard(folder))
    return float(np.median([level_spread(noise[0], rate) for noise, rate in noises]))


def share_learned(spread_db: float | None) -> float:
    """Of the way to what was learned, by `noise_spread` in dB; None where there was no rehearsal."""
    if spread_db is None:
        return SHARE_WITHOUT_REHEARSAL
    return SHARE_STEADY if spread_db < STEADY_DB else SHARE_EVENTS


def _rehearses(config: AdaptConfig, model: Enhancer) -> bool:
    return model.sample_rate <= REHEARSAL_RATE and "pauses" in config.noise and "residual" not in config.noise


def _write_noise(model: Enhancer, infos: list[AudioInfo], folder: Path, seed: int) -> bool:
    """Write what is heard while nobody speaks, a file for each recording and speed; whether there is enough.

    Recordings come in a random order, and of long ones a random place, so that what is written stands for the
    whole folder where not all of it is taken. What a killed run left half done is made anew.
    """
    part = folder.with_suffix(".part")
    if not folder.exists():
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        seconds, rate = 0.0, model.sample_rate
        rng = np.random.default_rng(seed)
        for number in rng.permutation(len(infos)):
            if seconds > MOST_NOISE_SECONDS:
                break
            try:
                n = round(LOOKED_THROUGH_SECONDS * rate)
                noisy = read_excerpt(infos[number], n, rate, rng, loop=False)
            except AudioError:
                continue  # told by the audit, which reads all of them
            noise = cut_gaps(noisy, model.enhance(noisy, rate), rate)
            if noise is not None and noise.any():
                _write_at_speeds(noise, rate, part, number)
                seconds += len(noise) / rate
        part.rename(folder)
    return sum(probe(path).seconds for path in _as_heard(folder)) >= LEAST_NOISE_SECONDS


def _write_at_speeds(noise: Samples, sample_rate: int, folder: Path, number: int) -> None:
    for speed in SPEEDS:
        played = resample(noise, round(speed * sample_rate), sample_rate)
        # Raised, so that the 16 bits of the file do not add a noise of their own to a faint one.
        with SoundWriter(folder / f"{number:05d}x{speed:g}.flac", sample_rate, 1) as writer:
            writer.write(played[None] / np.float32(2 * np.abs(played).max()))


def _as_heard(folder: Path) -> list[Path]:
    """The files of `_write_at_speeds` whose speed is 1."""
    return sorted(folder.glob("*x1.flac"))


def _begin(out: Path, base: Path, model: str, config: AdaptConfig) -> dict[str, Any]:
    """The state of an adaptation that goes on, or of a new one.

    Raises:
        TrainingError: the folder holds something else.
    """
    _, digest = read_config(base)
    mine: dict[str, Any] = {
        "miase": miase.__version__,
        "state": "begun",
        "model": model,
        "model_sha256": digest,
    }
    mine |= {"settings": to_dict(config)}
    path = out / STATE_NAME
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise TrainingError(f"{out} is not empty and holds no adaptation; name a new folder")
        return mine
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        done, theirs, settings = state["state"] != "begun", state["model_sha256"], state["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is damaged; name a new folder") from error
    if done:
        raise TrainingError(f"{out} holds a finished adaptation; name a new folder")
    if theirs != digest:
        raise TrainingError(
            f"{out} was begun with other weights than those of {model} now; name those, or a new folder"
        )
    for name in ("lr", "noise", "seed"):
        if settings.get(name) != mine["settings"][name]:
            raise TrainingError(
                f"{out} was begun with {name} {settings.get(name)!r}; give it again, or name a new folder"
            )
    return state | mine


def _write_state(out: Path, state: dict[str, Any]) -> None:
    with written_whole(out / STATE_NAME) as path:
        path.write_text(json.dumps(state, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _keep(out: Path, base: Path, card: str) -> None:
    """Write the weights that the adaptation began with, byte for byte, and last the card."""
    for name in (WEIGHTS_NAME, CONFIG_NAME):
        with written_whole(out / name) as temporary:
            temporary.write_bytes((base / name).read_bytes())
    with written_whole(out / CARD_NAME) as temporary:
        temporary.write_text(card, encoding="utf-8")


def _card(
    model: str,
    base: Path,
    found: Audit,
    config: AdaptConfig,
    what: str,
    done: tuple[TrainResult, Comparison, float | None] | None,
) -> str:
    """The card of the new model; ``what`` completes the sentence that begins with "The adaptation"."""
    network, digest = read_config(base)
    training, comparison, spread_db = done or (None, None, None)
    adapted = comparison is not None and comparison.passed
    if adapted:
        made = "on the recordings below" if spread_db is None else "on the noise of the recordings below"
        share = f"{share_learned(spread_db):g} of the way"
        weights = f"{share} from those of `{model}` to those that the training {made} made"
    else:
        weights = f"those of `{model}`, unchanged: the adaptation {what}"
    lines = [
        f"# {network.name}, {'adapted' if adapted else 'not adapted'} to recordings",
        "",
        f"A speech enhancement model of miase {miase.__version__}: `miase enhance FILE -m FOLDER`.",
        "",
        f"- **Weights**: {weights}.",
        f"- **Base model**: `{model}`, SHA-256 of its weights `{digest}`.",
        "- **Licence**: that of the base model, and that of the recordings where it asks for more; state it",
        "  here before you pass the weights on.",
        f"- **Works at** {network.sample_rate} Hz.",
        "- **Clean speech used**: none.",
        f"- **Settings**: {config.minutes:g} minutes, noise {', '.join(config.noise)}, lr {config.lr:g}, "
        f"seed {config.seed}; all of them in `{RUN_NAME}/config.toml`.",
    ]
    if spread_db is not None:
        lines += [f"- **Noise**: its level spreads by {spread_db:.1f} dB (standard deviation of 100 ms)."]
    if training is not None and comparison is not None:
        lines += [f"- **Steps**: {training.step}.", "", "## Before and after", ""]
        lines += [
            f"On {comparison.n_pieces} pieces of {comparison.n_recordings} recordings that it did not learn "
            f"from, without clean speech. {comparison.sentence()}",
            "",
            *comparison.table(),
        ]
    lines += ["", "## The recordings", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in found.facts()]
    lines += ["", *(f"- {warning}" for warning in found.warnings())]
    return "\n".join(lines).rstrip() + "\n"
