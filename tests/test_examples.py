"""What a run learns from: one source of data, and nothing of the validation in the training."""

import sys

import numpy as np
import pytest
import soundfile as sf

from miase.codec import CODECS, Codec
from miase.config import DataConfig, MixConfig, ModelConfig, ObjectiveConfig, RunConfig
from miase.errors import ConfigError, CorpusError
from miase.examples import hold_out, open_examples, split_pool
from miase.sources import choose_noise, choose_speech
from signals import speech_like, white

RATE = 8000
NEEDS = frozenset({"noisy", "clean"})
CLASSES = (0, 3, 8)  # of UrbanSound8K: air_conditioner, dog_bark, siren


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, RATE)
    return path


@pytest.fixture
def folders(tmp_path):
    """Twenty speakers of two utterances, and eight recordings of two slices for each of three classes."""
    for i in range(40):
        write(tmp_path / "speech" / f"s{i // 2}" / f"u{i}.wav", speech_like(0.3, RATE, i))
    for i in range(24):
        for part in range(2):
            name = f"{1000 + i}-{CLASSES[i % 3]}-0-{part}.wav"
            write(tmp_path / "noise" / name, 0.1 * white(0.3, RATE, 2 * i + part))
    return tmp_path


def run_config(folders, valid_share=0.2, speech="speech", noise="noise", **mix):
    mix = {"speech": (str(folders / speech),), "mix_noise": (str(folders / noise),)} | mix
    return RunConfig(
        ModelConfig(sample_rate=RATE),
        DataConfig(excerpt_seconds=0.2, valid_share=valid_share),
        ObjectiveConfig("noise2clean", noise=("white",)),
        mix=MixConfig(**mix),
    )


def sources_of(examples):
    """The speakers and the noise recordings of some examples."""
    material = examples.material
    noise = {source for sources in material.pool.values() for source in sources}
    return {utterance.sound.source for utterance in material.utterances}, noise


def open_mix(folders, **how):
    return open_examples(None, run_config(folders, **how), NEEDS)


# One source of data


def test_neither_a_folder_nor_speech_is_refused():
    with pytest.raises(ConfigError, match="nothing to learn from"):
        open_examples(None, RunConfig(), NEEDS)


def test_both_a_folder_and_speech_are_refused(folders):
    with pytest.raises(ConfigError, match="give one of the two"):
        open_examples(folders / "speech", run_config(folders), NEEDS)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"speech": "nowhere"}, "nowhere is not a folder"),
        ({"noise": "nowhere"}, "nowhere is not a folder"),
        ({"mix_noise_class": "engine_idling"}, "no noise of class engine_idling"),
        ({"room_share": 0.5, "rooms": ("nowhere",)}, "must be simulated or a folder"),
    ],
)
def test_folders_that_cannot_serve_are_refused(folders, how, said):
    with pytest.raises(CorpusError, match=said):
        open_mix(folders, **how)


def test_rooms_without_their_package_are_refused_before_the_training(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(ConfigError, match=r'pip install "miase\[rooms\]"'):
        open_mix(folders, room_share=0.5)
    open_mix(folders, room_share=0.0)


def test_a_codec_that_is_not_there_is_refused_before_the_training(folders, monkeypatch):
    monkeypatch.setitem(CODECS, "gsm", Codec("WAV", "NONE"))
    with pytest.raises(ConfigError, match="no codec 'gsm' at 8000 Hz"):
        open_mix(folders, codec_share=0.1)
    open_mix(folders, codec_share=0.1, codecs=tuple(name for name in CODECS if name != "gsm"))
    open_mix(folders)


def test_rooms_are_simulated_or_read(folders):
    pytest.importorskip("pyroomacoustics")
    write(folders / "rooms" / "r.wav", np.eye(1, 800)[0])
    data = open_mix(
        folders, room_share=0.5, room_rt60=(0.15, 0.2), rooms=("simulated", str(folders / "rooms"))
    )
    simulated, read = data.train.material.rooms
    assert len({room.tobytes() for room in simulated}) == len(simulated) > 10
    assert [room.path.name for room in read] == ["r.wav"]


# Training and validation


@pytest.mark.parametrize("noise_class", ["", "mixed", "siren"])
@pytest.mark.parametrize("split", ["all", "train"])
def test_no_speaker_and_no_noise_recording_is_in_training_and_validation(folders, split, noise_class):
    data = open_mix(folders, split=split, mix_noise_class=noise_class)
    speakers, noises = sources_of(data.train)
    held_speakers, held_noises = sources_of(data.valid)
    assert not speakers & held_speakers
    assert not noises & held_noises
    chosen = choose_speech((folders / "speech",), split)
    assert speakers | held_speakers == {sound.source for sound in chosen}
    assert len(held_speakers) == round(0.2 * len(speakers | held_speakers))
    assert data.n_valid == len(data.valid) == 2 * len(held_speakers)
    if noise_class == "mixed":
        assert set(data.valid.material.pool) == set(data.train.material.pool)


def test_splits_are_those_of_the_corpus_and_share_nothing(folders):
    seen = []
    for split in ("train", "valid", "test"):
        data = open_mix(folders, split=split, valid_share=0.0)
        assert data.n_valid == 0
        seen.append(sources_of(data.train))
        assert seen[-1][0] == {sound.source for sound in choose_speech((folders / "speech",), split)}
    for kind in range(2):
        names = [source for pair in seen for source in pair[kind]]
        assert len(names) == len(set(names))


def test_a_class_is_heard_alone(folders):
    examples = open_mix(folders, mix_noise_class="siren").train
    for path in (folders / "noise").glob("*.wav"):
        _, kind, *_ = path.stem.split("-")
        write(path, np.full(4000, 0.5) if kind == "8" else white(0.5, RATE))
    take = examples.make_take(examples.material.utterances[0], 0)
    assert np.ptp(take.noisy - take.clean) < 1e-4


def test_one_speaker_holds_out_files_and_one_file_serves_as_both(folders):
    (folders / "noise2").mkdir()
    for i in range(5):
        write(folders / "one" / "reader" / f"u{i}.wav", speech_like(0.3, RATE, i))
    data = open_mix(folders, speech="one")
    files = [{u.info.path for u in examples.material.utterances} for examples in (data.train, data.valid)]
    assert (len(files[0]), len(files[1])) == (4, 1)
    assert not files[0] & files[1]
    write(folders / "single" / "u.wav", speech_like(0.3, RATE))
    data = open_mix(folders, speech="single")
    assert (len(data.train), data.n_valid) == (1, 1)


def test_one_noise_recording_serves_as_both(folders):
    write(folders / "hum" / "n.wav", white(0.3, RATE))
    data = open_mix(folders, noise="hum")
    assert sources_of(data.train)[1] == sources_of(data.valid)[1] == {"n"}
    assert data.valid[(0, 0, 0)]["noisy"].isfinite().all()


def test_the_only_recording_of_a_class_serves_as_both(folders):
    pool = choose_noise((folders / "noise",), "all", True)
    pool["siren"] = dict(list(pool["siren"].items())[:1])
    train, valid = split_pool(pool, 0.2, "siren")
    assert set(train["siren"]) == set(valid["siren"])


def test_a_recording_in_two_classes_is_in_training_or_validation(folders):
    """Held out of one class, it is gone from the other too; a class that would be left empty is shared."""
    pool = choose_noise((folders / "noise",), "all", True)
    shared = next(source for source in pool["siren"] if source in hold_out(pool["siren"], 0.2))
    pool["dog_bark"] = {shared: pool["siren"][shared]} | pool["dog_bark"]
    train, valid = split_pool(pool, 0.2, "mixed")
    assert not {s for group in train.values() for s in group} & {s for group in valid.values() for s in group}
    pool["dog_bark"] = {shared: pool["siren"][shared]}
    assert "dog_bark" in split_pool(pool, 0.2, "dog_bark")[0]


def test_a_class_without_a_readable_file_is_refused(folders):
    for path in (folders / "noise").glob("*-8-0-*.wav"):
        path.write_text("no sound")
    with pytest.raises(CorpusError, match="no file of class siren can be read"):
        open_mix(folders, mix_noise_class="siren")


def test_holding_out_is_stable_and_never_all():
    names = [f"name{i}" for i in range(50)]
    assert hold_out(names, 0.2) == hold_out(reversed(names), 0.2)
    assert len(hold_out(names, 0.2)) == 10
    assert len(hold_out(names, 0.001)) == 1
    assert hold_out(names, 0.0) == hold_out(names[:1], 0.5) == frozenset()
    assert len(hold_out(names, 0.999)) == 49


# Files


def test_long_files_count_as_several_utterances(folders):
    write(folders / "long" / "a" / "u.wav", white(25.0, RATE))
    write(folders / "long" / "b" / "u.wav", white(9.0, RATE))
    data = open_mix(folders, speech="long", valid_share=0.0)
    pieces = [(u.info.path.parent.name, u.start, u.n_frames) for u in data.train.material.utterances]
    assert [name for name, _, _ in pieces] == ["a", "a", "a", "b"]
    assert sum(n for name, _, n in pieces if name == "a") == 25 * RATE
    assert [start for _, start, _ in pieces[:3]] == [0, pieces[0][2], pieces[0][2] + pieces[1][2]]


def test_files_that_are_no_sound_are_named(folders):
    for path in (folders / "speech" / "s3" / "text.wav", folders / "noise" / "text.wav"):
        path.write_text("no sound")
    data = open_mix(folders)
    assert len(data.failures) == 2
    assert all("text.wav" in line for line in data.failures)
    assert "40 recordings of speech" in data.summary
    assert "48 recordings of noise" in data.summary


@pytest.mark.parametrize("what", ["speech", "noise", "rooms"])
def test_the_fingerprint_knows_all_files(folders, what):
    write(folders / "rooms" / "r.wav", np.eye(1, 800)[0])
    how = {"room_share": 0.5, "rooms": (str(folders / "rooms"),)}
    before = open_mix(folders, **how).fingerprint
    assert open_mix(folders, **how).fingerprint == before
    write(folders / what / "more" / "x.wav", white(0.3, RATE))
    assert open_mix(folders, **how).fingerprint != before


def test_artificial_noise_needs_no_folder(folders):
    data = open_mix(folders, mix_noise=("synthetic", "white"))
    assert data.summary.endswith("mixed while training with synthetic noise and white noise")
    assert data.train[(0, 0, 0)]["noisy"].isfinite().all()
