"""Mixing while training: SNR, takes, rooms and damage as asked, the same anywhere, bad files named."""

import dataclasses

import numpy as np
import pytest
import soundfile as sf
import torch

from miase import dataset
from miase.audio import probe
from miase.config import DataConfig, MixConfig
from miase.dataset import batches
from miase.errors import CorpusError
from miase.onthefly import Material, MixedExamples, Utterance
from miase.rooms import reverberate
from miase.sources import choose_noise, choose_speech
from signals import speech_like, white

RATE = 8000


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, RATE, subtype="FLOAT")
    return path


@pytest.fixture
def folders(tmp_path):
    """Six utterances, of three speakers, and five recordings of noise; some are longer than others."""
    for i in range(6):
        write(tmp_path / "speech" / f"speaker{i // 2}" / f"u{i}.wav", speech_like(0.6 + 0.2 * i, RATE, i))
    for i in range(5):
        write(tmp_path / "noise" / f"n{i}.wav", 0.05 * (i + 1) * white(0.4 + 0.4 * i, RATE, i))
    return tmp_path


def material(folders, rooms=()):
    speech = choose_speech((folders / "speech",), "all")
    pool = choose_noise((folders / "noise",), "all", False)
    noise = [s.path for group in pool.values() for sounds in group.values() for s in sounds]
    utterances = [Utterance(sound, probe(sound.path), 0, probe(sound.path).n_frames) for sound in speech]
    return Material(tuple(utterances), pool, {path: probe(path) for path in noise}, rooms)


def make(
    folders,
    needs=("noisy", "clean"),
    rooms=(),
    seed=0,
    seconds=0.3,
    sources=("white",),
    given=None,
    **settings,
):
    settings = {"speech": ("speech",), "mix_noise": ("noise",)} | settings
    return MixedExamples(
        given or material(folders, rooms),
        frozenset(needs),
        MixConfig(**settings),
        DataConfig(excerpt_seconds=seconds),
        RATE,
        seed,
        sources,
    )


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def snr_db(signal, noise):
    return 10 * np.log10(np.sum(np.square(signal, dtype=float)) / np.sum(np.square(noise, dtype=float)))


def takes_of(examples, n=4):
    return [examples.make_take(u, take) for u in examples.material.utterances for take in range(n)]


def correlation(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return abs(np.dot(a, b)) / (np.linalg.norm(a) * np.linalg.norm(b))


# What is mixed


@pytest.mark.parametrize("snr", [-7.5, 0.0, 12.0])
@pytest.mark.parametrize("sources", [("noise",), ("white",), ("synthetic",)])
def test_the_snr_over_the_utterance_is_as_asked(folders, snr, sources):
    for take in takes_of(make(folders, mix_snr_db=(snr, snr), mix_noise=sources)):
        assert snr_db(take.clean, take.noisy - take.clean) == pytest.approx(snr, abs=1e-3)


def two_folders(folders, noise_class=""):
    """Nine recordings of a dog and one of a siren, in folders of their own, as one pool."""
    for i in range(9):
        write(folders / "dogs" / f"{i}-3-0-0.wav", white(2, RATE, i))
    hum = np.sin(2 * np.pi * 50 * np.arange(2 * RATE) / RATE)
    write(folders / "sirens" / "9-8-0-0.wav", hum)
    names = (str(folders / "dogs"), str(folders / "sirens"))
    given = material(folders)
    pool = choose_noise((folders / "dogs", folders / "sirens"), "all", bool(noise_class))
    files = [s.path for group in pool.values() for sounds in group.values() for s in sounds]
    return names, dataclasses.replace(given, pool=pool, noise_infos={path: probe(path) for path in files})


def share_of_hum(noises):
    below = [np.square(np.abs(np.fft.rfft(noise))) for noise in noises]
    return np.mean([power[: len(power) // 20].sum() > 0.5 * power.sum() for power in below])


def test_each_folder_of_noise_serves_an_equal_share_however_many_recordings_it_holds(folders):
    names, given = two_folders(folders)
    examples = make(folders, given=given, mix_noise=names)
    noises = [take.noisy - take.clean for take in takes_of(examples, 40)]
    assert 0.4 < share_of_hum(noises) < 0.6
    twice = make(folders, given=given, mix_noise=(names[0], *names))
    noises = [take.noisy - take.clean for take in takes_of(twice, 40)]
    assert 0.25 < share_of_hum(noises) < 0.42


def test_a_folder_of_silence_is_replaced_by_the_others(folders):
    names, given = two_folders(folders)
    write(folders / "sirens" / "9-8-0-0.wav", np.zeros(2 * RATE))
    examples = make(folders, given=given, mix_noise=names)
    noises = [take.noisy - take.clean for take in takes_of(examples, 10)]
    assert share_of_hum(noises) == 0
    assert [path.name for path in examples.damaged_files()] == ["9-8-0-0.wav"]


def test_a_second_take_hears_another_recording_than_the_first_even_of_a_folder_of_one(folders):
    names, given = two_folders(folders)
    examples = make(folders, given=given, needs=("noisy", "clean", "noisy2"), mix_noise=names)
    takes = takes_of(examples, 20)
    both = [share_of_hum([t.noisy - t.clean, t.noisy2 - t.clean]) for t in takes]
    assert 1.0 not in both
    assert 0.5 in both


def test_a_class_of_noise_is_drawn_where_a_folder_lacks_it(folders):
    names, given = two_folders(folders, "siren")
    examples = make(folders, given=given, mix_noise=names, mix_noise_class="siren")
    assert share_of_hum([take.noisy - take.clean for take in takes_of(examples, 4)]) == 1


def test_snrs_fill_their_range(folders):
    drawn = [snr_db(t.clean, t.noisy - t.clean) for t in takes_of(make(folders, mix_snr_db=(-5, 5)), 30)]
    assert -5.001 <= min(drawn) < -4.5
    assert 4.5 < max(drawn) <= 5.001
    assert abs(np.mean(drawn)) < 1


def test_clean_is_the_utterance_but_for_its_level(folders):
    examples = make(folders)
    for utterance in examples.material.utterances:
        whole = sf.read(utterance.info.path, dtype="float32")[0]
        for take in range(3):
            clean = examples.make_take(utterance, take).clean
            gain = np.dot(clean, whole) / np.dot(whole, whole)
            np.testing.assert_allclose(clean, gain * whole, atol=1e-6)
            assert 0 < gain <= 1.0001


def test_takes_of_an_utterance_differ_in_noise_alone(folders):
    examples = make(folders, mix_snr_db=(30, 30))  # so faint that no peak has to be lowered
    utterance = examples.material.utterances[0]
    takes = [examples.make_take(utterance, take) for take in range(4)]
    for i, take in enumerate(takes):
        for other in takes[:i]:
            np.testing.assert_array_equal(take.clean, other.clean)
            assert correlation(take.noisy - take.clean, other.noisy - other.clean) < 0.2


def test_noise_of_all_sources_is_drawn(folders):
    """A share of the mixtures has noise that is constant, the folder's, and the rest white noise."""
    for i in range(5):
        write(folders / "noise" / f"n{i}.wav", np.full(3 * RATE, 0.5))
    takes = takes_of(make(folders, mix_noise=("noise", "white")), 30)
    constant = [np.ptp(take.noisy - take.clean) < 1e-5 for take in takes]
    assert 0.35 < np.mean(constant) < 0.65


def test_an_excerpt_is_a_stretch_of_a_take(folders):
    examples = make(folders, takes=1)
    for index, utterance in enumerate(examples.material.utterances):
        take = examples.make_take(utterance, 0)
        excerpt = examples[(0, index, index)]
        n = len(excerpt["noisy"])
        assert n == round(0.3 * RATE)
        starts = np.flatnonzero(take.noisy == excerpt["noisy"][0].item())
        assert any(
            np.array_equal(take.noisy[s : s + n], excerpt["noisy"])
            and np.array_equal(take.clean[s : s + n], excerpt["clean"])
            for s in starts
        )


def test_an_utterance_shorter_than_the_excerpt_is_repeated(folders):
    examples = make(folders, seconds=3.0, takes=1)
    take = examples.make_take(examples.material.utterances[0], 0)
    np.testing.assert_array_equal(examples[(0, 0, 0)]["noisy"], np.resize(take.noisy, 3 * RATE))


# Which takes there are


def test_one_take_means_one_noise_for_each_utterance(folders):
    """All that is heard of an utterance, at any time, is of one noisy recording."""
    examples = make(folders, takes=1, seconds=0.1)
    for index, utterance in enumerate(examples.material.utterances):
        noisy = examples.make_take(utterance, 0).noisy
        excerpts = [examples[(epoch, 7 * epoch, index)]["noisy"].numpy() for epoch in range(8)]
        for x in excerpts:
            starts = np.flatnonzero(noisy == x[0])
            assert any(np.array_equal(noisy[s : s + x.size], x) for s in starts)
        assert len({x[0] for x in excerpts}) > 1


@pytest.mark.parametrize(("takes", "n_expected"), [(1, 1), (3, 3), (0, 40)])
def test_there_are_as_many_takes_as_asked(folders, takes, n_expected):
    examples = make(folders, takes=takes, seconds=10.0)  # whole utterances
    seen = {examples[(0, position, 2)]["noisy"].numpy().tobytes() for position in range(40)}
    assert len(seen) == n_expected


def test_the_seed_gives_other_takes(folders):
    one, again, other = (make(folders, takes=1, seed=seed) for seed in (0, 0, 1))
    utterance = one.material.utterances[0]
    np.testing.assert_array_equal(one.make_take(utterance, 0).noisy, again.make_take(utterance, 0).noisy)
    assert not np.array_equal(one.make_take(utterance, 0).noisy, other.make_take(utterance, 0).noisy)


def test_one_utterance_more_changes_no_take(folders):
    before = [take.noisy for take in takes_of(make(folders), 1)]
    write(folders / "speech" / "speaker9" / "u9.wav", speech_like(1.0, RATE, 9))
    after = [take.noisy for take in takes_of(make(folders), 1)]
    assert len(after) == 7
    assert all(np.array_equal(a, b) for a, b in zip(before, after[:6], strict=True))


# Only what is needed


@pytest.mark.parametrize("needs", [("noisy",), ("noisy", "noise"), ("noisy", "clean"), ("noisy", "noisy2")])
def test_only_the_fields_that_are_needed_are_given(folders, needs):
    assert set(make(folders, needs)[(0, 0, 0)]) == set(needs)


def test_what_else_is_needed_does_not_change_noisy(folders):
    few, more = make(folders, ("noisy",), takes=2), make(folders, ("noisy", "clean", "noise"), takes=2)
    for position in range(6):
        assert torch.equal(few[(0, position, position)]["noisy"], more[(0, position, position)]["noisy"])


@pytest.mark.parametrize("takes", [0, 1])
def test_the_second_side_has_the_same_speech_and_other_noise(folders, takes):
    settings = {"mix_snr_db": (-5, 5), "level_db": (-10, 0), "band_share": 0.5, "band_hz": (2000, 3000)}
    examples = make(folders, ("noisy", "noisy2", "clean"), takes=takes, seconds=0.6, **settings)
    for position in range(24):
        fields = examples[(0, position, position % 6)]
        noise, noise2 = fields["noisy"] - fields["clean"], fields["noisy2"] - fields["clean"]
        assert correlation(noise, noise2) < 0.15
        # Neither noise holds speech: with unequal gains it would.
        assert correlation(noise2, fields["clean"]) < 0.15
        assert correlation(noise, fields["clean"]) < 0.15


def test_the_two_sides_hear_different_recordings(folders):
    for i in range(5):
        write(folders / "noise" / f"n{i}.wav", np.sin((0.2 + 0.3 * i) * np.arange(2 * RATE)))
    examples = make(folders, ("noisy", "noisy2", "clean"), seconds=0.6)
    for position in range(24):
        fields = examples[(0, position, position % 6)]
        tones = [int(np.abs(np.fft.rfft(fields[n] - fields["clean"])).argmax()) for n in ("noisy", "noisy2")]
        assert abs(tones[0] - tones[1]) > 100


def test_added_noise_can_come_from_pauses_of_the_mixtures(folders):
    """Speech with pauses in constant noise: what is drawn is that noise."""
    for i in range(6):
        words = np.sin(np.arange(4 * RATE)) * (np.arange(4 * RATE) // (RATE // 2) % 2)
        write(folders / "speech" / f"speaker{i // 2}" / f"u{i}.wav", words)
    for i in range(5):
        write(folders / "noise" / f"n{i}.wav", white(4.0, RATE, i))
    examples = make(folders, ("noisy", "noise"), mix_snr_db=(20, 20), sources=("pauses",))
    take = takes_of(with_needs(examples, ("noisy", "clean")), 1)[0]
    level = np.std(take.noisy - take.clean)
    drawn = examples[(0, 0, 0)]["noise"].numpy()
    assert np.std(drawn) == pytest.approx(level, rel=0.3)


def with_needs(examples, needs):
    """The same examples with other needs."""
    return MixedExamples(
        examples.material, frozenset(needs), examples.config, DataConfig(), RATE, examples.seed
    )


# Recorders and rooms


def test_the_level_is_that_of_noisy_and_clean(folders):
    settings = {"mix_snr_db": (10, 10)}
    plain, lower = make(folders, **settings), make(folders, level_db=(-12, -12), **settings)
    for a, b in zip(takes_of(plain), takes_of(lower), strict=True):
        np.testing.assert_allclose(b.noisy, 10 ** (-12 / 20) * a.noisy, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(b.clean, 10 ** (-12 / 20) * a.clean, rtol=1e-5, atol=1e-8)


def test_a_narrow_band_is_that_of_noisy_and_clean(folders):
    for take in takes_of(make(folders, band_share=1.0, band_hz=(2000, 2000)), 1):
        for x in (take.noisy, take.clean):
            power = np.abs(np.fft.rfft(np.hanning(x.size) * x)) ** 2
            above = np.fft.rfftfreq(x.size, 1 / RATE) > 2050
            assert power[above].sum() < 1e-7 * power.sum()


def test_damage_is_that_of_noisy_alone(folders):
    plain = takes_of(make(folders))
    for settings in (
        {"clip_share": 1.0, "clip_fraction": (0.1, 0.1)},
        {"codec_share": 1.0, "codecs": ("gsm",)},
    ):
        for a, b in zip(plain, takes_of(make(folders, **settings)), strict=True):
            np.testing.assert_array_equal(a.clean, b.clean)
            assert np.linalg.norm(a.noisy - b.noisy) > 0.01 * np.linalg.norm(a.noisy)


def test_as_many_samples_of_noisy_are_clipped_as_asked(folders):
    for take in takes_of(make(folders, clip_share=1.0, clip_fraction=(0.1, 0.1)), 1):
        ceiling = np.abs(take.noisy).max()
        assert np.mean(np.abs(take.noisy) == ceiling) == pytest.approx(0.1, abs=1 / take.noisy.size)


def response(seed=0):
    """A direct path after 5 ms and a tail with an RT60 of 0.3 s."""
    n = round(0.3 * RATE)
    tail = 0.05 * white(0.3, RATE, seed) * 10 ** (-3 * np.arange(n) / n)
    tail[0] = 0.8
    return np.concatenate((np.zeros(40), tail)).astype(np.float32)


@pytest.mark.parametrize("target", ["reverberant", "early"])
def test_speech_is_heard_in_a_room_and_clean_stays_in_phase(folders, target):
    settings = {"room_share": 1.0, "room_target": target, "mix_snr_db": (60, 60)}
    examples = make(folders, rooms=((response(),),), **settings)
    for utterance in examples.material.utterances:
        take = examples.make_take(utterance, 0)
        dry = sf.read(utterance.info.path, dtype="float32")[0]
        heard = reverberate(dry, response())
        gain = np.dot(take.noisy, heard) / np.dot(heard, heard)
        assert take.noisy.shape == dry.shape
        assert np.linalg.norm(take.noisy - gain * heard) < 0.002 * np.linalg.norm(take.noisy)
        wanted = heard if target == "reverberant" else reverberate(dry, response()[: 40 + 400 + 1])
        np.testing.assert_allclose(take.clean, gain * wanted, atol=2e-3 * np.abs(take.clean).max())
        n = 2 * dry.size
        shift = np.fft.irfft(np.fft.rfft(take.clean, n).conj() * np.fft.rfft(take.noisy, n)).argmax()
        assert shift == 0


def test_rooms_come_from_files_and_a_share_stays_dry(folders):
    path = write(folders / "rooms" / "r.wav", response())
    kinds = []
    for take, plain in zip(
        takes_of(make(folders, rooms=((probe(path),),), room_share=0.5), 10),
        takes_of(make(folders), 10),
        strict=True,
    ):
        kinds.append(correlation(take.clean, plain.clean) < 0.9999)
    assert 0.3 < np.mean(kinds) < 0.7


# The same anywhere


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(folders, workers, monkeypatch):
    monkeypatch.setattr(dataset, "MIN_EPOCH_STEPS", 4)
    damage = {"clip_share": 0.5, "codec_share": 0.5, "band_share": 0.5, "band_hz": (2000, 3000)}
    needs = ("noisy", "clean", "noisy2", "noise")
    examples = make(
        folders, needs, sources=("white", "pauses"), rooms=((response(),),), room_share=0.5, **damage
    )
    alone = list(batches(examples, 3, seed=1, epoch=2))
    together = list(batches(examples, 3, seed=1, epoch=2, workers=workers))
    assert len(alone) == len(together) == 4
    assert all(equal(a, b) for a, b in zip(alone, together, strict=True))
    rest = list(batches(examples, 3, seed=1, epoch=2, first_step=2, workers=workers))
    assert all(equal(a, b) for a, b in zip(alone[2:], rest, strict=True))


# Files that cannot be used


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_and_silent_files_are_replaced_and_named(folders, workers):
    broken = [
        folders / "speech" / "speaker1" / "u2.wav",
        folders / "speech" / "speaker2" / "u5.wav",
        folders / "noise" / "n1.wav",
        folders / "noise" / "n3.wav",
        folders / "rooms" / "r1.wav",
    ]
    write(folders / "rooms" / "r0.wav", response())
    for path, value in zip(broken, (np.nan, 0, 0, np.nan, 0), strict=True):
        write(path, np.full(2 * RATE, float(value)))
    rooms = (tuple(probe(folders / "rooms" / f"r{i}.wav") for i in range(2)),)
    examples = make(folders, rooms=rooms, room_share=1.0)
    for batch in batches(examples, 3, seed=0, epoch=0, workers=workers):
        assert batch["noisy"].isfinite().all()
        assert (batch["clean"].abs().amax(-1) > 0.001).all()
    assert sorted(examples.damaged_files()) == sorted(broken)


@pytest.mark.parametrize(("what", "said"), [("speech", "none of the speech"), ("noise", "draws of noise")])
def test_nothing_that_can_be_used_is_refused(folders, what, said):
    for path in (folders / what).rglob("*.wav"):
        write(path, np.zeros(RATE))
    with pytest.raises(CorpusError, match=said) as caught:
        next(batches(make(folders), 2, seed=0, epoch=0, workers=1))
    assert "\n" not in str(caught.value)


def test_a_narrow_recorder_hears_no_noise_above_its_band(folders):
    examples = make(folders, mix_snr_db=(0.0, 0.0), mix_noise=("white",))
    examples.sample_rate = 3 * RATE
    take = examples.make_take(examples.material.utterances[0], 0)
    power = np.abs(np.fft.rfft(take.noisy)) ** 2
    frequency = np.fft.rfftfreq(take.noisy.size, 1 / (3 * RATE))
    above = power[frequency > 1.05 * RATE / 2].sum() / power.sum()
    assert above < 1e-3  # where white noise over the whole band would leave two thirds of its power
    assert snr_db(take.clean, take.noisy - take.clean) == pytest.approx(0, abs=0.05)
