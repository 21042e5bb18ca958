"""A model on one signal that comes in pieces: STFT, level, network, mask and inverse STFT as streams.

The joined output is what the model gives for the whole signal, whatever the pieces, in constant memory.
Spectra are (frame, freq, 2) here, frames first.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from miase.models import DCUNet
from miase.models.inference import FusedNetwork
from miase.models.masking import masked, power_of
from miase.overlap import SegmentStream
from miase.sounds import Samples
from miase.stft import AnalysisStream, Stft, SynthesisStream

_GAIN_REACH = 4  # frames on each side over which the gain of the upper half of the band is smoothed


class ModelStream:
    """One channel through a model.

    Args:
        model: the network, in evaluation mode.
        network: the same, prepared.
        piece: frames that go through the network at once; the result depends on it only with a lookahead.
        n_windows: windows that go through the bottleneck at once; the result does not depend on it.
        with_cut: give two more streams, the input and the share to cut of what lies above the model's band.
        lookahead: frames of the future that each sample hears: it is then what the model would give if the
            signal ended that much after it. None stands for all that the network can hear.
    """

    def __init__(
        self,
        model: DCUNet,
        network: FusedNetwork,
        piece: int,
        n_windows: int = 1,
        *,
        with_cut: bool = False,
        lookahead: int | None = None,
    ) -> None:
        self._model, self._network, self._piece, self._lookahead = model, network, piece, lookahead
        self._analysis = AnalysisStream(model.stft, piece)
        self._level = _LevelStream(model)
        self._masks = network.stream(n_windows)
        self._n_windows = n_windows
        self._synthesis = SynthesisStream(model.stft)
        self._cut = _CutStream(model.stft) if with_cut else None
        empty = model.stft.window.new_zeros(0)
        self._spectrum = _Queue(empty.view(0, 1, 2).expand(0, network.n_freq, 2))  # that waits for its masks
        self._outputs = empty.view(1, 0, 1).expand(2, 0, network.n_freq)  # of the network, which wait
        self._n_early = 0  # frames that went out before the network was through with them
        self._streams = [empty] * (3 if with_cut else 1)
        self._n_left = 0  # samples still to be given

    @property
    def latency(self) -> int:
        """Samples that are taken, at most, before the first of them is given."""
        n_fft, hop_length = self._model.config.n_fft, self._model.config.hop_length
        longest = 0
        period = max(1, self._n_windows * self._network.window) * self._model.frame_stride
        for frame in range(2 * math.lcm(self._piece, period)):
            if self._lookahead is None:
                needed = self._network.last_needed(frame, self._n_windows) + self._model.level_reach
            else:
                needed = frame + self._lookahead
            n_frames = -(-(needed + 1) // self._piece) * self._piece
            n_taken = (n_frames - 1) * hop_length + n_fft // 2
            first = frame * hop_length - n_fft // 2  # of the samples that this frame completes
            if self._cut is not None:
                first = min(first, (frame - _GAIN_REACH - 1) * hop_length)
            longest = max(longest, n_taken - first)
        return longest

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """Take the next samples and give the estimate as far as it is complete.

        Args:
            samples: (time,); there may be none.
            last: the signal ends with them; nothing may follow.

        Returns:
            (1, time), or (3, time) with the input and the share to cut; together as long as the input.
        """
        with torch.inference_mode():
            result = self._feed(torch.from_numpy(samples).to(self._model.stft.window.device), last=last)
            return result.cpu().numpy()

    def _feed(self, samples: Tensor, *, last: bool) -> Tensor:
        self._n_left += len(samples)
        pieces = [[stream] for stream in self._streams]
        if self._cut is not None:
            pieces[1].append(samples)
        for spectrum, ends in _with_end(self._analysis.feed(samples, last=last), last):
            noisy, estimate = self._step(spectrum, last=ends)
            pieces[0].append(self._synthesis.feed(estimate, last=ends))
            if self._cut is not None:
                pieces[2].append(self._cut.feed(noisy, estimate, last=ends))
        streams = [torch.cat(piece) for piece in pieces]
        n_samples = min(self._n_left, *map(len, streams))
        self._n_left -= n_samples
        self._streams = [stream[n_samples:].clone() for stream in streams]
        return torch.stack([stream[:n_samples] for stream in streams])

    def _step(self, spectrum: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """Spectrum and masked spectrum of the frames whose turn it is."""
        outputs = self._masks.feed(self._level.feed(spectrum, last=last), last=last)
        n_late = min(self._n_early, outputs.shape[1])
        self._n_early -= n_late
        outputs = torch.cat((self._outputs, outputs[:, n_late:]), dim=1)
        self._spectrum.append(spectrum)
        n_given = n_there = outputs.shape[1]
        if self._lookahead is not None and not last:
            n_given = max(0, len(self._spectrum) - self._lookahead)
            if n_given > n_there:
                early = self._masks.fork().feed(self._level.rest(), last=True)[:, self._n_early :]
                early = early[:, : n_given - n_there]
                outputs = torch.cat((outputs, early), dim=1)
                self._n_early += early.shape[1]
        self._outputs = outputs[:, n_given:].clone()
        noisy = self._spectrum.take(n_given)
        exponent = self._model.config.mask_exponent
        estimate = masked(outputs[None, :, :n_given], noisy.transpose(0, 1)[None], exponent)
        return noisy, estimate[0].transpose(0, 1)


def _with_end(spectra: Iterator[Tensor], last: bool) -> Iterator[tuple[Tensor, bool]]:
    """Each with whether the signal ends with it."""
    before = None
    for spectrum in spectra:
        if before is not None:
            yield before, False
        before = spectrum
    if before is not None:
        yield before, last


class _Queue:
    """Frames that wait for their turn, in the pieces that they came in: none is moved until it is taken.

    ``empty`` has no frame, and the shape and type of all.
    """

    def __init__(self, empty: Tensor) -> None:
        self.empty = empty
        self._pieces: deque[Tensor] = deque()
        self._n_frames = 0

    def __len__(self) -> int:
        return self._n_frames

    def append(self, frames: Tensor) -> None:
        self._pieces.append(frames)
        self._n_frames += len(frames)

    def take(self, n_frames: int) -> Tensor:
        """The first ``n_frames`` of those that wait, which are then gone."""
        taken = [self.empty]
        self._n_frames -= n_frames
        while n_frames:
            piece = self._pieces.popleft()
            if len(piece) > n_frames:
                self._pieces.appendleft(piece[n_frames:])
                piece = piece[:n_frames]
            taken.append(piece)
            n_frames -= len(piece)
        return torch.cat(taken)


class _LevelStream:
    """`DCUNet.features` of spectra that come in pieces."""

    def __init__(self, model: DCUNet) -> None:
        self._model = model
        self._reach = model.level_reach
        self._spectrum = model.stft.window.new_zeros(0, model.config.n_fft // 2 + 1, 2)
        self._power = model.stft.window.new_zeros(0)  # mean of each frame, those of the reach before included

    def feed(self, spectrum: Tensor, *, last: bool = False) -> Tensor:
        """(frame, freq, 2) -> the features of the frames whose level is known."""
        self._spectrum = torch.cat((self._spectrum, spectrum))
        self._power = torch.cat((self._power, power_of(spectrum).mean(1)))
        n_ready = len(self._spectrum) if last else max(0, len(self._spectrum) - self._reach)
        features = self._features(n_ready)
        self._power = self._power[max(0, len(self._power) - len(self._spectrum) + n_ready - self._reach) :]
        self._spectrum = self._spectrum[n_ready:].clone()
        return features

    def rest(self) -> Tensor:
        """Features of the frames that wait, as if the signal ended with them."""
        return self._features(len(self._spectrum))

    def _features(self, n_frames: int) -> Tensor:
        if n_frames == 0:
            return self._spectrum[:0]
        first = len(self._power) - len(self._spectrum)
        power = self._power[: first + n_frames + self._reach].view(1, 1, -1)
        level = F.avg_pool1d(power, 2 * self._reach + 1, 1, self._reach, count_include_pad=False)
        level = level.view(-1, 1)[first : first + n_frames]
        spectrum = self._spectrum[:n_frames]
        return spectrum * self._model.level_gain(power_of(spectrum), level).unsqueeze(-1)


class SegmentedModelStream:
    """One channel through a model that takes whole signals only, segment by segment.

    Args:
        process: (time,) -> (time,).
        stft: of the model.
        segment: samples, see `miase.overlap.SegmentStream`.
        context: samples.
        fade: samples.
        with_cut: as for `ModelStream`.
    """

    def __init__(
        self,
        process: Callable[[Samples], Samples],
        stft: Stft,
        segment: int,
        context: int,
        fade: int,
        *,
        with_cut: bool = False,
    ) -> None:
        def outputs(buffer: Samples) -> Samples:
            noisy, estimate = buffer[0], process(buffer[0])
            if not with_cut:
                return estimate[None]
            return np.stack((estimate, noisy, _cut(stft, noisy, estimate)))

        self._stream = SegmentStream(outputs, segment, context, fade, n_outputs=3 if with_cut else 1)
        self.latency = self._stream.latency

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """As `ModelStream.feed`."""
        return self._stream.feed(samples[None], last=last)


def _cut(stft: Stft, noisy: Samples, estimate: Samples) -> Samples:
    """`_CutStream` of whole signals, (time,) each."""
    device = stft.window.device
    with torch.inference_mode():
        spectra = [
            torch.cat(list(AnalysisStream(stft, 1 << 16).feed(torch.from_numpy(x).to(device), last=True)))
            for x in (noisy, estimate)
        ]
        return _CutStream(stft).feed(*spectra, last=True)[: len(noisy)].cpu().numpy()


class _CutStream:
    """Share that the model takes from the amplitude of the upper half of its band, from 0 to 1."""

    def __init__(self, stft: Stft) -> None:
        self._first = stft.n_fft // 4
        self._ramp = torch.arange(stft.hop_length, device=stft.window.device) / stft.hop_length
        self._energies = stft.window.new_zeros(2, _GAIN_REACH)
        self._cut = self._ramp[:0]  # of the frame before

    def feed(self, noisy: Tensor, estimate: Tensor, *, last: bool = False) -> Tensor:
        """Spectra of input and estimate, (frame, freq, 2) -> (time,) up to the last smoothed frame."""
        energies = torch.stack([x[:, self._first :].square().sum((1, 2)) for x in (estimate, noisy)])
        energies = F.pad(torch.cat((self._energies, energies), dim=1), (0, _GAIN_REACH if last else 0))
        span = 2 * _GAIN_REACH + 1
        n_frames = max(0, energies.shape[1] - span + 1)
        self._energies = energies[:, n_frames:].clone()
        if n_frames == 0:
            return self._ramp[:0]
        smooth = F.avg_pool1d(energies, span, 1) + 1e-12
        cut = torch.cat((self._cut, 1 - (smooth[0] / smooth[1]).sqrt().clamp(max=1.0)))
        self._cut = cut[-1:].clone()
        samples = (cut[:-1, None] + self._ramp * cut.diff().unsqueeze(1)).flatten()
        return torch.cat((samples, self._cut.expand(len(self._ramp)))) if last else samples
