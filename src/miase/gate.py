"""Whether an adapted model is better than the one it began with, told without clean speech.

Both models enhance pieces of recordings that the adapted one did not learn from; only pieces in which
somebody speaks are judged. The adapted model passes when all of these hold:

- there are `FEWEST_PIECES` pieces with speech or more;
- it is better at the noise of these recordings. An estimate of a piece, with noise of another recording, from
  where its estimate is quiet, added at 5 dB, is given to both, and what they make of it is compared with it
  by SI-SDR: once with the first model's estimate (`si_sdr_of_before`), once with the adapted one's
  (`si_sdr_of_after`). A model favours what it made itself, so it is the mean gain of the two that must
  exceed `SURE` of its standard errors; the first alone must not fall by more than `MOST_FALL` dB. Where the
  first model takes a sound for speech, as it may a bark, its estimates hold it, and to take it away looks
  like a loss. So it is enough, too, that speech of other recordings with faint noise, and the noise of
  these added, comes out clearer (`si_sdr_of_others`), by more than `CLEAR_GAIN` dB beyond the error;
- it loses no speech: `speech_lost`, against the recordings, rises by no more than `MORE_LOST` % of the voiced
  frames, and `energy_kept` changes by no more than `ENERGY_CHANGE` dB, both in the mean;
- where DNSMOS is installed, neither its overall rating nor that of the speech falls by more than
  `WORST_FALL` in the mean.

The second asks what the adaptation is for, and fails for weights that were destroyed; but a model may get
better at it by taking speech away, or by learning from sounds that are no speech, which the others notice.
`docs/adaptation.md` has the good and bad adaptations that the limits were chosen on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miase.audio import load
from miase.enhance import Enhancer
from miase.errors import AudioError
from miase.judge import LEAST_SPEECH, RATE, measure, speech_share
from miase.metrics import METRICS, installed, score
from miase.metrics.contract import Signal
from miase.mixing import fit_length
from miase.noise import synthetic
from miase.pauses import cut_gaps
from miase.sounds import AudioInfo, Samples, find_sounds

PIECE_SECONDS = 6.0
MOST_PIECES = 16
FEWEST_PIECES = 3
ADDED_SNR_DB = 5.0
SURE = 1.0
MOST_FALL = 0.5
CLEAR_GAIN = 0.5
MORE_LOST = 3.0
ENERGY_CHANGE = 3.0
WORST_FALL = 0.15
SI_SDR = ("si_sdr_of_before", "si_sdr_of_after")
OF_OTHERS = "si_sdr_of_others"
RATED = ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak")


@dataclass(frozen=True)
class Comparison:
    """Two models on the same pieces, before and after an adaptation.

    Attributes:
        before: measure -> a value for each piece with speech, or each recording of others; NaN where it is
            undefined.
        after: likewise, of the adapted model.
        n_pieces: pieces with speech.
        n_recordings: recordings that they come from.
    """

    before: Mapping[str, Sequence[float]]
    after: Mapping[str, Sequence[float]]
    n_pieces: int
    n_recordings: int

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the adapted model is not to be kept; none if it is."""
        if self.n_pieces < FEWEST_PIECES:
            return (
                f"only {self.n_pieces} pieces of the held-out recordings hold speech, and it takes "
                f"{FEWEST_PIECES} to judge",
            )
        reasons = [] if self._clearly_gained() else self._no_gain()
        lost, _ = self._change("speech_lost")
        if lost > MORE_LOST:
            reasons.append(f"it loses speech in {lost:.0f} % more of the voiced frames")
        energy, _ = self._change("energy_kept")
        if not abs(energy) <= ENERGY_CHANGE:
            reasons.append(f"its output changed by {energy:+.1f} dB in level")
        for name, words in (("dnsmos_ovrl", "overall"), ("dnsmos_sig", "of the speech")):
            if name in self.before:
                rating, _ = self._change(name)
                if not rating >= -WORST_FALL:
                    reasons.append(f"DNSMOS {words} changed by {rating:+.2f}")
        return tuple(reasons)

    def _clearly_gained(self) -> bool:
        if OF_OTHERS not in self.before:
            return False
        gain, error = self._change(OF_OTHERS)
        return gain - SURE * error > CLEAR_GAIN

    def _no_gain(self) -> list[str]:
        reasons = []
        gain, error = _change(self._si_sdr(self.before), self._si_sdr(self.after))
        if not gain > SURE * error:
            reasons.append(f"against the noise of the recordings it gained {gain:.2f} ± {error:.2f} dB")
        gain, _ = self._change("si_sdr_of_before")
        if not gain >= -MOST_FALL:
            reasons.append(f"of what the first model made out it misses {-gain:.1f} dB")
        return reasons

    @property
    def passed(self) -> bool:
        """Whether the adapted model is better."""
        return not self.reasons

    def sentence(self) -> str:
        """The verdict."""
        if self.passed:
            return "The adapted weights are better and were kept."
        return f"The adapted weights are not better: {'; '.join(self.reasons)}."

    def figures(self) -> dict[str, dict[str, float]]:
        """Means before and after and of the change, with its standard error, by measure."""
        found = {}
        for name in self.before:
            change, error = self._change(name)
            values = (_mean(self.before[name]), _mean(self.after[name]), change, error)
            names = ("before", "after", "change", "standard_error")
            if all(np.isfinite(values)):  # the others have no place in JSON
                found[name] = {key: round(value, 4) for key, value in zip(names, values, strict=True)}
        return found

    def table(self) -> list[str]:
        """The figures as lines of Markdown."""
        rows = [
            f"| {name} | {row['before']:.2f} | {row['after']:.2f} | {row['change']:+.2f} "
            f"± {row['standard_error']:.2f} |"
            for name, row in self.figures().items()
        ]
        return ["| measure | before | after | change |", "|---|---|---|---|", *rows]

    def _change(self, name: str) -> tuple[float, float]:
        return _change(self.before[name], self.after[name])

    @staticmethod
    def _si_sdr(values: Mapping[str, Sequence[float]]) -> Sequence[float]:
        return [(a + b) / 2 for a, b in zip(*(values[name] for name in SI_SDR), strict=True)]


def _change(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Mean change and its standard error, over the pieces where both values are defined.

    Where they are for none, as `speech_lost` without voiced frames: 0. Infinite values stay.
    """
    changes = np.subtract(after, before)
    changes = changes[~np.isnan(changes)]
    if len(changes) == 0:
        return 0.0, 0.0
    if len(changes) == 1 or not np.isfinite(changes).all():
        return float(changes.mean()), 0.0
    return float(changes.mean()), float(changes.std(ddof=1) / np.sqrt(len(changes)))


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def compare(
    before: Enhancer, after: Enhancer, infos: Sequence[AudioInfo], others: Path | None = None
) -> Comparison:
    """Judge two models on pieces of recordings; see the module for what is asked.

    Args:
        before: the model that the adaptation began with.
        after: the adapted one.
        infos: recordings that it did not learn from.
        others: folder of recordings of others, with faint noise, that it did not learn from either.
    """
    pieces, noises, n_recordings = [], [], 0
    for of_recording in _pieces(infos):
        heard = [(noisy, np.asarray(before.enhance(noisy, RATE), np.float64)) for noisy in of_recording]
        spoken = [pair for pair in heard if speech_share(pair[1], pair[0]) >= LEAST_SPEECH]
        pieces += spoken
        noises += [_gaps(*pair) for pair in spoken]
        n_recordings += bool(spoken)
    models = (before, after)
    rated = [name for name in RATED if installed(METRICS[name])]
    values: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
    for i, (noisy, estimate) in enumerate(pieces):
        noise = noises[(i + len(pieces) // 2) % len(pieces)]  # of another recording, if there are two
        rng = np.random.default_rng(i)
        estimates = (estimate, np.asarray(after.enhance(noisy, RATE), np.float64))
        mixtures = [_mixed(known, noise, rng) for known in estimates]
        for model, own, kept in zip(models, estimates, values, strict=True):
            found: dict[str, float] = {}
            for name, known, mixture in zip(SI_SDR, estimates, mixtures, strict=True):
                found[name] = _si_sdr_of(model, mixture, known)
            for name in ("speech_lost", "energy_kept"):
                found |= measure(own, noisy, RATE, name)
            found |= score(own, None, RATE, rated) if rated else {}
            for name, value in found.items():
                kept.setdefault(name, []).append(value)
    heard_noises = [noise for noise in noises if noise is not None]
    if others is not None and heard_noises:
        for i, path in enumerate(find_sounds(others)):
            known = load(path, RATE)[0][0].astype(np.float64)
            mixture = _mixed(known, heard_noises[i % len(heard_noises)], np.random.default_rng(i))
            for model, kept in zip(models, values, strict=True):
                kept.setdefault(OF_OTHERS, []).append(_si_sdr_of(model, mixture, known))
    return Comparison(*values, n_pieces=len(pieces), n_recordings=n_recordings)


def _pieces(infos: Sequence[AudioInfo]) -> list[list[Signal]]:
    """Pieces of each recording, spread over it, `MOST_PIECES` in all; (time,) at 16 kHz."""
    found = []
    n_each = -(-MOST_PIECES // max(1, len(infos)))
    for info in infos[:MOST_PIECES]:
        n = round(PIECE_SECONDS * info.sample_rate)
        n_pieces = min(n_each, max(1, info.n_frames // n))
        starts = np.linspace(0, max(0, info.n_frames - n), n_pieces).astype(int)
        try:
            found.append([load(info.path, RATE, int(s), n)[0][0].astype(np.float64) for s in starts])
        except AudioError:
            continue  # told by the training, which reads all of them
    return found


def _gaps(noisy: Signal, estimate: Signal) -> Samples | None:
    """What is heard where a piece's estimate is quiet, (time,)."""
    return cut_gaps(noisy.astype(np.float32), estimate.astype(np.float32), RATE)


def _mixed(speech: Signal, noise: Samples | None, rng: np.random.Generator) -> Signal:
    """Speech with noise at `ADDED_SNR_DB`; artificial noise where there is none."""
    n = len(speech)
    added = (synthetic(n, RATE, rng) if noise is None else fit_length(noise, n, rng)).astype(np.float64)
    gain = np.sqrt(np.sum(speech**2) / max(np.sum(added**2), 1e-12)) * 10 ** (-ADDED_SNR_DB / 20)
    return np.asarray(speech + gain * added)


def _si_sdr_of(model: Enhancer, mixture: Signal, known: Signal) -> float:
    return score(model.enhance(mixture, RATE), known, RATE, ["si_sdr"])["si_sdr"]
