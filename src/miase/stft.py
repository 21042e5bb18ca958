"""Short-time Fourier analysis and synthesis: a pair that gives the signal back.

Spectra travel as real pairs in a last axis of 2 (real, imaginary), never as a complex dtype, so that lower
precision, several devices and export meet nothing unusual.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 1e-8  # sum of squared windows; at the ends of a signal it may be nothing


class Stft(nn.Module):
    """A centred short-time Fourier transform with a periodic Hann window, and its least-squares inverse.

    Args:
        n_fft: length of a frame and of its transform, in samples.
        hop_length: distance between frames, in samples; at most half of ``n_fft``, so that every sample is
            covered by a frame.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def analyse(self, samples: Tensor) -> Tensor:
        """(batch, time) -> (batch, freq, frame, 2), frame = 1 + ceil(time / hop_length).

        Outside its ends the signal counts as silence, which lets even a single sample be analysed. The last
        frame is centred at the end or behind it, so that the last samples, too, stand where the window is
        large.
        """
        padded = F.pad(samples.float(), (0, -samples.shape[-1] % self.hop_length))
        spectrum = torch.stft(
            padded,
            self.n_fft,
            self.hop_length,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return torch.view_as_real(spectrum)

    def synthesise(self, spectrum: Tensor, n_samples: int) -> Tensor:
        """(batch, freq, frame, 2) -> (batch, time) with time = n_samples; inverts ``analyse`` exactly."""
        spectra = torch.view_as_complex(spectrum.transpose(1, 2).float().contiguous())
        frames = torch.fft.irfft(spectra, self.n_fft) * self.window
        samples = _OverlapAdd.apply(frames, self.hop_length)  # type: ignore[no-untyped-call]
        squares = self.window.square().expand(1, *frames.shape[1:])
        weight = overlap_add(squares, self.hop_length).clamp(min=LEAST)
        first = self.n_fft // 2
        result: Tensor = (samples / weight)[:, first : first + n_samples]
        return result


def overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """The sum of frames where they stand, ``hop_length`` samples apart.

    Args:
        frames: (batch, frame, n_fft).
        hop_length: in samples.

    Returns:
        (batch, time), as many whole hops as the frames reach into.
    """
    n_batch, n_frames, n_fft = frames.shape
    n_blocks = -(-n_fft // hop_length)
    blocks = F.pad(frames, (0, n_blocks * hop_length - n_fft)) if n_fft % hop_length else frames
    blocks = blocks.view(n_batch, n_frames, n_blocks, hop_length)
    total = frames.new_zeros(n_batch, n_frames + n_blocks - 1, hop_length)
    for i in range(n_blocks):
        total[:, i : i + n_frames] += blocks[:, :, i]
    return total.flatten(1)


class _OverlapAdd(torch.autograd.Function):
    """Whose way back is a view, where PyTorch would fill and add up as many tensors as frames overlap."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, hop_length: int) -> Tensor:
        ctx.how = frames.shape[-1], hop_length
        return overlap_add(frames, hop_length)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.unfold(1, *ctx.how), None


class AnalysisStream:
    """`Stft.analyse` of a signal that comes in pieces, frames first.

    Args:
        stft: the transform.
        piece: frames that are given at once, but for the last ones.
    """

    def __init__(self, stft: Stft, piece: int) -> None:
        self._stft = stft
        self._piece = piece
        self._held = stft.window.new_zeros(stft.n_fft // 2)
        self._n_samples = 0

    def feed(self, samples: Tensor, *, last: bool = False) -> Iterator[Tensor]:
        """Take the next samples, (time,); give spectra (frame, freq, 2), one at least at the signal's end."""
        n_fft, hop_length = self._stft.n_fft, self._stft.hop_length
        self._n_samples += len(samples)
        end = -self._n_samples % hop_length + n_fft // 2 if last else 0
        self._held = F.pad(torch.cat((self._held, samples)), (0, end))
        n_frames = max(0, (len(self._held) - n_fft) // hop_length + 1)
        while n_frames >= self._piece or (last and n_frames):
            n_given = min(n_frames, self._piece)
            span = self._held[: (n_given - 1) * hop_length + n_fft]
            frames = span.unfold(0, n_fft, hop_length) * self._stft.window
            self._held = self._held[n_given * hop_length :]
            n_frames -= n_given
            yield torch.view_as_real(torch.fft.rfft(frames))
        self._held = self._held.clone()


class SynthesisStream:
    """`Stft.synthesise` of spectra that come in pieces, frames first."""

    def __init__(self, stft: Stft) -> None:
        self._stft = stft
        n_blocks = -(-stft.n_fft // stft.hop_length)  # that a frame reaches into
        # Sums of the signal and of the squared window in the blocks that further frames reach into.
        self._sums = stft.window.new_zeros(2, (n_blocks - 1) * stft.hop_length)
        self._n_silent = stft.n_fft // 2  # samples before the signal that are still to be left out

    def feed(self, spectrum: Tensor, *, last: bool = False) -> Tensor:
        """Take the next frames, (frame, freq, 2); give the samples that are complete, (time,).

        The last frame is one of those that end the signal; the samples go on for half a frame behind it.
        """
        n_fft, hop_length = self._stft.n_fft, self._stft.hop_length
        n_frames = len(spectrum)
        if n_frames == 0:  # which no transform takes
            return self._stft.window[:0]
        frames = torch.fft.irfft(torch.view_as_complex(spectrum.contiguous()), n_fft) * self._stft.window
        squares = self._stft.window.square().expand_as(frames)
        sums = overlap_add(torch.stack((frames, squares)), hop_length)
        sums[:, : self._sums.shape[1]] += self._sums
        n_done = n_frames * hop_length
        self._sums = sums[:, n_done:].clone()
        signal, weight = sums if last else sums[:, :n_done]
        samples: Tensor = signal / weight.clamp(min=LEAST)
        n_silent = min(self._n_silent, len(samples))
        self._n_silent -= n_silent
        return samples[n_silent:]
