"""The verb ``adapt``: fit a model to one's own noisy recordings, and keep the result only where it is better.

First the folder is looked through (``audit.py``); those of its recordings that hold speech are learned from,
copies once. Then the model goes on learning from where it stands, by denoising twice: the first pass is the
moving average of the weights, which leaves the model it began with but slowly, and the noise of the second
pass is the domain's own. Then the weights are taken half way back (``blended``), and last, both models are
compared on recordings that were held out (``gate.py``).

    NEW/config.json, model.safetensors, README.md    the model for ``-m NEW``
    NEW/adaptation.json                              how it came about: state, base model, audit, figures
    NEW/run/                                         the training run: settings, log, checkpoints

NEW holds the weights it began with from the first moment, and others only when they passed the comparison. So
a run may be stopped or killed at any time; the same command goes on with it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import miase
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
from miase.config import AdaptConfig, DataConfig, ObjectiveConfig, RunConfig, TrainingConfig
from miase.config_file import to_dict
from miase.dataset import Recordings, split_recordings
from miase.enhance import Enhancer
from miase.errors import CorpusError, TrainingError
from miase.gate import Comparison, compare
from miase.models import DCUNet
from miase.registry import resolve
from miase.train import TrainResult, fit

STATE_NAME = "adaptation.json"
RUN_NAME = "run"
HELD_OUT = 0.15  # of the recordings
BLEND = 0.5


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
    state |= {"audit": dict(found.facts()), "warnings": [*found.warnings()]}
    _write_state(out, state)
    if not (out / CARD_NAME).exists():
        _keep(out, base, _card(model, base, found, config, "is not finished", None))
    recordings = Recordings(tuple(recording.info for recording in found.useful), found.failures)
    try:
        training = fit(
            noisy_dir,
            out / RUN_NAME,
            settings,
            resume=True,
            quiet=quiet,
            recordings=recordings,
        )
    except TrainingError as error:
        raise TrainingError(f"{error}; {out} holds the weights of {model} as they were") from error
    if not training.finished:
        return Adaptation(found, training, None)
    _, held_out = split_recordings(recordings, HELD_OUT)
    adapted = blended(load_pretrained(base), load_pretrained(training.model_dir), BLEND)
    after = Enhancer(adapted, config.device)
    comparison = compare(before, after, held_out)
    what = "passed the comparison" if comparison.passed else "did not pass the comparison"
    card = _card(model, base, found, config, what, (training, comparison))
    if comparison.passed:
        save_pretrained(adapted.cpu(), out, card)
    else:
        _keep(out, base, card)
    state |= {
        "state": "adapted" if comparison.passed else "kept",
        "steps": training.step,
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
            snr_db=(-5.0, 15.0),
            wsdr_weight=2.0,
            time_weight=1.5,
            loudness_weight=0.3,
        ),
        training=TrainingConfig(
            lr=config.lr,
            average_decay=0.99,
            freeze_norms=True,
            max_minutes=config.minutes,
            checkpoint_minutes=1.0,
            seed=config.seed,
            device=config.device,
            threads=config.threads,
            start=start,
        ),
    )


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
    done: tuple[TrainResult, Comparison] | None,
) -> str:
    """The card of the new model; ``what`` completes the sentence that begins with "The adaptation"."""
    adapted = done is not None and done[1].passed
    network, digest = read_config(base)
    weights = (
        f"{BLEND:g} of the way from those of `{model}` to those that the training made"
        if adapted
        else f"those of `{model}`, unchanged: the adaptation {what}"
    )
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
    if done is not None:
        training, comparison = done
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
