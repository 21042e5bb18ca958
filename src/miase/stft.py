"""Short-time Fourier analysis and synthesis: a pair that gives the signal back.

Spectra travel as real pairs in a last axis of 2 (real, imaginary), never as a complex dtype, so that lower
precision, several devices and export meet nothing unusual.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        n_padded = n_samples + -n_samples % self.hop_length
        samples = torch.istft(
            torch.view_as_complex(spectrum.float().contiguous()),
            self.n_fft,
            self.hop_length,
            window=self.window,
            center=True,
            length=n_padded,
        )
        return samples[..., :n_samples]


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
        self._blocks = -(-stft.n_fft // stft.hop_length)
        self._sum = stft.window.new_zeros(
            2, self._blocks - 1, stft.hop_length
        )  # of the signal and of the window
        squares = F.pad(stft.window.square(), (0, self._blocks * stft.hop_length - stft.n_fft))
        self._squares = squares.view(self._blocks, 1, stft.hop_length)
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
        blocks = F.pad(frames, (0, self._blocks * hop_length - n_fft)).view(
            n_frames, self._blocks, hop_length
        )
        total = F.pad(self._sum, (0, 0, 0, n_frames))
        for i in range(self._blocks):
            total[0, i : i + n_frames] += blocks[:, i]
            total[1, i : i + n_frames] += self._squares[i]
        self._sum = total[:, n_frames:].clone()
        done = total if last else total[:, :n_frames]
        samples = (done[0] / done[1].clamp(min=1e-8)).flatten()
        n_silent = min(self._n_silent, len(samples))
        self._n_silent -= n_silent
        return samples[n_silent:]
