"""The engine of ``enhance``: a model, a stream of blocks, one file."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miase.audio import BLOCK_SECONDS, SoundReader
from miase.checkpoint import load_pretrained, save_pretrained
from miase.config import EnhanceConfig, ModelConfig
from miase.errors import AudioError, ConfigError
from miase.full_band import FullBandStream
from miase.models import DCUNet
from miase.models.inference import FusedNetwork
from miase.models.rebuilt import widened
from miase.registry import DEFAULT, resolve
from miase.shifts import shifted
from miase.sounds import Samples
from miase.streamer import ChannelStream, Streamer, checked
from miase.streaming import ModelStream, SegmentedModelStream
from miase.writing import writer_for

Array = TypeVar("Array", NDArray[np.floating], Tensor)
Opener = Callable[[bool], ChannelStream]

FADE_SECONDS = 0.1
FULL_BAND_RATE = 48000
PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}  # of the convolutions


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
        precision: 32-true, or bf16-mixed for convolutions in bfloat16: faster on processors with instructions
            for it and slower on others; what it changes is some 50 dB below the sound.

    Raises:
        ConfigError: the device or the precision is not to be had.
    """

    def __init__(self, model: DCUNet, device: str = "auto", precision: str = "32-true") -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
        self.device = _device(device)
        self.model = model.eval().to(self.device)
        self.sample_rate = model.sample_rate
        self.precision = precision
        self._wider: dict[int, Enhancer] = {}
        self._network = FusedNetwork(self.model, PRECISIONS[precision])
        if precision != "32-true" and not self._network.streamable:
            raise ConfigError(
                f"precision is {precision!r}, but this model hears whole recordings (window_frames is 0) and "
                f"is computed in 32-true alone; leave precision out"
            )

    @classmethod
    def from_pretrained(
        cls, name_or_dir: str | Path = DEFAULT, device: str = "auto", precision: str = "32-true"
    ) -> "Enhancer":
        """Load a packaged model by name, or one from a folder.

        Raises:
            WeightsError: there is no such model, or its files are damaged.
            ConfigError: the device or the precision is not to be had.
        """
        return cls(load_pretrained(resolve(name_or_dir)), device, precision)

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
        samples = checked(array, sample_rate)
        blocks = list(self.enhance_blocks([samples], sample_rate, len(samples), config))
        estimate = np.concatenate(blocks, axis=1).reshape(array.shape)
        if isinstance(noisy, Tensor):
            return torch.from_numpy(estimate).to(noisy)
        return estimate.astype(array.dtype)

    def streamer(
        self,
        sample_rate: int,
        n_channels: int = 1,
        config: EnhanceConfig | None = None,
        *,
        lookahead: float | None = None,
    ) -> Streamer:
        """A stream that takes a sound block by block, such as a live one.

        Args:
            sample_rate: of the blocks, in Hz.
            n_channels: of the blocks.
            config: how; by default at full strength.
            lookahead: seconds of the future that each sample hears. None stands for all that the model can
                hear: the samples are those of `enhance`, and `latency_seconds` tells how late they come. With
                0.2, they come after about half a second, each as if the sound ended 0.2 s after it, for more
                computing.

        Raises:
            ConfigError: there is no such lookahead, or this model has none.
        """
        if lookahead is not None and not lookahead >= 0:
            raise ConfigError(f"lookahead is {lookahead}; it must be 0 s or more")
        return self._streamer(sample_rate, n_channels, config, live=True, lookahead=lookahead)

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
        yield from _through(self._streamer(sample_rate, n_channels, config, live=False), blocks)

    def noise_blocks(
        self,
        blocks: Iterable[Samples],
        sample_rate: int,
        n_channels: int,
        config: EnhanceConfig | None = None,
    ) -> Iterator[Samples]:
        """What is removed from a stream at full strength.

        `miase.streamer.take_away` makes of the stream and of this what `enhance_blocks` gives, to the bit,
        for any ``strength`` and ``atten_lim``, without the model.

        Args:
            blocks: as for `enhance_blocks`.
            sample_rate: in Hz.
            n_channels: of each block.
            config: how; ``strength`` and ``atten_lim`` have no effect.

        Yields:
            Blocks of other lengths, together as long as the input.
        """
        yield from _through(
            self._streamer(sample_rate, n_channels, config, live=False, gives_noise=True), blocks
        )

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
            writer = writer_for(info, target, file_format=file_format, overwrite=overwrite)
            blocks = reader.blocks(round(BLOCK_SECONDS * info.sample_rate))
            with writer:
                for block in self.enhance_blocks(blocks, info.sample_rate, info.n_channels, config):
                    writer.write(block)
        return EnhancedFile(source, target, info.seconds, info.sample_rate, info.n_channels, writer.n_clipped)

    def _streamer(
        self,
        sample_rate: int,
        n_channels: int,
        config: EnhanceConfig | None,
        *,
        live: bool,
        lookahead: float | None = None,
        gives_noise: bool = False,
    ) -> Streamer:
        """See `streamer`; what is not live goes in larger pieces."""
        config = config or EnhanceConfig()
        opener, model_rate = self._opener(config, live, lookahead), self.sample_rate
        if (times := self._times(sample_rate, config)) > 1:
            wide = self._at(times)
            opener = _full_band(opener, wide._opener(config, live, lookahead), model_rate, wide.sample_rate)
            model_rate = wide.sample_rate
        return Streamer(sample_rate, model_rate, n_channels, config, opener, gives_noise=gives_noise)

    def _opener(self, config: EnhanceConfig, live: bool, lookahead: float | None) -> Opener:
        """What makes the stream of a channel at the model's rate, with one output or with three."""
        if not self._network.streamable and lookahead is not None:
            raise ConfigError("this model hears whole recordings (window_frames is 0): it has no lookahead")
        piece, n_windows, frames = self.model.frame_stride, 1, None
        if not live:
            n_pieces, frames_at_once = (1, 256) if self.device.type == "cpu" else (16, 8192)
            piece = n_pieces * self._network.piece
            n_windows = max(1, frames_at_once // max(1, self.model.config.window_frames))
        if lookahead is not None:
            frames = round(lookahead * self.sample_rate / self.model.config.hop_length)

        def open_stream(with_cut: bool) -> ChannelStream:
            if self._network.streamable:
                return ModelStream(
                    self.model, self._network, piece, n_windows, with_cut=with_cut, lookahead=frames
                )
            segmentation = self._segmentation(config, self.model.config)
            return SegmentedModelStream(self._whole, self.model.stft, *segmentation, with_cut=with_cut)

        return shifted(open_stream, config.shifts, self.model.frame_stride, self.model.config.hop_length)

    def _times(self, sample_rate: int, config: EnhanceConfig) -> int:
        """How many times its own rate the model is to have."""
        if config.high_band != "hear":
            return 1
        return min(FULL_BAND_RATE // self.sample_rate, math.ceil(sample_rate / self.sample_rate))

    def _at(self, times: int) -> "Enhancer":
        """The same weights at a multiple of the rate."""
        if times not in self._wider:
            self._wider[times] = Enhancer(widened(self.model, times), str(self.device), self.precision)
        return self._wider[times]

    def _whole(self, samples: Samples) -> Samples:
        """A whole signal through the model, (time,) -> (time,)."""
        with torch.inference_mode():
            noisy = torch.from_numpy(samples).to(self.device)
            estimate: Samples = self.model(noisy.unsqueeze(0))[0].cpu().numpy()
        return estimate

    def _segmentation(self, config: EnhanceConfig, model: ModelConfig) -> tuple[int, int, int]:
        """Segment, context and cross-fade in samples, for what takes whole signals only.

        The first two in whole windows of the model, so that a window holds the same frames as in the whole
        recording.
        """
        grid = (model.window_frames or 16) * model.hop_length
        segment = max(1, round(config.segment * self.sample_rate / grid)) * grid
        context = max(1, round(config.overlap * self.sample_rate / grid)) * grid if config.overlap else 0
        return segment, context, min(round(FADE_SECONDS * self.sample_rate), 2 * context)


def _full_band(narrow: Opener, wide: Opener, narrow_rate: int, wide_rate: int) -> Opener:
    return lambda with_cut: FullBandStream(narrow(True), wide(with_cut), narrow_rate, wide_rate)


def _through(streamer: Streamer, blocks: Iterable[Samples]) -> Iterator[Samples]:
    for block in blocks:
        yield streamer.feed(block)
    yield streamer.flush()


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
