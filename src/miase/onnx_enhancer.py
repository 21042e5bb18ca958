"""Enhancing with an exported model on onnxruntime, without the network in PyTorch."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch

from miase.config import EnhanceConfig, ModelConfig
from miase.config_file import from_dict
from miase.enhance import Enhancer, Opener
from miase.errors import ConfigError, WeightsError
from miase.models import MODELS
from miase.shifts import shifted
from miase.sounds import Samples
from miase.stft import Stft
from miase.streamer import ChannelStream
from miase.streaming import SegmentedModelStream

METADATA_KEY = "miase"  # of the network's configuration


class OnnxEnhancer(Enhancer):
    """An `Enhancer` whose model is a file that ``miase export`` wrote; it works segment by segment.

    Args:
        path: the file.
        threads: of the CPU; 0 leaves the choice to onnxruntime.

    Raises:
        WeightsError: the file is missing, damaged or not of ours.
        ConfigError: onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self.device = torch.device("cpu")
        self._session = open_session(Path(path), threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        try:
            self._config = from_dict(ModelConfig, json.loads(metadata[METADATA_KEY]), f" of {path}")
        except (KeyError, ValueError, ConfigError) as error:
            raise WeightsError(f"{path} was not written by 'miase export': {error}") from error
        self._stft = Stft(self._config.n_fft, self._config.hop_length)
        self.sample_rate = self._config.sample_rate

    def save_pretrained(self, folder: str | Path) -> None:
        """Not to be had from an exported model."""
        raise WeightsError("an exported model cannot be saved as weights; copy its file")

    def _opener(self, config: EnhanceConfig, live: bool, lookahead: float | None) -> Opener:
        if lookahead is not None:
            raise ConfigError(
                "an ONNX model takes whole segments and has no lookahead; use the torch backend"
            )
        segmentation = self._segmentation(config, self._config)
        frame_stride = MODELS[self._config.name].frame_stride

        def open_stream(with_cut: bool) -> ChannelStream:
            return SegmentedModelStream(self._whole, self._stft, *segmentation, with_cut=with_cut)

        return shifted(open_stream, config.shifts, frame_stride, self._config.hop_length)

    def _at(self, times: int) -> Enhancer:
        raise ConfigError(
            "an ONNX model has one rate and cannot hear above it: choose another high_band, export "
            "default-48k, or use the torch backend"
        )

    def _whole(self, samples: Samples) -> Samples:
        estimate: Samples = self._session.run(None, {"noisy": samples[None]})[0][0]
        return estimate


def open_session(path: Path, threads: int = 0) -> Any:
    """The model in onnxruntime, on the CPU.

    Raises:
        WeightsError: the file is missing or damaged.
        ConfigError: onnxruntime is not installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ConfigError("ONNX models need onnxruntime; install it with: pip install 'miase[onnx]'")
    import onnxruntime

    if not path.is_file():
        raise WeightsError(f"{path} is missing; write it with: miase export -m MODEL -o {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises kinds of its own
        raise WeightsError(
            f"{path} is no ONNX model that can be run: {str(error).splitlines()[0]}"
        ) from error
