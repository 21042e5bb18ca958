"""Settings: what is refused and how it is said, TOML there and back, and flags that are the TOML's keys."""

import dataclasses

import pytest

from miase import cli, verbs
from miase.config import (
    DataConfig,
    EnhanceConfig,
    MixConfig,
    ModelConfig,
    ObjectiveConfig,
    RunConfig,
    TrainingConfig,
)
from miase.config_file import dump_toml, from_dict, load_toml, to_dict
from miase.errors import ConfigError

TABLES = {
    "model": ModelConfig,
    "data": DataConfig,
    "objective": ObjectiveConfig,
    "training": TrainingConfig,
    "mix": MixConfig,
}

OTHER = RunConfig(
    ModelConfig("dcunet20", 48000, 1024, 256, 2, 64, 0.5, 0.7, 0.9),
    DataConfig(1.5, 3, 0.2, 0),
    ObjectiveConfig(
        "noisy_target",
        ("white", "a folder/with ü"),
        (-6.0, 21.0),
        "current",
        "noisy_target",
        7,
        0.25,
        0.75,
        0.2,
        3,
        0.25,
        0.5,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
    ),
    TrainingConfig(
        1e-4,
        "cosine",
        0.5,
        0.9,
        1.0,
        3,
        12,
        1.5,
        7,
        8,
        0.5,
        3,
        "cuda:1",
        "32-true",
        True,
        True,
        2,
        "default",
        True,
    ),
    MixConfig(
        speech=("a folder/of speech", "another"),
        mix_noise=("noise", "synthetic"),
        mix_noise_class="siren",
        split="train",
        mix_snr_db=(0.0, 1.0),
        takes=2,
        level_db=(-20.0, 3.0),
        band_share=0.1,
        band_hz=(3000.0, 4000.0),
        clip_share=0.2,
        clip_fraction=(0.01, 0.02),
        codec_share=0.3,
        codecs=("gsm", "opus"),
        room_share=0.4,
        rooms=("responses",),
        room_rt60=(0.3, 0.4),
        room_target="early",
    ),
)


def flags_of_train():
    """Every flag of `miase train` that gives a setting, with the field it fills."""
    app = cli._app()["train"]
    for argument in app.assemble_argument_collection():
        if argument.field_info.name not in (
            "noisy_dir",
            "out",
            "config",
            "resume",
            "print_config",
            "quiet",
            "run",
            *TABLES,
        ):
            yield argument.name, argument.field_info.name


@pytest.mark.parametrize("config", [RunConfig(), OTHER], ids=["defaults", "others"])
def test_toml_gives_the_settings_back(tmp_path, config):
    path = tmp_path / "config.toml"
    path.write_text(dump_toml(config), encoding="utf-8")
    assert load_toml(path) == config
    assert from_dict(RunConfig, to_dict(config)) == config


def test_the_other_settings_differ_from_the_defaults_in_every_field():
    """Else the round trip above would not notice a field that is lost."""
    for table in TABLES:
        ours, default = getattr(OTHER, table), getattr(RunConfig(), table)
        same = [f.name for f in dataclasses.fields(ours) if getattr(ours, f.name) == getattr(default, f.name)]
        assert set(same) <= {"hop_length", "wsdr_weight"}


def test_missing_keys_take_their_defaults(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[training]\nlr = 1\n", encoding="utf-8")
    assert load_toml(path) == RunConfig(training=TrainingConfig(lr=1.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\nn_blokcs = 2", ("n_blokcs", "[model]", "did you mean 'n_blocks'")),
        ("[training]\nmax_step = 2", ("max_step", "[training]", "did you mean 'max_steps'")),
        ("[trainng]\nlr = 2", ("trainng", "did you mean 'training'")),
        ("[data]\nxyzzy = 2", ("xyzzy", "[data]", "batch_size")),
        ("lr = 2", ("lr", "training")),
        ("model = 3", ("model", "table")),
        ("[model]\nn_fft = 'big'", ("n_fft", "[model]", "int")),
        ("[model]\nn_fft = 512.0", ("n_fft", "[model]", "int")),
        ("[model]\nn_fft = true", ("n_fft", "[model]", "int")),
        ("[training]\nlr = '1e-3'", ("lr", "[training]", "float")),
        ("[objective]\nnoise = 3", ("noise", "[objective]", "list")),
        ("[objective]\nnoise = [3]", ("noise", "[objective]", "str")),
        ("[objective]\nsnr_db = [1.0]", ("snr_db", "[objective]", "2 values")),
        ("[objective]\nsnr_db = [5, 1]", ("snr_db", "lower end first")),
        ("[model", ("not valid TOML",)),
        ("[model]\nname = 'ä'".encode("latin-1"), ("not valid TOML",)),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_toml(path)
    assert "\n" not in str(caught.value)
    for part in said:
        assert part in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read"):
        load_toml(tmp_path / "nowhere.toml")


BAD_VALUES = [
    (ModelConfig, "sample_rate", [0, 3999, 10**6]),
    (ModelConfig, "n_fft", [0, 15, 513]),
    (ModelConfig, "hop_length", [0, -1, 257]),
    (ModelConfig, "n_blocks", [0]),
    (ModelConfig, "window_frames", [-16, 17]),
    (ModelConfig, "level_seconds", [0.0, -1.0, float("inf")]),
    (ModelConfig, "compression", [0.0, 1.1]),
    (ModelConfig, "mask_exponent", [0.0, 1.1]),
    (DataConfig, "excerpt_seconds", [0.0, -1.0, float("inf")]),
    (DataConfig, "batch_size", [0]),
    (DataConfig, "valid_share", [-0.1, 1.0]),
    (DataConfig, "workers", [-1]),
    (ObjectiveConfig, "noise", [(), ("",)]),
    (ObjectiveConfig, "snr_db", [(1.0, 0.0), (float("nan"), 0.0), (0.0, float("inf"))]),
    (ObjectiveConfig, "prior", ["teacher"]),
    (ObjectiveConfig, "warmup", ["iddp"]),
    (ObjectiveConfig, "warmup_steps", [-1]),
    (ObjectiveConfig, "target_share", [-0.1, 1.1]),
    (ObjectiveConfig, "first_share", [-0.1, 1.1]),
    (ObjectiveConfig, "speech_share", [-0.1, 1.1]),
    (ObjectiveConfig, "cleanest_of", [0]),
    (ObjectiveConfig, "removed_weight", [0.0, 1.1]),
    (ObjectiveConfig, "cleanest_share", [0.0, 1.1]),
    (ObjectiveConfig, "wsdr_weight", [-1.0]),
    (ObjectiveConfig, "time_weight", [-1.0]),
    (ObjectiveConfig, "spectrum_weight", [-1.0]),
    (ObjectiveConfig, "loudness_weight", [-1.0]),
    (ObjectiveConfig, "mse_weight", [-1.0]),
    (ObjectiveConfig, "stft_weight", [-1.0]),
    (ObjectiveConfig, "mrstft_weight", [-1.0]),
    (ObjectiveConfig, "fidelity_weight", [-1.0, float("nan")]),
    (ObjectiveConfig, "gamma", [-1.0]),
    (TrainingConfig, "lr", [0.0, -1.0, float("nan"), float("inf")]),
    (TrainingConfig, "lr_schedule", ["stepwise"]),
    (TrainingConfig, "lr_decay", [-0.1, 1.1]),
    (TrainingConfig, "average_decay", [-0.1, 1.0]),
    (TrainingConfig, "clip_norm", [0.0, -1.0]),
    (TrainingConfig, "accumulate", [0]),
    (TrainingConfig, "max_steps", [-1]),
    (TrainingConfig, "max_minutes", [-1.0]),
    (TrainingConfig, "valid_steps", [0]),
    (TrainingConfig, "patience", [-1]),
    (TrainingConfig, "checkpoint_minutes", [-1.0]),
    (TrainingConfig, "seed", [-1, 2**32]),
    (TrainingConfig, "threads", [-1]),
    (TrainingConfig, "freeze_norms", [True]),  # without a start
    (MixConfig, "speech", [("",)]),
    (MixConfig, "mix_noise", [("",)]),
    (MixConfig, "split", ["tests"]),
    (MixConfig, "mix_snr_db", [(1.0, 0.0), (0.0, 101.0), (float("nan"), 0.0)]),
    (MixConfig, "takes", [-1]),
    (MixConfig, "level_db", [(1.0, 0.0), (-61.0, 0.0), (0.0, 21.0)]),
    (MixConfig, "band_share", [-0.1, 1.1]),
    (MixConfig, "band_hz", [(499.0, 1000.0), (4000.0, 3000.0)]),
    (MixConfig, "clip_share", [-0.1, 1.1]),
    (MixConfig, "clip_fraction", [(-0.1, 0.1), (0.1, 0.6)]),
    (MixConfig, "codec_share", [-0.1, float("nan")]),
    (MixConfig, "codecs", [(), ("aac",)]),
    (MixConfig, "room_share", [-0.1, 1.1]),
    (MixConfig, "rooms", [(), ("",)]),
    (MixConfig, "room_rt60", [(0.0, 0.5), (0.5, 2.0)]),
    (MixConfig, "room_target", ["dry"]),
    (EnhanceConfig, "strength", [-0.1, 1.1]),
    (EnhanceConfig, "atten_lim", [-1.0]),
    (EnhanceConfig, "high_band", ["loud"]),
    (EnhanceConfig, "shifts", [0, 65]),
    (EnhanceConfig, "segment", [0.0, float("inf")]),
    (EnhanceConfig, "overlap", [-1.0]),
]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, name, value) for kind, name, values in BAD_VALUES for value in values],
)
def test_a_value_out_of_range_is_refused(kind, name, value):
    with pytest.raises(ConfigError) as caught:
        kind(**{name: value})
    assert str(caught.value).startswith(f"{name} is {value!r}; it must be ")


def test_every_number_is_checked():
    """Each field that is a number stands in the list above."""
    for kind in (*TABLES.values(), EnhanceConfig):
        numbers = {f.name for f in dataclasses.fields(kind) if type(f.default) in (int, float)}
        assert numbers <= {name for checked, name, _ in BAD_VALUES if checked is kind}


def test_flags_and_keys_are_the_same():
    keys = {(table, f.name) for table, kind in TABLES.items() for f in dataclasses.fields(kind)}
    expected = {f"--{table if name == 'name' else name.replace('_', '-')}" for table, name in keys}
    assert len(expected) == len(keys)
    assert {flag for flag, _ in flags_of_train()} == expected


@pytest.fixture
def settings_of(monkeypatch, tmp_path):
    """What `miase train` with these arguments would train with."""
    seen = []

    def train(noisy_dir, *, out, config=None, resume=False, run=RunConfig(), quiet=False):  # noqa: B008
        seen.append(run)

    train.__annotations__ = verbs.train.__annotations__
    monkeypatch.setattr(verbs, "train", train)

    def parse(*arguments, out="-o"):
        assert cli.run(["train", "noisy", out, str(tmp_path / "run"), *map(str, arguments)]) == 0
        return seen.pop()

    return parse


def test_a_config_file_gives_what_no_flag_gives(settings_of, tmp_path):
    path = tmp_path / "given.toml"
    path.write_text(dump_toml(OTHER), encoding="utf-8")
    assert settings_of() == RunConfig()
    assert settings_of("--config", path) == OTHER
    assert settings_of(f"--config={path}") == OTHER
    lr = settings_of("--lr", "0.5", "--config", path)
    assert lr == dataclasses.replace(OTHER, training=dataclasses.replace(OTHER.training, lr=0.5))


def test_a_flag_that_repeats_the_default_comes_before_the_file(settings_of, tmp_path):
    path = tmp_path / "given.toml"
    path.write_text(dump_toml(OTHER), encoding="utf-8")
    run = settings_of("--config", path, "--model", RunConfig().model.name, "--noise", "residual")
    assert run.model.name == RunConfig().model.name
    assert run.objective.noise == ("residual",)


@pytest.mark.parametrize("flag", ["-o", "--out"])
def test_a_resumed_run_takes_its_own_settings(settings_of, tmp_path, flag):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text(dump_toml(OTHER), encoding="utf-8")
    assert settings_of("--resume", out=flag) == OTHER
    assert settings_of("--resume", "--seed", "9", out=flag).training.seed == 9
    assert settings_of(out=flag) == RunConfig()


def test_noise_is_given_once_or_several_times(settings_of):
    assert settings_of("--noise", "white").objective.noise == ("white",)
    assert settings_of("--noise", "white", "--noise", "a b").objective.noise == ("white", "a b")
    assert settings_of("--snr-db", "-5", "5").objective.snr_db == (-5.0, 5.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--lr", "-1"), "lr is -1.0"),
        (("--lr", "fast"), "--lr"),
        (("--seed", "x"), "--seed"),
        (("--snr-db", "3", "1"), "snr_db"),
        (("--batch-siez", "3"), "--batch-size"),
        (("--config", "nowhere.toml"), "nowhere.toml"),
        (("--config", "BAD"), "did you mean 'lr'"),
        (("more",), "more"),
        (("--speech", "s"), "--mix-noise"),
        (("--mix-noise", "n"), "--speech"),
    ],
)
def test_what_is_wrong_on_the_command_line_gives_2(tmp_path, capsys, arguments, said):
    (tmp_path / "bad.toml").write_text("[training]\nlrr = 1\n", encoding="utf-8")
    arguments = [str(tmp_path / "bad.toml") if a == "BAD" else a for a in arguments]
    assert cli.run(["train", "noisy", "-o", str(tmp_path / "run"), *arguments]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert printed.startswith("miase: ")


def test_the_printed_settings_are_those_of_a_run(tmp_path, capsys):
    path = tmp_path / "printed.toml"
    assert cli.run(["train", "--print-config", "--objective", "iddp_paper", "--lr", "3e-4"]) == 0
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    config = load_toml(path)
    assert (config.objective.name, config.objective.prior, config.training.lr) == (
        "iddp_paper",
        "current",
        3e-4,
    )
    assert cli.run(["train", "--print-config", "--config", str(path)]) == 0
    assert capsys.readouterr().out == path.read_text(encoding="utf-8")


def test_a_run_without_a_folder_is_refused(tmp_path, capsys):
    assert cli.run(["train", str(tmp_path)]) == 2
    assert "give one with -o" in capsys.readouterr().err
