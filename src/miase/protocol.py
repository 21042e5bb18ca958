"""The published table of Noise2Noise for speech, made again: `miase evaluate --protocol n2n`.

Kashyap et al., "Speech denoising without clean training data: a Noise2Noise approach", Interspeech 2021:
white noise, the ten classes of UrbanSound8K one by one, and all of them mixed, scored by SNR, segmental SNR
and PESQ.

The paper draws the SNR from 0 to 10 dB, but the noise of its urban rows comes out louder than that: the
unprocessed baseline has 0.6 dB where 5 dB would be expected. So that the rows stand beside each other at the
same difficulty, ours draw the SNR from 5 dB below to 5 dB above the baseline SNR that the paper prints.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from miase.corpus import CorpusOptions, make_corpus
from miase.evaluate import Evaluation, Options, evaluate_items
from miase.matching import Item, find_items
from miase.sources import URBANSOUND_CLASSES

METRICS = ("snr", "segmental_snr", "pesq_nb", "pesq_wb", "stoi")
SAMPLE_RATE = 16_000
SNR_SPREAD = 5.0  # dB to each side of the published baseline

# SNR dB, segmental SNR dB, PESQ-NB, PESQ-WB of the baseline, of the network (DCUNet-20, Voice Bank speech)
# trained with clean speech, and of the one trained by Noise2Noise.
_PUBLISHED = {
    "white": ((4.59, -4.57, 1.53, 1.10), (17.32, 4.05, 2.66, 1.89), (16.94, 3.75, 2.60, 1.84)),
    "mixed": ((0.63, -4.78, 1.80, 1.25), (3.65, -1.11, 1.80, 1.28), (3.95, -0.71, 2.11, 1.46)),
    "air_conditioner": ((1.17, -5.35, 1.92, 1.21), (4.17, -1.43, 1.98, 1.39), (4.66, -0.80, 2.44, 1.66)),
    "car_horn": ((1.09, -4.14, 1.84, 1.34), (4.14, -0.42, 1.92, 1.37), (4.82, 0.32, 2.45, 1.77)),
    "children_playing": ((0.88, -4.95, 1.80, 1.22), (3.83, -1.40, 1.85, 1.33), (4.35, -0.64, 2.18, 1.51)),
    "dog_bark": ((0.48, -2.88, 1.92, 1.41), (3.44, -0.68, 1.77, 1.33), (3.99, 0.00, 2.15, 1.55)),
    "drilling": ((0.41, -5.34, 1.59, 1.14), (3.62, -0.62, 1.89, 1.35), (3.96, -0.40, 2.01, 1.41)),
    "engine_idling": ((0.47, -5.66, 1.88, 1.22), (3.70, -1.40, 1.92, 1.28), (4.06, -1.48, 2.27, 1.55)),
    "gun_shot": ((-0.03, -2.63, 1.92, 1.43), (3.83, -0.45, 2.02, 1.46), (4.40, 0.17, 2.32, 1.72)),
    "jackhammer": ((-0.18, -5.81, 1.50, 1.10), (3.17, -1.52, 1.82, 1.29), (3.38, -1.41, 1.90, 1.33)),
    "siren": ((1.34, -5.10, 1.82, 1.27), (4.50, -0.06, 1.96, 1.38), (5.19, 0.61, 2.45, 1.76)),
    "street_music": ((0.81, -5.26, 1.76, 1.21), (3.66, -1.21, 1.89, 1.30), (3.83, -1.04, 2.17, 1.49)),
}
_LABELS = ("published: noisy", "published: supervised", "published: noise2noise")

ROWS = ("white", "mixed", *URBANSOUND_CLASSES)

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    row: {
        label: dict(zip(METRICS, values, strict=False))
        for label, values in zip(_LABELS, _PUBLISHED[row], strict=True)
    }
    for row in ROWS
}
"""The numbers of the paper: row -> label -> metric -> mean."""


@contextmanager
def evaluate_n2n(
    speech: Sequence[Path],
    noise: Sequence[Path],
    models: Sequence[str],
    options: Options,
    limit: int,
    rows: Sequence[str] = ROWS,
) -> Iterator[Evaluation]:
    """Make the corpora of the table's rows and judge systems on them.

    The corpora lie in a temporary folder as long as the context lasts, for a report plays their files.

    Args:
        speech: folders of clean speech; the utterances of the test speakers are used.
        noise: folders with files named as in UrbanSound8K; the recordings of the test part are used.
        models: names of systems.
        options: how; the metrics are those of the table whatever it says.
        limit: utterances in a row.
        rows: which.

    Raises:
        CorpusError: the folders do not hold what is needed.
        EvaluationError, WeightsError: as `evaluate`.
    """
    with tempfile.TemporaryDirectory(prefix="miase-n2n-") as name:
        items: list[Item] = []
        for row in rows:
            corpus = Path(name) / row
            make_corpus(_corpus_options(row, tuple(speech), tuple(noise), corpus, options, limit))
            found = find_items(corpus, None, {})
            items += [replace(item, name=f"{row}/{item.name}", group=row) for item in found]
        evaluation = evaluate_items(items, (), models, replace(options, metrics=METRICS))
        data = {
            "protocol": "Kashyap et al. 2021, at an SNR within 5 dB of the published baseline's",
            "ours": f"speech of {_listed(speech)}, noise of {_listed(noise)}: test split, {SAMPLE_RATE} Hz",
            "published": "speech of Voice Bank, noise of UrbanSound8K; other files, so compare the gains",
        }
        published = {row: PUBLISHED[row] for row in rows}
        yield replace(evaluation, stamp=data | dict(evaluation.stamp), published=published)


def _corpus_options(
    row: str, speech: tuple[Path, ...], noise: tuple[Path, ...], output: Path, options: Options, limit: int
) -> CorpusOptions:
    baseline = PUBLISHED[row][_LABELS[0]]["snr"]
    snr = (baseline - SNR_SPREAD, baseline + SNR_SPREAD)
    return CorpusOptions(
        "white" if row == "white" else "urbansound",
        speech=speech,
        output=output,
        noise=() if row == "white" else noise,
        noise_class="mixed" if row == "white" else row,
        snr=snr,
        sample_rate=SAMPLE_RATE,
        seed=options.seed,
        limit=limit,
        split="test",
        workers=options.jobs,
        quiet=True,
    )


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(folder.name for folder in folders)
