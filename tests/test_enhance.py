"""The engine: shapes, rates, what comes back unchanged, and block by block against the whole."""

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import nn

from miase import AudioError, ConfigError, EnhanceConfig, Enhancer, enhance
from miase.config import ModelConfig
from miase.models import build_model
from miase.models.rebuilt import widened
from miase.resampling import resample
from miase.streamer import take_away
from signals import speech_like, white

RATE = 8000
SMALL = {"sample_rate": RATE, "n_fft": 256, "hop_length": 128, "n_blocks": 1, "window_frames": 32}


@pytest.fixture(scope="module")
def enhancer():
    torch.manual_seed(0)
    model = build_model(ModelConfig(**SMALL))
    for module in model.modules():  # statistics that differ from those of fresh layers
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return Enhancer(model, "cpu")


@pytest.fixture(scope="module")
def identity():
    """A model whose mask is one."""
    model = build_model(ModelConfig(**SMALL))
    nn.init.zeros_(model.mask_out.weight_real)
    nn.init.zeros_(model.mask_out.weight_imag)
    model.mask_out.bias.data = torch.tensor([20.0, 0.0])
    return Enhancer(model, "cpu")


@pytest.fixture(scope="module")
def silencer():
    """A model whose mask is zero."""
    model = build_model(ModelConfig(**SMALL))
    for parameter in model.mask_out.parameters():
        nn.init.zeros_(parameter)
    return Enhancer(model, "cpu")


def noisy(seconds, sample_rate, seed=0):
    return (speech_like(seconds, sample_rate, seed) + 0.1 * white(seconds, sample_rate, seed)).astype(
        np.float32
    )


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (100,), (8001,), (2, 3000), (3, 1)])
@pytest.mark.parametrize("sample_rate", [RATE, 11025, 48000])
def test_kind_type_and_shape_come_back(enhancer, kind, dtype, shape, sample_rate):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype) * 0.1
    given = torch.from_numpy(x) if kind == "torch" else x
    estimate = enhancer.enhance(given, sample_rate)
    assert type(estimate) is type(given)
    assert estimate.dtype == given.dtype
    assert estimate.shape == given.shape
    assert bool((estimate == estimate).all())


@pytest.mark.parametrize("sample_rate", [RATE, 16000, 44100])
def test_strength_zero_gives_the_input_to_the_bit(enhancer, sample_rate):
    x = noisy(1.3, sample_rate)
    np.testing.assert_array_equal(enhancer.enhance(x, sample_rate, EnhanceConfig(strength=0)), x)


@pytest.mark.parametrize("sample_rate", [RATE, 22050])
@pytest.mark.parametrize("high_band", ["follow", "drop", "hear"])
def test_taking_the_noise_away_later_gives_the_same_to_the_bit(enhancer, sample_rate, high_band):
    x = np.stack([noisy(1.0, sample_rate, seed) for seed in (0, 1)])
    blocks = np.array_split(x, 5, axis=1)
    config = EnhanceConfig(high_band=high_band)
    noise = np.concatenate(list(enhancer.noise_blocks(blocks, sample_rate, 2, config)), axis=1)
    for strength, atten_lim in [(1.0, None), (0.37, None), (0.0, None), (1.0, 9.0)]:
        config = EnhanceConfig(strength=strength, atten_lim=atten_lim, high_band=high_band)
        estimate = np.concatenate(list(enhancer.enhance_blocks(blocks, sample_rate, 2, config)), axis=1)
        assert np.array_equal(take_away(x, noise, config), estimate)


def test_strength_mixes_in_phase(enhancer):
    x = noisy(1.0, RATE)
    half = enhancer.enhance(x, RATE, EnhanceConfig(strength=0.5))
    np.testing.assert_allclose(half, (x + enhancer.enhance(x, RATE)) / 2, atol=1e-6)


@pytest.mark.parametrize("sample_rate", [RATE, 16000])
def test_attenuation_is_limited(silencer, sample_rate):
    x = noisy(1.0, sample_rate)
    left = silencer.enhance(x, sample_rate, EnhanceConfig(atten_lim=12))
    level = 20 * np.log10(np.linalg.norm(left) / np.linalg.norm(x))
    assert abs(level + 12) < 0.1


@pytest.mark.parametrize("sample_rate", [RATE, 11025, 44100])
def test_a_mask_of_one_gives_the_input_back_without_delay(identity, sample_rate):
    x = noisy(2.0, sample_rate)
    estimate = identity.enhance(x, sample_rate)
    lags = np.correlate(estimate, x[200:-200], "valid")
    assert np.argmax(lags) == 200
    assert np.linalg.norm(estimate - x) / np.linalg.norm(x) < 1e-3


def tone(frequency, seconds, sample_rate):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate).astype(
        np.float32
    )


def level_db(x):
    return 10 * np.log10(np.mean(x[2000:-2000] ** 2) + 1e-20)


@pytest.mark.parametrize(
    ("high_band", "low", "high"),
    [("keep", -6, -1), ("drop", -200, -60), ("follow", -200, -60), ("hear", -200, -60)],
)
def test_the_band_above_the_model(silencer, high_band, low, high):
    """A silencing model on a tone above its Nyquist frequency, with a little noise in its own upper band."""
    x = tone(9000, 2.0, 44100)
    x += 0.001 * np.random.default_rng(0).standard_normal(x.size).astype(np.float32)
    left = silencer.enhance(x, 44100, EnhanceConfig(high_band=high_band))
    assert low < level_db(left) < high


@pytest.mark.parametrize("high_band", ["follow", "hear"])
def test_the_high_band_stays_where_nothing_is_removed(identity, high_band):
    x = tone(9000, 2.0, 44100) + 0.1 * tone(3000, 2.0, 44100)
    estimate = identity.enhance(x, 44100, EnhanceConfig(high_band=high_band))
    assert abs(level_db(estimate) - level_db(x)) < 0.1


def test_hearing_the_high_band_changes_nothing_where_there_is_none(enhancer):
    x = noisy(1.0, RATE)
    hearing = enhancer.enhance(x, RATE, EnhanceConfig(high_band="hear"))
    np.testing.assert_array_equal(hearing, enhancer.enhance(x, RATE))


@pytest.mark.parametrize(("sample_rate", "times"), [(RATE + 1, 2), (20_000, 3), (44_100, 6), (96_000, 6)])
def test_the_same_weights_hear_the_high_band_at_the_rate_that_holds_it(
    enhancer, monkeypatch, sample_rate, times
):
    made = []
    monkeypatch.setattr(enhance, "widened", lambda *how: made.append(widened(*how)) or made[-1])
    again = Enhancer(enhancer.model, "cpu")
    x = noisy(2.0, sample_rate)
    heard = again.enhance(x, sample_rate, EnhanceConfig(high_band="hear"))
    assert [model.sample_rate for model in made] == [times * RATE]
    # Below, nothing changes; above, no more than without.
    change = heard - enhancer.enhance(x, sample_rate)
    below = resample(resample(change, sample_rate, RATE), RATE, sample_rate)
    assert np.linalg.norm(below) < 5e-3 * np.linalg.norm(x) < np.linalg.norm(change)


def test_a_stream_hears_the_high_band_as_a_file_does(enhancer):
    x, config = noisy(2.0, 20_000), EnhanceConfig(high_band="hear")
    stream = enhancer.streamer(20_000, 1, config)
    parts = [stream.feed(block) for block in np.array_split(x, 7)] + [stream.flush()]
    np.testing.assert_allclose(np.concatenate(parts), enhancer.enhance(x, 20_000, config), atol=1e-4)


def test_a_long_sound_in_blocks_is_what_the_model_gives_for_the_whole(enhancer):
    x = noisy(30.0, RATE)
    with torch.inference_mode():
        whole = enhancer.model(torch.from_numpy(x)[None])[0].numpy()
    blocks = enhancer.enhance_blocks([x[None, i : i + 50_000] for i in range(0, x.size, 50_000)], RATE, 1)
    np.testing.assert_allclose(np.concatenate(list(blocks), axis=1)[0], whole, atol=1e-5)


def test_a_model_without_windows_goes_by_segments():
    torch.manual_seed(0)
    enhancer = Enhancer(build_model(ModelConfig(**SMALL | {"window_frames": 0})), "cpu")
    x = noisy(9.0, RATE)
    with torch.inference_mode():
        first, whole = (enhancer.model(torch.from_numpy(part)[None])[0].numpy() for part in (x[:40_960], x))
    np.testing.assert_allclose(enhancer.enhance(x, RATE, EnhanceConfig(segment=60)), whole, atol=1e-6)
    pieces = enhancer.enhance(x, RATE, EnhanceConfig(segment=3, overlap=2))  # the first call sees 40960
    np.testing.assert_allclose(pieces[:23_000], first[:23_000], atol=1e-6)
    assert pieces.shape == x.shape
    with pytest.raises(ConfigError, match="lookahead"):
        enhancer.streamer(RATE, lookahead=0.1)


def test_stream_in_odd_blocks_equals_the_array(enhancer):
    x = np.stack((noisy(3.0, 22050), noisy(3.0, 22050, seed=1)))
    pieces = [x[:, i : i + 997] for i in range(0, x.shape[1], 997)]
    streamed = np.concatenate(list(enhancer.enhance_blocks(pieces, 22050, 2)), axis=1)
    np.testing.assert_allclose(streamed, enhancer.enhance(x, 22050), atol=1e-6)


def test_channels_do_not_hear_each_other(enhancer):
    a, b = noisy(1.0, RATE), noisy(1.0, RATE, seed=1)
    both = enhancer.enhance(np.stack((a, b)), RATE)
    np.testing.assert_allclose(both[0], enhancer.enhance(a, RATE), atol=1e-6)
    np.testing.assert_allclose(both[1], enhancer.enhance(b, RATE), atol=1e-6)


@pytest.mark.parametrize(
    ("x", "sample_rate", "message"),
    [
        (np.zeros((48000, 2), np.float32), RATE, "transpose"),
        (np.zeros((2, 2, 100), np.float32), RATE, "shape"),
        (np.zeros(0, np.float32), RATE, "empty"),
        (np.zeros(100, np.int16), RATE, "int16"),
        (np.full(100, np.nan, np.float32), RATE, "NaN"),
        (np.zeros(100, np.float32), 0, "0 Hz"),
    ],
)
def test_unusable_samples_are_refused(enhancer, x, sample_rate, message):
    with pytest.raises(AudioError, match=message):
        enhancer.enhance(x, sample_rate)


@pytest.mark.parametrize(
    "options", [{"strength": 1.5}, {"atten_lim": -1}, {"high_band": "x"}, {"segment": 0}, {"overlap": -1}]
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        EnhanceConfig(**options)


def test_an_absent_device_is_refused():
    with pytest.raises(ConfigError, match="not to be had"):
        Enhancer(build_model(ModelConfig(**SMALL)), "cuda:77")


@pytest.mark.parametrize(
    ("name", "subtype", "sample_rate", "n_channels"),
    [
        ("a.flac", "PCM_24", 44100, 2),
        ("a.wav", "PCM_16", 8000, 1),
        ("a.wav", "FLOAT", 48000, 1),
        ("a.ogg", "VORBIS", 22050, 1),
        ("a.aiff", "PCM_16", 16000, 3),
        ("a.w64", "PCM_24", 96000, 1),
        ("a.mp3", "MPEG_LAYER_III", 44100, 1),
        ("a.opus", "OPUS", 48000, 2),
    ],
)
def test_a_file_comes_back_as_it_went_in(enhancer, tmp_path, name, subtype, sample_rate, n_channels):
    source, target = tmp_path / name, tmp_path / "out" / name
    x = np.stack([noisy(1.0, sample_rate, seed) for seed in range(n_channels)])
    format_name = "OGG" if name.endswith("opus") else None
    sf.write(source, 0.3 * x.T, sample_rate, subtype=subtype, format=format_name)
    before = source.read_bytes()
    enhancer.enhance_file(source, target)
    given, got = sf.info(source), sf.info(target)
    for attribute in ("samplerate", "channels", "frames", "format", "subtype"):
        assert getattr(got, attribute) == getattr(given, attribute)
    assert source.read_bytes() == before


def test_strength_zero_keeps_every_integer_of_a_file(enhancer, tmp_path):
    integers = np.random.default_rng(0).integers(-(2**23), 2**23, 40000).astype(np.int32) << 8
    sf.write(tmp_path / "a.flac", integers, 44100, subtype="PCM_24")
    enhancer.enhance_file(tmp_path / "a.flac", tmp_path / "b.flac", EnhanceConfig(strength=0))
    np.testing.assert_array_equal(sf.read(tmp_path / "b.flac", dtype="int32")[0], integers)


def test_the_input_is_never_the_output(enhancer, tmp_path):
    sf.write(tmp_path / "a.wav", noisy(0.5, RATE), RATE)
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    for target in ("a.wav", "link.wav"):
        with pytest.raises(AudioError, match="never overwritten"):
            enhancer.enhance_file(tmp_path / "a.wav", tmp_path / target, overwrite=True)


def test_save_and_load_give_the_same_estimate(enhancer, tmp_path):
    x = noisy(1.0, RATE)
    enhancer.save_pretrained(tmp_path / "model")
    again = Enhancer.from_pretrained(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(again.enhance(x, RATE), enhancer.enhance(x, RATE))


def test_bfloat16_gives_nearly_the_same_sound(enhancer):
    noisy = speech_like(3.0, RATE) + white(3.0, RATE, seed=1) * 0.02
    exact = enhancer.enhance(noisy, RATE)
    rounded = Enhancer(enhancer.model, "cpu", "bf16-mixed").enhance(noisy, RATE)
    error = np.sum((exact - rounded) ** 2) / np.sum(exact**2)
    assert 0 < error < 1e-3


def test_precision_is_one_of_two_and_not_for_models_of_whole_recordings(enhancer):
    with pytest.raises(ConfigError, match="32-true, bf16-mixed"):
        Enhancer(enhancer.model, "cpu", "bf16")
    whole = build_model(ModelConfig(**SMALL | {"window_frames": 0}))
    with pytest.raises(ConfigError, match="leave precision out"):
        Enhancer(whole, "cpu", "bf16-mixed")
