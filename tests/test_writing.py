"""Does a sound come back as it went out, and is what cannot be written refused in one line?"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from files import RATE, noise, refusal, tone
from miase import writing
from miase.audio import load, probe
from miase.sounds import AudioInfo, find_sounds
from miase.writing import SoundWriter, save, writable_format


@pytest.mark.parametrize(
    ("name", "subtype", "step"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_U8", 2**-7),
        ("a.wav", "FLOAT", 0),
        ("a.flac", "PCM_16", 2**-15),
        ("a.flac", "PCM_24", 2**-23),
        ("a.aiff", "PCM_16", 2**-15),
        ("a.aif", "PCM_24", 2**-23),
        ("a.w64", "PCM_16", 2**-15),
        ("a.rf64", "PCM_16", 2**-15),
        ("a.caf", "ALAC_16", 2**-15),
        ("a.au", "PCM_16", 2**-15),
    ],
)
def test_lossless_formats_are_within_half_a_step(tmp_path, name, subtype, step):
    samples = noise()
    save(tmp_path / name, samples, RATE, subtype=subtype)
    info = probe(tmp_path / name)
    again, rate = load(tmp_path / name)
    assert (info.sample_rate, info.n_channels, info.n_frames, info.subtype) == (RATE, 2, 20000, subtype)
    assert info.seconds == 1.25
    assert (rate, again.shape, again.dtype) == (RATE, (2, 20000), np.float32)
    assert np.abs(again - samples).max() <= step / 2


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("a.ogg", "VORBIS"), ("a.opus", "OPUS"), ("a.oga", "VORBIS"), ("a.mp3", "MPEG_LAYER_III")],
)
@pytest.mark.parametrize("n_frames", [1, 4999, 200_000])
def test_lossy_formats_keep_length_place_and_default_subtype(tmp_path, name, subtype, n_frames):
    samples = np.repeat(tone(440, RATE, n_frames / RATE), 2, axis=0)
    save(tmp_path / name, samples, RATE)
    info = probe(tmp_path / name)
    assert (info.sample_rate, info.n_channels, info.n_frames, info.subtype) == (RATE, 2, n_frames, subtype)
    again, _ = load(tmp_path / name)
    assert again.shape == samples.shape
    if n_frames > 10_000:  # a codec's delay that is left in shows as an error as large as the tone
        middle = slice(2000, -2000)
        assert np.abs(again - samples)[:, middle].max() < 0.05


@pytest.mark.parametrize(
    ("name", "subtype", "bits"), [("a.wav", "PCM_U8", 8), ("a.wav", "PCM_16", 16), ("a.flac", "PCM_24", 24)]
)
def test_pcm_integers_survive_a_round_trip_to_the_bit(tmp_path, name, subtype, bits):
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    ends = [lowest, lowest + 1, -1, 0, 1, highest - 1, highest]
    values = np.append(np.random.default_rng(0).integers(lowest, highest, 5000, endpoint=True), ends)
    first, second = tmp_path / name, tmp_path / f"again-{name}"
    sf.write(first, (values << (32 - bits)).astype(np.int32), RATE, subtype=subtype)
    samples, _ = load(first)
    save(second, samples, RATE, subtype=subtype)
    stored, _ = sf.read(second, dtype="int32")
    assert np.array_equal(stored >> (32 - bits), values)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "ULAW"])
def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path, subtype):
    samples = np.array([[1.5, -2.0, 1.0, -1.0, 0.25]], np.float32)
    with SoundWriter(tmp_path / "a.wav", RATE, 1, subtype=subtype) as writer:
        writer.write(samples)
    assert writer.n_clipped == 2
    again, _ = load(tmp_path / "a.wav")
    assert np.allclose(again, np.clip(samples, -1, 1), atol=0.03)


def test_float_is_not_clipped(tmp_path):
    samples = np.array([[1.5, -2.0]], np.float32)
    with SoundWriter(tmp_path / "a.wav", RATE, 1, subtype="FLOAT") as writer:
        writer.write(samples)
    assert writer.n_clipped == 0
    assert np.array_equal(load(tmp_path / "a.wav")[0], samples)


def test_writer_in_blocks_equals_save(tmp_path):
    samples = noise()
    with SoundWriter(tmp_path / "deep/er/a.flac", RATE, 2, subtype="PCM_24") as writer:
        for start in range(0, 20_000, 777):
            writer.write(samples[:, start : start + 777])
        assert not writer.path.exists()
        assert find_sounds(tmp_path) == []
    save(tmp_path / "b.flac", samples, RATE, subtype="PCM_24")
    assert writer.n_frames == 20_000
    assert np.array_equal(load(writer.path)[0], load(tmp_path / "b.flac")[0])


def test_interrupted_writer_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.wav"
    save(path, noise(), RATE)
    before = path.read_bytes()

    def write_and_stop(error):
        with SoundWriter(path, RATE, 2, overwrite=True) as writer:
            writer.write(noise(seed=1))
            raise error

    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            write_and_stop(error)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_overwriting_needs_permission(tmp_path):
    path = tmp_path / "a.wav"
    save(path, noise(), RATE)
    assert "exists already" in refusal(SoundWriter, path, RATE, 2)
    assert "exists already" in refusal(save, tmp_path, noise(), RATE, format="WAV")
    save(path, noise(n_channels=1), RATE)
    assert probe(path).n_channels == 1


@pytest.mark.parametrize(
    ("name", "kwargs", "n_channels", "rate", "words"),
    [
        ("a.opus", {}, 1, 44100, "48000"),
        ("a.mp3", {}, 1, 96000, "48000"),
        ("a.mp3", {}, 3, 44100, "3 channels"),
        ("a.flac", {}, 9, 44100, "9 channels"),
        ("a.ogg", {}, 1, 250_000, "200000 Hz"),  # crashes libsndfile 1.2.2
        ("a.ogg", {}, 256, RATE, "255 channels"),  # crashes libsndfile 1.2.2
        ("a.wav", {}, 1, 0, "0 Hz"),
        ("a.wav", {}, 2000, RATE, "2000 channels"),
        ("a.flac", {"subtype": "FLOAT"}, 1, RATE, "PCM_24"),
        ("a.wav", {"format": "XYZ"}, 1, RATE, ".flac"),
        ("a.m4a", {}, 1, RATE, ".flac"),
        ("a", {}, 1, RATE, ".flac"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, kwargs, n_channels, rate, words):
    assert words in refusal(save, tmp_path / name, noise(n_channels, 100), rate, **kwargs)
    assert list(tmp_path.iterdir()) == []


def test_shapes_and_values_that_cannot_be_written_are_refused(tmp_path):
    path = tmp_path / "a.wav"
    assert "(channel, time)" in refusal(save, path, noise()[0], RATE)
    broken = noise()
    broken[1, 8000] = np.nan
    message = refusal(save, path, broken, RATE)
    assert "1 of 40000" in message
    assert "0.500 s" in message

    def write_other_channels():
        with SoundWriter(path, RATE, 2) as writer:
            writer.write(noise(n_channels=1))

    assert "(2, time)" in refusal(write_other_channels)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert "choose a folder" in refusal(save, tmp_path / "file" / "a.wav", noise(), RATE)


@pytest.mark.skipif(sys.platform == "win32", reason="limits a file's size by resource")
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path):
    code = (
        "import resource, sys, numpy as np\n"
        "from miase.errors import StorageError\n"
        "from miase.writing import save\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: save(sys.argv[1], np.zeros((1, 100_000), np.float32), 16000)\n"
        "except StorageError as error: sys.exit('disk full' in str(error) and 3)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "a.wav"], check=False)
    assert run.returncode == 3
    assert list(tmp_path.iterdir()) == []


def test_long_wav_becomes_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_MAX_BYTES_OF_4_GB", 50_000)
    save(tmp_path / "a.wav", noise(), RATE)
    assert probe(tmp_path / "a.wav").format == "RF64"
    save(tmp_path / "b.wav", noise(n_channels=1), RATE)
    assert probe(tmp_path / "b.wav").format == "WAV"

    def write_more_than_fits():
        with SoundWriter(tmp_path / "c.wav", RATE, 2) as writer:
            writer.write(noise())

    assert "4 GB" in refusal(write_more_than_fits)


@pytest.mark.parametrize(
    ("name", "written_as", "subtype", "expected"),
    [
        ("a.wav", "WAV", "PCM_24", ("WAV", "PCM_24", ".wav")),
        ("a.WAV", "WAVEX", "FLOAT", ("WAVEX", "FLOAT", ".wav")),
        ("a.wav", "NIST", "PCM_16", ("NIST", "PCM_16", ".wav")),
        ("a.wav", "WAV", "IMA_ADPCM", ("WAV", "PCM_16", ".wav")),
        ("a.aif", "AIFF", "PCM_16", ("AIFF", "PCM_16", ".aif")),
        ("a.wav", "FLAC", "PCM_16", ("FLAC", "PCM_16", ".flac")),
        ("a.opus", "OGG", "OPUS", ("OGG", "OPUS", ".opus")),
        ("a.mp3", "MP3", "MPEG_LAYER_II", ("MP3", "MPEG_LAYER_III", ".mp3")),
        ("a.m4a", "FFMPEG", "M4A", ("WAV", "PCM_16", ".wav")),
    ],
)
def test_writable_format(tmp_path, name, written_as, subtype, expected):
    info = AudioInfo(Path(name), RATE, 2, 100, written_as, subtype)
    assert writable_format(info) == expected
    path = tmp_path / f"b{expected[2]}"
    save(path, noise(), RATE, format=expected[0], subtype=expected[1])
    again = probe(path)
    assert (again.format, again.subtype) == expected[:2]
