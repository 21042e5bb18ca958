"""Training examples: the same for any number of workers, only what is needed, no trouble from bad files."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch

from miase import audio, dataset
from miase.config import DataConfig
from miase.corpus import CorpusOptions, make_corpus
from miase.dataset import (
    Examples,
    NoiseSource,
    batches,
    clean_partners,
    find_recordings,
    second_takes,
    split_recordings,
)
from miase.errors import CorpusError
from miase.examples import find_partners
from miase.objectives import OBJECTIVES
from miase.sounds import find_sounds
from signals import speech_like, white

RATE = 8000


def write(path, seconds=0.5, seed=0, sample_rate=RATE, n_channels=1, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = [0.1 * white(seconds, sample_rate, seed + i) for i in range(n_channels)]
    sf.write(path, np.stack(channels, axis=1), sample_rate, **how)
    return path


@pytest.fixture
def folder(tmp_path):
    """Seven recordings of different lengths."""
    for i in range(7):
        write(tmp_path / "noisy" / f"r{i}.wav", 0.3 + 0.1 * i, seed=i)
    return tmp_path / "noisy"


def recordings(folder):
    return find_recordings(find_sounds(folder), folder)


def make_examples(folder, noise=("white",), needs=("noisy", "noise"), seconds=0.1, seed=0, **partners):
    infos = recordings(folder).infos
    config = DataConfig(excerpt_seconds=seconds)
    return Examples(infos, frozenset(needs), config, RATE, seed, NoiseSource(noise, RATE), **partners)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_key_gives_the_same_example_and_another_key_another(folder):
    first, again = make_examples(folder), make_examples(folder)
    assert equal(first[(3, 5, 2)], again[(3, 5, 2)])
    others = [first[key]["noisy"] for key in [(3, 5, 2), (4, 5, 2), (3, 6, 2), (3, 5, 3)]]
    others.append(make_examples(folder, seed=1)[(3, 5, 2)]["noisy"])
    for i, one in enumerate(others):
        assert not any(torch.equal(one, other) for other in others[:i])


def test_an_excerpt_is_a_stretch_of_its_recording(folder):
    examples = make_examples(folder)
    for index, info in enumerate(examples.infos):
        whole = sf.read(info.path, dtype="float32")[0]
        excerpt = examples[(0, 0, index)]["noisy"].numpy()
        assert excerpt.shape == (800,)
        start = np.flatnonzero(whole == excerpt[0])
        assert any(np.array_equal(whole[s : s + 800], excerpt) for s in start)


def test_a_short_recording_is_repeated(folder):
    examples = make_examples(folder, seconds=1.0)
    excerpt = examples[(0, 0, 0)]["noisy"].numpy()
    whole = sf.read(examples.infos[0].path, dtype="float32")[0]
    np.testing.assert_array_equal(excerpt, np.resize(whole, RATE))


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(folder, workers, monkeypatch):
    monkeypatch.setattr(dataset, "MIN_EPOCH_STEPS", 4)
    examples = make_examples(folder, noise=("white", "synthetic"))
    alone = list(batches(examples, 3, seed=1, epoch=2))
    together = list(batches(examples, 3, seed=1, epoch=2, workers=workers))
    assert len(alone) == len(together) == 4
    assert all(equal(a, b) for a, b in zip(alone, together, strict=True))


def test_an_epoch_goes_on_where_it_was_left(folder, monkeypatch):
    monkeypatch.setattr(dataset, "MIN_EPOCH_STEPS", 5)
    examples = make_examples(folder)
    whole = list(batches(examples, 2, seed=1, epoch=2))
    rest = list(batches(examples, 2, seed=1, epoch=2, first_step=3))
    assert all(equal(a, b) for a, b in zip(whole[3:], rest, strict=True))


def test_an_epoch_meets_each_recording_once_and_epochs_differ(folder, monkeypatch):
    monkeypatch.setattr(dataset, "MIN_EPOCH_STEPS", 1)
    examples = make_examples(folder)
    asked = []
    monkeypatch.setattr(Examples, "__getitem__", lambda self, key: asked.append(key) or {"x": torch.zeros(1)})
    for epoch in range(2):
        assert len(list(batches(examples, 1, seed=0, epoch=epoch))) == 7
    orders = [[index for epoch, _, index in asked if epoch == e] for e in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(7))
    assert orders[0] != orders[1]


def test_few_recordings_fill_a_large_batch(folder):
    batch = next(batches(make_examples(folder), 16, seed=0, epoch=0))
    assert batch["noisy"].shape == (16, 800)
    assert len({tuple(item.tolist()) for item in batch["noisy"]}) == 16


def test_other_rates_and_channels_serve(tmp_path):
    write(tmp_path / "stereo.flac", 0.5, sample_rate=44100, n_channels=2, subtype="PCM_24")
    write(tmp_path / "narrow.wav", 0.5, sample_rate=4000)
    examples = make_examples(tmp_path, seconds=0.2)
    for index in range(2):
        for position in range(4):
            excerpt = examples[(0, position, index)]["noisy"]
            assert excerpt.shape == (1600,)
            assert 0.01 < excerpt.std() < 0.2


def test_each_channel_is_drawn(tmp_path):
    sf.write(tmp_path / "a.wav", np.stack((np.full(4000, 0.25), np.full(4000, -0.25)), axis=1), RATE)
    examples = make_examples(tmp_path)
    assert {float(examples[(0, p, 0)]["noisy"][0]) for p in range(20)} == {0.25, -0.25}


# Sources of noise


def draw(*sources, n=4000, seed=0):
    return NoiseSource(sources, RATE).draw(n, np.random.default_rng(seed))


def test_white_noise_is_white_and_synthetic_noise_varies():
    x = draw("white")
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 0.1
    shapes = [np.corrcoef(y[1:], y[:-1])[0, 1] for y in (draw("synthetic", seed=s) for s in range(8))]
    assert np.std(shapes) > 0.1


def test_the_residual_alone_draws_nothing():
    assert not draw("residual").any()


def test_a_noise_folder_gives_its_recordings(tmp_path):
    write(tmp_path / "deep" / "n.wav", 0.3, seed=7)
    whole = sf.read(tmp_path / "deep" / "n.wav", dtype="float32")[0]
    x = draw(str(tmp_path), n=500)
    assert any(np.array_equal(whole[s : s + 500], x) for s in range(len(whole) - 499))
    assert draw(str(tmp_path), n=9000).shape == (9000,)  # longer than the recording


def test_pauses_give_the_noise_of_the_recordings(tmp_path):
    """Words of 1 s at full level with noise at a hundredth of it: the pauses hold the noise alone."""
    noise = 0.01 * np.random.default_rng(0).standard_normal(6 * RATE)
    words = np.sin(np.arange(6 * RATE)) * (np.arange(6 * RATE) // RATE % 2)
    sf.write(tmp_path / "a.wav", words + noise, RATE, subtype="FLOAT")
    infos = find_recordings([tmp_path / "a.wav"], tmp_path).infos
    drawn = NoiseSource(("pauses",), RATE, infos).draw(5000, np.random.default_rng(0))
    assert drawn.shape == (5000,)
    assert abs(np.sqrt(np.mean(np.square(drawn))) / 0.01 - 1) < 0.2


def test_recordings_without_pauses_are_helped_out_by_artificial_noise(tmp_path):
    sf.write(tmp_path / "a.wav", np.full(6 * RATE, 0.5), RATE)
    infos = find_recordings([tmp_path / "a.wav"], tmp_path).infos
    drawn = NoiseSource(("pauses",), RATE, infos).draw(5000, np.random.default_rng(0))
    assert drawn.shape == (5000,)
    assert drawn.std() > 0.1


def test_sources_are_drawn_in_equal_parts(tmp_path):
    sf.write(tmp_path / "n.wav", np.full(9000, 0.5), RATE)
    source = NoiseSource(("white", str(tmp_path), "residual"), RATE)
    rng = np.random.default_rng(0)
    constant = [np.ptp(source.draw(100, rng)) == 0 for _ in range(200)]
    assert 0.35 < np.mean(constant) < 0.65


def test_a_silent_or_broken_noise_recording_is_passed_over(tmp_path):
    sf.write(tmp_path / "silent.wav", np.zeros(9000), RATE)
    (tmp_path / "text.wav").write_text("no sound")
    sf.write(tmp_path / "nan.wav", np.full(9000, np.nan), RATE, subtype="FLOAT")
    write(tmp_path / "good.wav", 1.0)
    assert draw(str(tmp_path), n=1000, seed=3).std() > 0.01


@pytest.mark.parametrize(
    ("source", "said"),
    [("pink", "'pink' is not there"), ("nowhere/noise", "not there"), ("EMPTY", "no sound")],
)
def test_a_source_that_is_none_is_refused(tmp_path, source, said):
    with pytest.raises(CorpusError, match=said):
        draw(str(tmp_path) if source == "EMPTY" else source)


def test_a_noise_folder_of_silence_is_refused(tmp_path):
    sf.write(tmp_path / "silent.wav", np.zeros(9000), RATE)
    with pytest.raises(CorpusError, match="silent or unreadable"):
        draw(str(tmp_path))


# Recordings that cannot be read


def test_a_file_that_is_no_sound_is_left_out_and_named(folder):
    (folder / "text.wav").write_text("no sound")
    (folder / "empty.flac").touch()
    found = recordings(folder)
    assert len(found.infos) == 7
    assert sorted(line.count("\n") for line in found.failures) == [0, 0]
    assert any("text.wav" in line for line in found.failures)
    assert any("empty.flac" in line for line in found.failures)


def test_a_folder_without_a_readable_sound_is_refused(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(CorpusError, match=r"no sound file that can be read.*text\.wav"):
        recordings(tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_recording_with_broken_samples_is_replaced_and_named(folder, workers):
    broken = folder / "r3.wav"
    sf.write(broken, np.full(8000, np.nan), RATE, subtype="FLOAT")
    examples = make_examples(folder)
    for batch in batches(examples, 4, seed=0, epoch=0, workers=workers):
        assert batch["noisy"].isfinite().all()
    assert examples.damaged_files() == [broken]


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_broken_recordings_is_refused(tmp_path, workers):
    sf.write(tmp_path / "a.wav", np.full(8000, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(CorpusError, match=r"^none of the recordings") as caught:
        next(batches(make_examples(tmp_path), 2, seed=0, epoch=0, workers=workers))
    assert "\n" not in str(caught.value)


# Splits and fingerprints


def test_the_split_is_disjoint_stable_and_as_large_as_asked(folder):
    found = recordings(folder)
    training, validation = split_recordings(found, 0.3)
    assert len(validation) == 2
    assert {i.path for i in training} | {i.path for i in validation} == {i.path for i in found.infos}
    assert not {i.path for i in training} & {i.path for i in validation}
    assert split_recordings(found, 0.0)[1] == []
    write(folder / "more.wav")
    more = split_recordings(recordings(folder), 0.3)
    moved = {i.path for i in more[1]} ^ {i.path for i in validation}
    assert len(moved) <= 2  # at most one goes and one comes


def test_all_but_one_recording_can_be_kept_for_validation_and_one_serves_as_both(folder):
    training, validation = split_recordings(recordings(folder), 0.99)
    assert (len(training), len(validation)) == (1, 6)
    single = recordings(folder)
    single = type(single)(single.infos[:1], ())
    assert split_recordings(single, 0.05) == ([single.infos[0]], [single.infos[0]])


def test_the_fingerprint_knows_names_and_lengths_but_not_the_place(folder, tmp_path):
    before = recordings(folder).fingerprint()
    folder.rename(tmp_path / "elsewhere")
    assert recordings(tmp_path / "elsewhere").fingerprint() == before
    write(tmp_path / "elsewhere" / "r0.wav", 0.31)
    assert recordings(tmp_path / "elsewhere").fingerprint() != before


# Clean speech


@pytest.fixture
def corpus(tmp_path):
    """A small corpus of `miase corpus`, with clean partners and two takes."""
    for i in range(4):
        path = tmp_path / "speech" / f"s{i}.wav"
        path.parent.mkdir(exist_ok=True)
        sf.write(path, speech_like(1.0, RATE, i), RATE)
    output = tmp_path / "corpus"
    speech = (tmp_path / "speech",)
    options = {"speech": speech, "output": output, "sample_rate": RATE, "snr": (40, 40), "quiet": True}
    make_corpus(CorpusOptions("white", takes=2, **options))
    return output


def examples_of(corpus, objective):
    needs = OBJECTIVES[objective].needs
    return make_examples(corpus / "noisy", needs=needs, seconds=0.3, partners=find_partners(corpus, needs))


def test_the_clean_partner_comes_from_the_same_place(corpus):
    """At 40 dB the noisy excerpt less the clean one of the same place is small."""
    examples = examples_of(corpus, "noise2clean")
    starts = set()
    for position in range(12):
        fields = examples[(0, position, position % 4)]
        assert (fields["noisy"] - fields["clean"]).norm() < 0.05 * fields["noisy"].norm()
        starts.add(float(fields["noisy"][0]))
    assert len(starts) == 12


def test_a_corpus_without_clean_files_is_refused_for_supervised_training(corpus):
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(line | {"clean": None}) + "\n" for line in lines)
    (corpus / "manifest.jsonl").write_text(text)
    with pytest.raises(CorpusError, match="no clean files"):
        clean_partners(corpus)


# Second takes


def test_the_second_take_has_the_same_speech_and_other_noise(corpus):
    """At 40 dB the takes differ by two independent noises: 3 dB more than one of them."""
    pairs = {"partners": {"clean": clean_partners(corpus), "noisy2": second_takes(corpus)}}
    examples = make_examples(corpus / "noisy", needs=("noisy", "noisy2", "clean"), seconds=0.3, **pairs)
    for position in range(12):
        fields = examples[(0, position, position % 4)]
        noise, noise2 = fields["noisy"] - fields["clean"], fields["noisy2"] - fields["clean"]
        assert noise2.norm() < 0.05 * fields["noisy"].norm()
        assert abs(torch.dot(noise, noise2)) < 0.15 * noise.norm() * noise2.norm()


def test_second_takes_are_found_without_clean_files(corpus):
    before = second_takes(corpus)
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(line | {"clean": None}) + "\n" for line in lines)
    (corpus / "manifest.jsonl").write_text(text)
    assert second_takes(corpus) == before
    assert len(before) == 4


@pytest.mark.parametrize("n_left", [0, 3])
def test_a_corpus_without_second_takes_is_refused(corpus, n_left):
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    second = [line for line in lines if line["take"] == 2][:n_left]
    kept = [line for line in lines if line["take"] == 1] + second
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    with pytest.raises(CorpusError, match=rf"{4 - n_left} of 4 noisy files.*--takes 2"):
        second_takes(corpus)


@pytest.fixture
def opened(monkeypatch):
    """Every path that `audio` opens."""
    paths = []
    real = audio._open

    def open_and_note(path):
        paths.append(path)
        return real(path)

    monkeypatch.setattr(audio, "_open", open_and_note)
    return paths


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_clean_files_are_opened_for_supervised_training_alone(corpus, objective, opened):
    examples = examples_of(corpus, objective)
    for batch in batches(examples, 2, seed=0, epoch=0):
        assert set(batch) == set(OBJECTIVES[objective].needs)
    clean = [path for path in opened if corpus / "clean" in path.parents]
    assert any(corpus / "noisy" in path.parents for path in opened)
    assert bool(clean) == (objective == "noise2clean")
