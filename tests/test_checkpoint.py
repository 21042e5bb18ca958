"""Weights on disk: there and back, what is damaged is said in a line, and nothing in a file is ever run."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from miase import registry
from miase.checkpoint import (
    load_pretrained,
    load_state,
    read_card,
    save_pretrained,
    save_state,
    sha256,
    written_whole,
)
from miase.config import ModelConfig
from miase.errors import WeightsError
from miase.models import MODELS, build_model

SMALL = {"sample_rate": 8000, "n_fft": 64, "hop_length": 32, "n_blocks": 1, "window_frames": 32}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(ModelConfig(**SMALL)).eval()


@pytest.fixture
def folder(model, tmp_path):
    save_pretrained(model, tmp_path / "model", card="# A model\n")
    return tmp_path / "model"


def refused(folder, **how):
    """What loading says, which must be one line."""
    with pytest.raises(WeightsError) as caught:
        load_pretrained(folder, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder, **values):
    """Change the network's settings in config.json."""
    config = json.loads((folder / "config.json").read_text())
    config["model"] |= values
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", MODELS)
def test_every_network_comes_back_to_the_bit(name, tmp_path):
    torch.manual_seed(0)
    model = build_model(ModelConfig(name, **SMALL))
    save_pretrained(model, tmp_path)
    again = load_pretrained(tmp_path)
    assert not again.training
    assert again.config == model.config
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_half_storage_takes_half_and_changes_little(model, folder, tmp_path):
    save_pretrained(model, tmp_path / "half", half=True)
    sizes = [(f / "model.safetensors").stat().st_size for f in (tmp_path / "half", folder)]
    assert sizes[0] < 0.55 * sizes[1]
    again = load_pretrained(tmp_path / "half")
    assert all(value.dtype == model.state_dict()[key].dtype for key, value in again.state_dict().items())
    noisy = torch.randn(1, 4000) * 0.1
    with torch.no_grad():
        assert (again(noisy) - model(noisy)).norm() < 1e-2 * model(noisy).norm()


def test_no_half_written_file_stays(folder, tmp_path):
    def write_and_fail():
        with written_whole(tmp_path / "sub" / "a.txt") as path:
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert list((tmp_path / "sub").iterdir()) == []
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_the_card_is_read_or_missed(folder):
    assert read_card(folder) == "# A model\n"
    (folder / "README.md").unlink()
    with pytest.raises(WeightsError, match="no card"):
        read_card(folder)


@pytest.mark.parametrize("verify", [True, False])
def test_weights_cut_in_half_are_refused(folder, verify):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "is damaged" in refused(folder, verify=verify)


def test_one_wrong_bit_is_found(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert "SHA-256" in refused(folder)
    load_pretrained(folder, verify=False)


@pytest.mark.parametrize(
    ("missing", "said"),
    [("config.json", "holds no model"), ("model.safetensors", "is missing"), (".", "holds no model")],
)
def test_missing_files_are_named(folder, missing, said):
    if missing == ".":
        shutil.rmtree(folder)
    else:
        (folder / missing).unlink()
    assert said in refused(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("null", "is damaged"),
        ("{}", "'model' is missing"),
        ('{"model": {}}', "'sha256' is missing"),
        ('{"model": 3, "sha256": ""}', "is damaged"),
        ('{"model": {"n_blocks": "six"}, "sha256": ""}', "n_blocks"),
        ('{"model": {"n_blocks": -6}, "sha256": ""}', "n_blocks"),
        ('{"model": {"blocks": 6}, "sha256": ""}', "n_blocks"),
        (b"\xff\xfe", "is damaged"),
    ],
)
def test_a_damaged_config_is_refused(folder, text, said):
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in refused(folder)


def test_an_unknown_network_is_refused(folder):
    change(folder, name="dcunet99")
    assert "unknown network 'dcunet99'" in refused(folder)


@pytest.mark.parametrize("values", [{"name": "dcunet20"}, {"n_blocks": 2}])
def test_weights_that_do_not_fit_are_refused(folder, values):
    change(folder, **values)
    assert "does not fit" in refused(folder)


def test_a_missing_tensor_is_refused(folder):
    state = load_file(folder / "model.safetensors")
    state.pop("mask_out.bias")
    save_file(state, folder / "model.safetensors")
    assert "does not fit" in refused(folder, verify=False)


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("write", ["pickle", "torch"])
@pytest.mark.parametrize("where", ["weights", "state"])
def test_no_file_runs_code(folder, tmp_path, where, write):
    path = folder / "model.safetensors" if where == "weights" else tmp_path / "step-00000001.pt"
    content = {"model": Bomb(tmp_path / "boom")}
    if write == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    if where == "weights":
        refused(folder, verify=False)
    else:
        with pytest.raises(WeightsError, match="is damaged"):
            load_state(path)
    assert not (tmp_path / "boom").exists()


def test_the_state_of_a_run_comes_back(tmp_path):
    state = {"model": {"w": torch.randn(3)}, "step": 7, "seconds": 1.5, "recordings": "abc"}
    save_state(state, tmp_path / "deep" / "a.pt")
    again = load_state(tmp_path / "deep" / "a.pt")
    assert torch.equal(again["model"].pop("w"), state["model"].pop("w"))
    assert again == state


def test_a_damaged_state_is_refused(tmp_path):
    save_state({"w": torch.randn(1000)}, tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:2000])
    with pytest.raises(WeightsError, match="is damaged; delete it"):
        load_state(tmp_path / "a.pt")


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Names of models


@pytest.fixture
def packaged(monkeypatch, folder, tmp_path):
    for name in ("zebra", "default", "apple"):
        shutil.copytree(folder, tmp_path / "weights" / name)
    (tmp_path / "weights" / "not_a_model").mkdir()
    monkeypatch.setattr(registry, "_WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


def test_the_default_is_named_first(packaged):
    assert registry.available() == ["default", "apple", "zebra"]
    assert registry.resolve("apple") == packaged / "apple"


def test_a_folder_and_a_training_run_are_models_too(packaged, folder, tmp_path):
    assert registry.resolve(folder) == folder
    shutil.copytree(folder, tmp_path / "run" / "model")
    assert registry.resolve(str(tmp_path / "run")) == tmp_path / "run" / "model"


def test_an_unknown_name_is_refused_with_the_known_ones(packaged):
    with pytest.raises(WeightsError, match=r"unknown model 'pear'.*default, apple, zebra"):
        registry.resolve("pear")


def test_a_package_without_weights_has_no_models(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_WEIGHTS", tmp_path / "none")
    assert registry.available() == []
    with pytest.raises(WeightsError, match="there is none"):
        registry.resolve("default")


def test_what_is_packaged_loads():
    for name in registry.available():
        assert load_pretrained(registry.resolve(name)).sample_rate >= 4000
        assert read_card(registry.resolve(name))
