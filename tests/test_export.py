"""Exported models: the numbers of the network at any length and batch, and what the file says of itself."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch

from miase import ConfigError, EnhanceConfig, Enhancer, WeightsError, cli
from miase.checkpoint import save_pretrained
from miase.registry import resolve
from signals import speech_like
from test_inference import trained

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from miase.export import export_onnx  # noqa: E402
from miase.onnx_enhancer import OnnxEnhancer, open_session  # noqa: E402

RATE = 4000


@pytest.fixture(scope="module", params=["dcunet10_rtstm", "dcunet10_ctstm", "dcunet20"])
def pair(request, tmp_path_factory):
    """A small network and its exported file."""
    folder = tmp_path_factory.mktemp(request.param)
    save_pretrained(trained(name=request.param, n_fft=64, hop_length=30, n_blocks=1), folder)
    export_onnx(folder, folder / "a.onnx")
    return Enhancer.from_pretrained(folder, "cpu").model, folder / "a.onnx"


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 30, 400, 959, 960, 961, 16000])
def test_an_exported_network_gives_the_same(pair, batch, length):
    model, path = pair
    noisy = torch.randn(batch, length)
    (estimate,) = open_session(path, 1).run(None, {"noisy": noisy.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(estimate), model(noisy), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("default") / "default.onnx"
    assert cli.run(["export", "-o", str(path)]) == 0
    return path


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 16000, 16001, 480000])
def test_the_packaged_model_gives_the_same(exported, batch, length):
    noisy = 0.1 * torch.randn(batch, length)
    (estimate,) = open_session(exported, 1).run(None, {"noisy": noisy.numpy()})
    with torch.inference_mode():
        expected = Enhancer.from_pretrained(device="cpu").model(noisy)
    torch.testing.assert_close(torch.from_numpy(estimate), expected, rtol=0, atol=1e-4)


def test_the_file_says_what_it_is(exported):
    model = onnx.load(exported)
    about = {entry.key: entry.value for entry in model.metadata_props}
    config = json.loads((resolve("default") / "config.json").read_text())
    assert about["name"] == "default"
    assert about["sample_rate"] == "16000"
    assert about["sha256"] == config["sha256"]
    assert "CC BY" in about["licence"] or "4.0" in about["licence"]
    assert json.loads(about["miase"]) == config["model"]
    assert model.opset_import[0].version >= 18


def test_the_command_enhances_with_it(exported, tmp_path):
    x = 0.3 * speech_like(3.0, 16000)
    sf.write(tmp_path / "a.wav", x, 16000, subtype="FLOAT")
    command = ["enhance", str(tmp_path / "a.wav"), "-q", "-m"]
    out = [tmp_path / "torch.wav", tmp_path / "onnx.wav"]
    assert cli.run([*command, "default", "-o", str(out[0])]) == 0
    assert cli.run([*command, str(exported), "--backend", "onnx", "-o", str(out[1])]) == 0
    by_torch, by_onnx = (sf.read(path, dtype="float32")[0] for path in out)
    np.testing.assert_allclose(by_onnx, by_torch, atol=1e-4)


def test_a_long_sound_by_segments_is_near_the_whole(exported):
    x = (0.3 * speech_like(40.0, 16000)).astype(np.float32)
    by_segments = OnnxEnhancer(exported, 1).enhance(x, 16000)
    whole = Enhancer.from_pretrained(device="cpu").enhance(x, 16000)
    assert np.linalg.norm(by_segments - whole) < 0.02 * np.linalg.norm(whole)


def test_eight_bits_are_smaller_and_near(exported, tmp_path):
    done = export_onnx("default", tmp_path / "small.onnx", int8=True)
    assert done.n_bytes < 0.8 * exported.stat().st_size
    assert done.error_db < -20


def test_misuse_is_refused(exported, tmp_path, capsys):
    with pytest.raises(ConfigError, match="exists already"):
        export_onnx("default", exported)
    with pytest.raises(ConfigError, match=r"\.onnx"):
        export_onnx("default", tmp_path / "a.bin")
    with pytest.raises(ConfigError, match="default-48k"):
        OnnxEnhancer(exported).streamer(44100, config=EnhanceConfig(high_band="hear"))
    with pytest.raises(ConfigError, match="lookahead"):
        OnnxEnhancer(exported).streamer(16000, lookahead=0.1)
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="no ONNX model"):
        OnnxEnhancer(tmp_path / "no.onnx")
    assert cli.run(["enhance", str(tmp_path), "--backend", "onnx"]) == 1
    sf.write(tmp_path / "a.wav", np.zeros(100), RATE)
    assert cli.run(["enhance", str(tmp_path), "--backend", "onnx"]) == 2
    assert "miase export" in capsys.readouterr().err
