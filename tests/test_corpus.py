import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from miase.corpus import CorpusOptions, make_corpus
from miase.errors import ConfigError, CorpusError
from miase.manifest import ManifestItem, discover, read_manifest
from miase.sources import URBANSOUND_CLASSES

RATE = 16000
SHARED = Path(__file__).parents[2] / "shared" / "data"


def write(path, seconds=0.25, seed=0, rate=RATE, level=0.1, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = level * np.random.default_rng(seed).standard_normal((int(seconds * rate), channels))
    sf.write(path, samples, rate)
    return path


@pytest.fixture
def speech(tmp_path):
    """Twelve speakers with two utterances each."""
    for speaker in range(12):
        for utterance in range(2):
            write(
                tmp_path / f"speech/spk{speaker:02d}/u{utterance}.wav", 0.2 + 0.05 * utterance, seed=speaker
            )
    return tmp_path / "speech"


@pytest.fixture
def urban(tmp_path):
    """The original layout of UrbanSound8K: six recordings a class, two slices each, over the ten folds."""
    for number in range(10):
        for recording in range(6):
            for part in range(2):
                name = f"audio/fold{recording + 1}/{1000 + 10 * number + recording}-{number}-0-{part}.wav"
                write(tmp_path / "UrbanSound8K" / name, 0.1, seed=10 * number + recording, rate=22050)
    return tmp_path / "UrbanSound8K"


@pytest.fixture
def noises(tmp_path):
    for index in range(12):
        write(
            tmp_path / f"noise/place{index % 3}/n{index}.wav",
            0.1 + 0.1 * index,
            seed=index,
            channels=1 + index % 2,
        )
    return tmp_path / "noise"


def make(kind, speech, output, **more):
    """Make a corpus quietly; gives its manifest."""
    options = CorpusOptions(kind, speech=(speech,), output=output, quiet=True, **more)
    report = make_corpus(options)
    assert report.failures == ()
    items = read_manifest(output)
    assert report.n_written == len(items)
    assert report.seconds == pytest.approx(sum(item.seconds for item in items))
    return items


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def measured_snr(folder, item):
    noisy, rate = sf.read(folder / item.noisy)
    clean, _ = sf.read(folder / item.clean)
    assert rate == item.sample_rate
    assert noisy.size == clean.size == round(item.seconds * rate)
    return 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))


# ---- what is written


def test_is_the_stated_snr_the_measured_one(speech, urban, tmp_path):
    out = tmp_path / "out"
    items = make("urbansound", speech, out, noise=(urban,), snr=(-5, 15), takes=2)
    assert len(items) == 48
    for item in items:
        assert -5 <= item.snr_db <= 15
        assert measured_snr(out, item) == pytest.approx(item.snr_db, abs=0.1)
    assert np.ptp([item.snr_db for item in items]) > 10


def test_do_two_takes_of_loud_speech_share_one_clean_file(tmp_path):
    write(tmp_path / "speech/a/loud.wav", level=0.3)
    items = make("white", tmp_path / "speech", tmp_path / "out", snr=(-10, 10), takes=3)
    for item in items:
        noisy, _ = sf.read(tmp_path / "out" / item.noisy)
        assert np.abs(noisy).max() < 1
        assert measured_snr(tmp_path / "out", item) == pytest.approx(item.snr_db, abs=0.1)


def test_does_the_manifest_say_what_is_there(speech, urban, tmp_path):
    out = tmp_path / "out"
    make("urbansound", speech, out, noise=(urban,), seed=7, sample_rate=8000)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["noisy"] for line in lines] == sorted(line["noisy"] for line in lines)
    assert list(lines[0]) == [field.name for field in dataclasses.fields(ManifestItem)]
    first = lines[0]
    assert first["noisy"] == "noisy/spk00/u0.flac"
    assert first["clean"] == "clean/spk00/u0.flac"
    assert first["speaker"] == "spk00"
    assert (first["sample_rate"], first["seed"], first["take"]) == (8000, 7, 1)
    assert (urban / first["noise"]).is_file()
    number = int(first["noise"].split("-")[1])
    assert first["noise_class"] == URBANSOUND_CLASSES[number]
    assert set(tree(out)) == {"manifest.jsonl"} | {line[key] for line in lines for key in ("noisy", "clean")}
    info = sf.info(out / first["noisy"])
    assert (info.samplerate, info.subtype, info.format, info.channels) == (8000, "PCM_16", "FLAC", 1)


def test_is_clean_left_out_and_wav_written_when_asked(speech, tmp_path):
    items = make("white", speech, tmp_path / "out", keep_clean=False, format="wav")
    assert {item.clean for item in items} == {None}
    assert not (tmp_path / "out/clean").exists()
    assert all(sf.info(tmp_path / "out" / item.noisy).format == "WAV" for item in items)


def test_are_long_utterances_cut_into_equal_pieces_that_join_again(tmp_path):
    source = write(tmp_path / "speech/a/long.wav", seconds=1.0)
    items = make("white", tmp_path / "speech", tmp_path / "out", max_seconds=0.3)
    assert [item.noisy for item in items] == [f"noisy/a/long-part00{k}.flac" for k in (1, 2, 3, 4)]
    assert {item.seconds for item in items} == {0.25}
    joined = np.concatenate([sf.read(tmp_path / "out" / item.clean)[0] for item in items])
    assert np.abs(joined - sf.read(source)[0]).max() < 1e-4
    assert len({item.snr_db for item in items}) == 4


def test_are_copies_files_of_their_own(speech, tmp_path):
    items = make("white", speech, tmp_path / "out", copies=3)
    assert len(items) == 72
    versions = [item for item in items if item.noisy.startswith("noisy/spk00/u0")]
    assert [item.noisy[-10:-5] for item in versions] == ["copy2", "copy3", "00/u0"]
    assert len({item.snr_db for item in versions}) == 3


def test_are_names_unique_with_several_folders_of_the_same_name(tmp_path):
    folders = [tmp_path / "one/train", tmp_path / "two/train"]
    for folder in folders:
        write(folder / "s/u.wav")
    options = CorpusOptions("white", speech=tuple(folders), output=tmp_path / "out", quiet=True)
    assert make_corpus(options).n_written == 2
    noisy = [item.noisy for item in read_manifest(tmp_path / "out")]
    assert noisy == ["noisy/one/train/s/u.flac", "noisy/two/train/s/u.flac"]


def test_is_a_folder_inside_another_read_once(speech, tmp_path):
    options = CorpusOptions("white", speech=(speech, speech / "spk00"), output=tmp_path / "out", quiet=True)
    assert make_corpus(options).n_written == 24


def test_does_limit_take_from_all_over_and_exclude_leave_out(speech, tmp_path):
    items = make("white", speech, tmp_path / "limit", limit=8)
    assert len(items) == 8
    assert len({item.speaker for item in items}) > 4
    items = make("white", speech, tmp_path / "exclude", exclude_speech=("*spk03*", "spk04/u1.wav"))
    assert len(items) == 21
    assert "spk03" not in {item.speaker for item in items}


# ---- which noise


@pytest.mark.parametrize("colour", ["white", "pink", "brown", "blue", "violet"])
def test_is_the_colour_named(speech, tmp_path, colour):
    items = make("white", speech, tmp_path / "out", colour=colour, limit=2)
    assert {item.noise for item in items} == {colour}


def test_does_synthetic_noise_name_its_kinds(speech, tmp_path):
    items = make("white", speech, tmp_path / "out", colour="synthetic", limit=6)
    assert all(re.fullmatch(r"synthetic:[a-z]+(\+[a-z]+){0,2}", item.noise) for item in items)
    assert len({item.noise for item in items}) > 1


@pytest.mark.parametrize("noise_class", ["siren", "8"])
def test_is_the_class_found_by_name_and_number_and_the_second_take_another(
    speech, urban, tmp_path, noise_class
):
    items = make("urbansound", speech, tmp_path / "out", noise=(urban,), noise_class=noise_class, takes=3)
    of_take = {take: {i.noise_class for i in items if i.take == take} for take in (1, 2, 3)}
    assert of_take[1] == {"siren"}
    assert "siren" not in of_take[2] | of_take[3]
    assert len(of_take[2]) > 2


def test_do_takes_differ_in_class_and_agree_in_speech(speech, urban, tmp_path):
    items = make("urbansound", speech, tmp_path / "out", noise=(urban,), takes=2)
    pairs = {item.clean: [other for other in items if other.clean == item.clean] for item in items}
    assert len(pairs) == 24
    for first, second in pairs.values():
        assert (first.take, second.take) == (1, 2)
        assert second.noisy == first.noisy.replace("noisy/", "noisy2/")
        assert first.noise_class != second.noise_class
        assert first.snr_db != second.snr_db
    assert {item.noise_class for item in items if item.take == 1} > {"siren", "drilling"}


def test_do_folds_filter(speech, urban, tmp_path):
    items = make("urbansound", speech, tmp_path / "out", noise=(urban,), folds=(2, 5))
    assert {item.noise.split("/")[1] for item in items} == {"fold2", "fold5"}


def test_does_mix_use_any_recording_and_another_for_the_second_take(speech, noises, tmp_path):
    items = make("mix", speech, tmp_path / "out", noise=(noises,), takes=2)
    assert len({item.noise for item in items}) > 8
    for item in items:
        assert measured_snr(tmp_path / "out", item) == pytest.approx(item.snr_db, abs=0.1)
        assert item.noise_class is None
    noise_of = {(item.clean, item.take): item.noise for item in items}
    assert all(noise_of[clean, 1] != noise_of[clean, 2] for clean, _ in noise_of)


def test_does_the_synthetic_share_hold(speech, noises, tmp_path):
    items = make("mix", speech, tmp_path / "some", noise=(noises,), synthetic_share=0.5, copies=2)
    share = np.mean([item.noise.startswith("synthetic:") for item in items])
    assert 0.25 < share < 0.75
    items = make("mix", speech, tmp_path / "all", synthetic_share=1.0, limit=5)
    assert all(item.noise.startswith("synthetic:") for item in items)


def test_is_a_recording_of_many_slices_not_heard_more_often(speech, tmp_path):
    write(tmp_path / "noise/1-8-0-0.wav")
    for part in range(20):
        write(tmp_path / f"noise/2-8-0-{part}.wav")
    items = make("mix", speech, tmp_path / "out", noise=(tmp_path / "noise",), copies=3)
    assert 0.3 < np.mean([item.noise == "1-8-0-0.wav" for item in items]) < 0.7


# ---- repeating


def test_are_the_bytes_the_same_again_and_for_two_processes(speech, noises, tmp_path):
    more = {"noise": (noises,), "synthetic_share": 0.3, "takes": 2, "limit": 6}
    make("mix", speech, tmp_path / "one", **more)
    make("mix", speech, tmp_path / "again", **more)
    make("mix", speech, tmp_path / "two", workers=2, **more)
    make("mix", speech, tmp_path / "seed", seed=1, **more)
    one = tree(tmp_path / "one")
    assert one == tree(tmp_path / "again")
    assert one == tree(tmp_path / "two")
    assert one != tree(tmp_path / "seed")


def test_does_a_further_utterance_change_no_other(speech, tmp_path):
    make("white", speech, tmp_path / "before")
    write(speech / "aaa/first.wav")
    make("white", speech, tmp_path / "after")
    before, after = tree(tmp_path / "before"), tree(tmp_path / "after")
    assert all(after[name] == data for name, data in before.items() if name != "manifest.jsonl")


# ---- splits


def test_do_splits_share_no_speaker_and_no_recording(speech, urban, tmp_path):
    speakers, recordings = {}, {}
    for split in ("train", "valid", "test"):
        items = make(
            "urbansound", speech, tmp_path / split, noise=(urban,), split=split, copies=20, keep_clean=False
        )
        speakers[split] = {item.speaker for item in items}
        recordings[split] = {Path(item.noise).name.split("-")[0] for item in items}
        assert {item.noise_class for item in items} == set(URBANSOUND_CLASSES)  # each class in each split
    for groups, total in ((speakers, 12), (recordings, 60)):
        assert len(set.union(*groups.values())) == sum(len(group) for group in groups.values())
        assert len(set.union(*groups.values())) == total
        assert len(groups["train"]) > total / 2


@pytest.mark.parametrize("n_speakers", [1, 2, 3, 5])
def test_do_few_speakers_give_a_test_speaker_first(tmp_path, n_speakers):
    for speaker in range(n_speakers):
        write(tmp_path / f"speech/s{speaker}/u.wav")
    count = {}
    for split in ("train", "valid", "test"):
        try:
            items = make("white", tmp_path / "speech", tmp_path / split, split=split)
        except CorpusError:
            items = []
        count[split] = len(items)
    assert sum(count.values()) == n_speakers
    assert count["train"] >= 1
    assert (count["test"] > 0) == (n_speakers > 1)
    assert (count["valid"] > 0) == (n_speakers > 2)


@pytest.mark.parametrize(
    ("names", "speakers"),
    [
        (["p226_001.wav", "p226_002.wav", "p227_001.wav"], {"p226", "p227"}),  # Voice Bank, one flat folder
        (["84/121123/84-121123-0000.wav", "84/121550/84-121550-0001.wav"], {"84"}),  # LibriSpeech
        (["anna/x.wav", "bob/x.wav"], {"anna", "bob"}),
        (["x.wav", "y.wav"], {"x", "y"}),
    ],
)
def test_is_the_speaker_known(tmp_path, names, speakers):
    for name in names:
        write(tmp_path / "speech" / name)
    items = make("white", tmp_path / "speech", tmp_path / "out")
    assert {item.speaker for item in items} == speakers


def test_do_microphones_of_one_recording_stay_in_one_split(speech, tmp_path):
    for place in "abcdefgh":
        for channel in range(1, 4):
            write(tmp_path / f"demand/{place}/ch{channel:02d}.wav")
    places = {}
    for split in ("train", "valid", "test"):
        items = make("mix", speech, tmp_path / split, noise=(tmp_path / "demand",), split=split, copies=5)
        places[split] = {item.noise.split("/")[0] for item in items}
    assert len(places["train"]) + len(places["valid"]) + len(places["test"]) == 8


# ---- what goes wrong


def test_does_a_broken_or_silent_file_not_stop_the_others(speech, tmp_path):
    (speech / "spk00/u0.wav").write_bytes(b"not a sound")
    write(speech / "spk01/u0.wav", level=0)
    report = make_corpus(CorpusOptions("white", speech=(speech,), output=tmp_path / "out", quiet=True))
    assert report.n_written == 22
    reasons = dict(report.failures)
    assert set(reasons) == {"spk00/u0.wav", "spk01/u0.flac"}
    assert "silent" in reasons["spk01/u0.flac"]
    assert len(read_manifest(tmp_path / "out")) == 22


def test_is_a_folder_in_use_refused_and_replaced_when_allowed(speech, tmp_path):
    out = tmp_path / "out"
    make("white", speech, out, takes=2)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(CorpusError, match="not empty"):
        make("white", speech, out)
    make("white", speech, out, overwrite=True, limit=3)
    files = set(tree(out))
    assert len(files) == 3 + 3 + 2
    assert "notes.txt" in files


def test_is_no_folder_that_is_read_written_to(speech, tmp_path):
    for output in (speech, speech / "out", tmp_path):
        with pytest.raises(CorpusError, match="lie in one another"):
            make("white", speech, output, overwrite=True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"kind": "pink"}, "kind is 'pink'; it must be white, urbansound, mix"),
        ({"speech": ()}, "speech is .*at least one folder"),
        ({"noise": ()}, "noise is .*at least one folder for urbansound"),
        ({"kind": "mix", "noise": ()}, "at least one folder for mix"),
        ({"kind": "white"}, "left out for white"),
        ({"noise_class": "dog"}, "noise_class is 'dog'.*0 to 9.*air_conditioner.*street_music"),
        ({"noise_class": "10"}, "noise_class is '10'"),
        ({"kind": "mix", "noise_class": "siren"}, "noise_class .*left out but for urbansound"),
        ({"kind": "mix", "folds": (1,)}, "folds .*left out but for urbansound"),
        ({"colour": "pink"}, "colour .*left out but for white"),
        ({"kind": "white", "noise": (), "colour": "grey"}, "colour is 'grey'.*white, pink.*synthetic"),
        ({"synthetic_share": 0.5}, "synthetic_share .*left out but for mix"),
        ({"kind": "mix", "synthetic_share": 1.5}, "synthetic_share is 1.5.*0 to 1"),
        ({"snr": (10, 0)}, "snr is .*lowest and highest"),
        ({"takes": 0}, "takes is 0"),
        ({"copies": 0}, "copies is 0"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"max_seconds": 0}, "max_seconds is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"split": "dev"}, "split is 'dev'.*all, train, valid, test"),
        ({"format": "mp3"}, "format is 'mp3'.*flac, wav"),
    ],
)
def test_is_an_option_that_is_not_allowed_named(more, message):
    good = {"kind": "urbansound", "speech": (Path("s"),), "output": Path("o"), "noise": (Path("n"),)}
    with pytest.raises(ConfigError, match=message) as caught:
        CorpusOptions(**(good | more))
    assert "\n" not in str(caught.value)


def test_are_folders_that_cannot_serve_named(speech, urban, noises, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    with pytest.raises(CorpusError, match="missing is not a folder"):
        make("white", tmp_path / "missing", out)
    with pytest.raises(CorpusError, match="holds no sound files"):
        make("white", empty, out)
    with pytest.raises(CorpusError, match=r"no files named like UrbanSound8K.*use mix"):
        make("urbansound", speech, out, noise=(noises,))
    with pytest.raises(CorpusError, match="holds no sound files"):
        make("mix", speech, out, noise=(noises, empty))
    with pytest.raises(CorpusError, match="see split and folds"):
        make("urbansound", speech, out, noise=(urban,), folds=(9,))
    (tmp_path / "one").mkdir()
    write(tmp_path / "one/1-8-0-0.wav")
    with pytest.raises(CorpusError, match=r"no noise of class drilling .*there are siren"):
        make("urbansound", speech, out, noise=(tmp_path / "one",), noise_class="drilling")
    with pytest.raises(CorpusError, match="2 takes need as many classes of noise; there are 1"):
        make("urbansound", speech, out, noise=(tmp_path / "one",), takes=2)
    write(speech / "spk00/u0.flac")
    with pytest.raises(CorpusError, match="spk00/u0 is there in two file formats"):
        make("white", speech, out)
    assert not out.exists()
    out.write_text("a file")
    with pytest.raises(CorpusError, match="is a file; give a folder"):
        make("white", noises, out)


# ---- reading


def test_does_discover_find_noisy_files_only(speech, tmp_path):
    items = make("white", speech, tmp_path / "out", takes=2, limit=4)
    assert discover(tmp_path / "out") == [tmp_path / "out" / item.noisy for item in items if item.take == 1]
    assert len(discover(tmp_path / "out")) == 4
    assert discover(speech) == sorted(speech.rglob("*.wav"))


# ---- real recordings


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_do_the_shared_recordings_make_disjoint_corpora(tmp_path):
    recordings = {}
    for split in ("train", "test"):
        items = make(
            "urbansound",
            SHARED / "speech/librispeech",
            tmp_path / split,
            noise=(SHARED / "noise/urbansound8k",),
            split=split,
            limit=6,
            max_seconds=4,
            takes=2,
        )
        recordings[split] = {Path(item.noise).name.split("-")[0] for item in items}
        for item in items:
            assert measured_snr(tmp_path / split, item) == pytest.approx(item.snr_db, abs=0.1)
            assert Path(item.noise).parent.name == item.noise_class
    assert not recordings["train"] & recordings["test"]
