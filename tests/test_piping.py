"""Sound through standard input and output: the samples of the file, in the format that came."""

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
import torch

from miase import AudioError, ConfigError, EnhanceConfig, Enhancer, cli
from miase.config import ModelConfig
from miase.models import build_model
from miase.piping import _decode, _encode, enhance_pipe
from signals import speech_like

RATE = 8000


@pytest.fixture(scope="module")
def enhancer():
    torch.manual_seed(0)
    config = ModelConfig(sample_rate=RATE, n_fft=128, hop_length=64, n_blocks=1, window_frames=32)
    return Enhancer(build_model(config), "cpu")


class OneWay(io.RawIOBase):
    """A pipe: no seeking, and it comes in small pieces."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self.data.read(min(len(buffer), 1000))
        buffer[: len(piece)] = piece
        return len(piece)


def piped(enhancer, data, **how):
    target = io.BytesIO()
    enhance_pipe(enhancer, io.BufferedReader(OneWay(data)), target, EnhanceConfig(), **how)
    return target.getvalue()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize(("sample_rate", "n_channels"), [(RATE, 1), (44100, 2)])
def test_wav_comes_out_as_the_file_does(enhancer, tmp_path, subtype, sample_rate, n_channels):
    x = np.stack([0.5 * speech_like(1.0, sample_rate, seed) for seed in range(n_channels)])
    sf.write(tmp_path / "a.wav", x.T, sample_rate, subtype=subtype)
    enhancer.enhance_file(tmp_path / "a.wav", tmp_path / "b.wav")
    result = piped(enhancer, (tmp_path / "a.wav").read_bytes())
    (tmp_path / "c.wav").write_bytes(result)
    width = int(subtype[-2:]) // 8
    got = _decode(result[44:], n_channels, width)
    expected, _ = sf.read(tmp_path / "b.wav", always_2d=True)
    np.testing.assert_allclose(got.T, expected, atol=1.01 / 2**15)
    info = sf.info(tmp_path / "c.wav")  # which takes the unknown length for what is there
    assert (info.samplerate, info.channels, info.subtype) == (sample_rate, n_channels, subtype)
    assert info.frames == x.shape[1]


def test_raw_samples_come_out_raw(enhancer):
    x = np.round(10_000 * speech_like(1.0, 16000)).astype("<i2")
    result = np.frombuffer(piped(enhancer, x.tobytes(), raw_rate=16000), "<i2")
    expected = enhancer.enhance(x.astype(np.float32) / 2**15, 16000) * 2**15
    np.testing.assert_allclose(result, expected, atol=1)


def test_a_shorter_lookahead_gives_as_many_samples(enhancer):
    x = np.zeros(2 * 5000, "<i2")
    assert len(piped(enhancer, x.tobytes(), raw_rate=RATE, raw_channels=2, lookahead=0.1)) == x.nbytes


@pytest.mark.parametrize("width", [2, 3, 4])
def test_integers_survive(width):
    extremes = [-(2 ** (8 * width - 1)), -1, 0, 1, 2**22 if width == 4 else 2 ** (8 * width - 1) - 1]
    data = b"".join(int(value).to_bytes(width, "little", signed=True) for value in extremes)
    assert _encode(_decode(data, 1, width), width) == data


@pytest.mark.parametrize(("data", "message"), [(b"", "no WAV"), (b"fLaC" + bytes(100), "no WAV")])
def test_what_is_no_wav_is_refused(enhancer, data, message):
    with pytest.raises(AudioError, match=message):
        piped(enhancer, data)


def test_the_command_takes_a_pipe():
    x = np.round(3000 * speech_like(0.5, 16000)).astype("<i2")
    command = [
        sys.executable,
        "-m",
        "miase",
        "enhance",
        "-",
        "-o",
        "-",
        "--raw-rate",
        "16000",
        "--threads",
        "1",
    ]
    result = subprocess.run(command, input=x.tobytes(), capture_output=True, check=True)
    assert len(result.stdout) == x.nbytes
    assert result.stdout != x.tobytes()
    assert result.stderr == b""


@pytest.mark.parametrize(
    "arguments", [["-"], ["a.wav", "-o", "-"], ["-", "b.wav", "-o", "-"], ["-", "-o", "-", "--log-json"]]
)
def test_half_a_pipe_is_refused(arguments, capsys):
    assert cli.run(["enhance", *arguments]) == 2
    assert "standard input" in capsys.readouterr().err or "--log-json" in arguments


def test_no_channels_are_refused(enhancer):
    with pytest.raises(ConfigError, match="raw_channels"):
        piped(enhancer, b"", raw_rate=8000, raw_channels=0)
