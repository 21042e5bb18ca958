"""The engine of ``enhance``: a model, a stream of blocks, one file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from miase.audio import SoundReader
from miase.checkpoint import load_pretrained, save_pretrained
from miase.config import EnhanceConfig
from miase.errors import AudioError, ConfigError
from miase.models import DCUNet
from miase.overlap import process_in_segments
from miase.registry import DEFAULT, resolve
from miase.resampling import StreamResampler
from miase.sounds import Samples, check_finite
from miase.writing import SoundWriter, writable_format

Array = TypeVar("Array", NDArray[np.floating], Tensor)

BLOCK_SECONDS = 4.0  # what is read at once
FADE_SECONDS = 0.1
MOST_CHANNELS = 64  # an array with more is taken for one of shape (time, channel)


@dataclass(frozen=True)
class EnhancedFile:
    """What became of one file."""

    source: Path
    target: Path
    seconds: float
    sample_rate: int
    n_channels: int
    n_clipped: int


class Enhancer:
    """A model ready to enhance arrays and files of any rate, length and number of channels.

    Args:
        model: network, (batch, time) -> (batch, time) at its own ``sample_rate``.
        device: auto (CUDA where there is one, else the CPU) or a name that torch knows.

    Raises:
        ConfigError: the device is not to be had.
    """

    def __init__(self, model: DCUNet, device: str = "auto") -> None:
        self.device = _device(device)
        self.model = model.eval().to(self.device)
        self.sample_rate = model.sample_rate

    @classmethod
    def from_pretrained(cls, name_or_dir: str | Path = DEFAULT, device: str = "auto") -> "Enhancer":
        """Load a packaged model by name, or one from a folder.

        Raises:
            WeightsError: there is no such model, or its files are damaged.
        """
        return cls(load_pretrained(resolve(name_or_dir)), device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model so that ``from_pretrained`` reads it."""
        save_pretrained(self.model, Path(folder))

    def enhance(self, noisy: Array, sample_rate: int, config: EnhanceConfig | None = None) -> Array:
        """Enhance an array.

        Args:
            noisy: numpy or torch floats at full scale 1.0, (time,) or (channel, time).
            sample_rate: of ``noisy``, in Hz.
            config: how; by default at full strength.

        Returns:
            The same kind, type and shape; delay zero.

        Raises:
            AudioError: the samples are no finite floats, or their shape is not one of the two.
        """
        array = noisy.detach().cpu().numpy() if isinstance(noisy, Tensor) else np.asarray(noisy)
        samples = _checked(array, sample_rate)
        blocks = list(self.enhance_blocks([samples], sample_rate, len(samples), config))
        estimate = np.concatenate(blocks, axis=1).reshape(array.shape)
        if isinstance(noisy, Tensor):
            return torch.from_numpy(estimate).to(noisy)
        return estimate.astype(array.dtype)

    def enhance_blocks(
        self,
        blocks: Iterable[Samples],
        sample_rate: int,
        n_channels: int,
        config: EnhanceConfig | None = None,
    ) -> Iterator[Samples]:
        """Enhance a stream; memory does not grow with its length.

        Args:
            blocks: (channel, time) each, at ``sample_rate``, of any lengths.
            sample_rate: in Hz.
            n_channels: of each block.
            config: how; by default at full strength.

        Yields:
            Blocks of other lengths, together as long as the input.
        """
        config = config or EnhanceConfig()
        originals = _Queue(n_channels)
        to_model = StreamResampler(sample_rate, self.sample_rate, n_channels)
        n_streams = n_channels if sample_rate == self.sample_rate else 3 * n_channels
        from_model = StreamResampler(self.sample_rate, sample_rate, n_streams)

        def at_model_rate() -> Iterator[Samples]:
            for block in blocks:
                originals.push(block)
                yield to_model.process(block)
            yield to_model.process(np.zeros((n_channels, 0), np.float32), last=True)

        def streams(segment: Samples) -> Samples:
            return self._streams(segment, with_cut=n_streams > n_channels)

        results = process_in_segments(streams, at_model_rate(), *self._segmentation(config))
        for block in _at_original_rate(results, from_model, n_streams):
            original = originals.pop(block.shape[1])
            yield _combine(original, block[:, : original.shape[1]], config)
        if len(originals):  # resampling there and back may give a sample less
            original = originals.pop(len(originals))
            yield _combine(original, np.zeros((n_streams, original.shape[1]), np.float32), config)

    def enhance_file(
        self,
        source: str | Path,
        target: str | Path,
        config: EnhanceConfig | None = None,
        *,
        file_format: str | None = None,
        overwrite: bool = False,
    ) -> EnhancedFile:
        """Enhance a sound file of any length; rate, channels, format and sample format stay as they are.

        Args:
            source: file to read.
            target: file to write; never the source.
            config: how.
            file_format: write this format, as flac, instead of the source's.
            overwrite: replace a file that is there.

        Raises:
            AudioError: the source cannot be read or the target not written; no half-written file stays.
        """
        source, target = Path(source), Path(target)
        if target.exists() and source.exists() and target.samefile(source):
            raise AudioError(f"{target} is the input itself, which is never overwritten; name another output")
        with SoundReader(source) as reader:
            info = reader.info
            kind: str | None
            subtype: str | None
            kind, subtype, suffix = writable_format(info)
            if file_format is not None or target.suffix.lower() != suffix:
                kind, subtype = None, None  # what the target's suffix says
            writer = SoundWriter(
                target,
                info.sample_rate,
                info.n_channels,
                format=kind,
                subtype=subtype,
                overwrite=overwrite,
                n_frames_expected=info.n_frames,
            )
            blocks = reader.blocks(round(BLOCK_SECONDS * info.sample_rate))
            with writer:
                for block in self.enhance_blocks(blocks, info.sample_rate, info.n_channels, config):
                    writer.write(block)
        return EnhancedFile(source, target, info.seconds, info.sample_rate, info.n_channels, writer.n_clipped)

    def _segmentation(self, config: EnhanceConfig) -> tuple[int, int, int]:
        """Segment, context and cross-fade in samples; the first two in whole windows of the model.

        So that a window of the transformer holds the same frames as in the whole recording.
        """
        model = self.model.config
        frames = model.window_frames or self.model.frame_stride
        grid = frames * model.hop_length
        segment = max(1, round(config.segment * self.sample_rate / grid)) * grid
        context = max(1, round(config.overlap * self.sample_rate / grid)) * grid if config.overlap else 0
        fade = min(round(FADE_SECONDS * self.sample_rate), 2 * context)
        return segment, context, fade

    def _streams(self, segment: Samples, *, with_cut: bool) -> Samples:
        """Estimate, and when the rates differ also the input and the share of the high band to cut.

        (channel, time) -> (channel or 3 * channel, time).
        """
        noisy = torch.from_numpy(segment).to(self.device)
        with torch.inference_mode():
            estimate = torch.cat([self.model(channel.unsqueeze(0)) for channel in noisy])
            if not with_cut:
                return estimate.cpu().numpy()
            cut = 1 - self._upper_gain(noisy, estimate)
            return torch.cat((estimate, noisy, cut)).cpu().numpy()

    def _upper_gain(self, noisy: Tensor, estimate: Tensor) -> Tensor:
        """Amplitude that the model leaves of the upper half of its band, (channel, time), from 0 to 1."""
        upper = slice(self.model.config.n_fft // 4, None)
        energies = [
            F.avg_pool1d(self.model.stft.analyse(x)[:, upper].square().sum((1, 3)).unsqueeze(1), 9, 1, 4)
            for x in (estimate, noisy)
        ]
        gain = ((energies[0] + 1e-12) / (energies[1] + 1e-12)).sqrt().clamp(max=1.0)
        hop_length = self.model.config.hop_length
        n_samples = (gain.shape[-1] - 1) * hop_length + 1
        gain = F.interpolate(gain, n_samples, mode="linear", align_corners=True)
        gain = F.pad(gain, (0, max(0, noisy.shape[-1] - n_samples)), mode="replicate")
        return gain[:, 0, : noisy.shape[-1]]


def _at_original_rate(
    results: Iterable[Samples], resampler: StreamResampler, n_streams: int
) -> Iterator[Samples]:
    for block in results:
        yield resampler.process(block)
    yield resampler.process(np.zeros((n_streams, 0), np.float32), last=True)


def _combine(original: Samples, streams: Samples, config: EnhanceConfig) -> Samples:
    """Take from the original what the model removed.

    With the rates alike the streams are the estimate; else the estimate, the input within the model's band
    and the share to cut of what lies above it. Subtracting leaves the original to the bit where nothing is
    removed.
    """
    n_channels = len(original)
    share = np.float32(config.share_removed)
    if len(streams) == n_channels:
        removed = original - streams
    else:
        estimate, in_band, cut = streams.reshape(3, n_channels, -1)
        removed = in_band - estimate
        above = original - in_band
        if config.high_band == "follow":
            removed = removed + np.clip(cut, 0, 1) * above
        elif config.high_band == "drop":
            removed = removed + above
    kept: Samples = original - share * removed
    return kept


class _Queue:
    """Samples that wait for their estimate, (channel, time)."""

    def __init__(self, n_channels: int) -> None:
        self.samples = np.zeros((n_channels, 0), np.float32)

    def __len__(self) -> int:
        return self.samples.shape[1]

    def push(self, block: Samples) -> None:
        self.samples = np.concatenate((self.samples, block), axis=1)

    def pop(self, n: int) -> Samples:
        """At most ``n`` samples."""
        taken, self.samples = self.samples[:, :n], self.samples[:, n:]
        return taken


def _checked(array: NDArray[np.floating], sample_rate: int) -> Samples:
    """(time,) or (channel, time) floats -> (channel, time) float32."""
    if array.ndim not in (1, 2) or array.size == 0:
        raise AudioError(
            f"the samples have shape {array.shape}; it must be (time,) or (channel, time), not empty"
        )
    if array.ndim == 2 and len(array) > MOST_CHANNELS:
        raise AudioError(
            f"the samples have shape {array.shape}, which would be {len(array)} channels; "
            f"transpose to (channel, time)"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(
            f"the samples are {array.dtype}; give floats at full scale 1.0 (16-bit integers / 32768)"
        )
    if sample_rate < 1:
        raise AudioError(f"the sample rate is {sample_rate} Hz; it must be 1 or more")
    samples = np.atleast_2d(array).astype(np.float32)
    check_finite(samples, "array", sample_rate)
    return samples


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} is not to be had here ({reason}); use auto or cpu") from error
    return device
