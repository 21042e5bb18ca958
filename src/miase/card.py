"""The card of a trained model: what it is, what it learned from, and which weights it belongs to."""

import platform
from pathlib import Path

import torch

import miase
from miase.checkpoint import CARD_NAME, WEIGHTS_NAME, sha256, written_whole
from miase.config import RunConfig
from miase.learner import Progress
from miase.objectives import OBJECTIVES


def write_card(model_dir: Path, config: RunConfig, progress: Progress, data_summary: str) -> None:
    """Write the card beside the weights in ``model_dir``; ``data_summary`` says what it learned from."""
    if "clean" in OBJECTIVES[config.objective.name].needs:
        clean_speech = "yes"
    else:
        clean_speech = "only to mix with noise, never as a target" if config.mix.speech else "none"
    n_chosen = len(progress.chosen)
    chosen = f",\n  in the end from {n_chosen} of them" if n_chosen else ""
    card = f"""# {config.model.name}, trained with `{config.objective.name}`

A speech enhancement model of miase {miase.__version__}.

- **Works at** {config.model.sample_rate} Hz, STFT {config.model.n_fft}/{config.model.hop_length} samples.
- **Learned from** {data_summary}{chosen},
  by {progress.step} steps of {config.data.batch_size} x {config.data.excerpt_seconds:g} s in
  {progress.seconds / 60:.0f} minutes; added noise: {", ".join(config.objective.noise)};
  seed {config.training.seed}.
- **Clean speech used**: {clean_speech}.
- **Licence**: that of the recordings; state it here before you pass the weights on.
- **SHA-256** of `{WEIGHTS_NAME}`: `{sha256(model_dir / WEIGHTS_NAME)}`
- **Made with** torch {torch.__version__}, Python {platform.python_version()} on {platform.machine()}.

All settings stand in `config.toml` of the run.
"""
    with written_whole(model_dir / CARD_NAME) as path:
        path.write_text(card, encoding="utf-8")
