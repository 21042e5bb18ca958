"""Short-time Fourier analysis and synthesis: a pair that gives the signal back.

Spectra travel as real pairs in a last axis of 2 (real, imaginary), never as a complex dtype, so that lower
precision, several devices and export meet nothing unusual.
"""

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
