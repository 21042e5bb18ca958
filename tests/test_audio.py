"""Does every readable file come in whole, and every bad one end in one line of AudioError?"""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from files import RATE, noise, refusal, tone
from miase.audio import SoundReader, load, probe
from miase.errors import AudioError
from miase.resampling import resample
from miase.writing import save


def wav_bytes(n_channels=1, sample_rate=RATE, n_bytes=200, promised=None, bits=16):
    fmt = struct.pack("<HHIIHH", 1, n_channels, sample_rate, 2 * sample_rate, 2 * n_channels % 65536, bits)
    size = n_bytes if promised is None else promised
    head = b"RIFF" + struct.pack("<I", (36 + size) % 2**32) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    return head + b"data" + struct.pack("<I", size) + bytes(n_bytes)


def test_names_of_any_kind(tmp_path):
    path = tmp_path / ("ä ß 音\n" + "x" * 200 + ".wav")
    save(path, noise(), RATE)
    assert load(path)[0].shape == (2, 20000)
    assert "does not exist" in refusal(load, tmp_path / "two\nlines.wav")
    assert "cannot be read" in refusal(load, tmp_path / "nul\0.wav")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names of any bytes")
def test_name_that_is_not_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    save(path, noise(), RATE)
    assert load(path)[0].shape == (2, 20000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_blocks_and_stretches_equal_the_whole(tmp_path, name):
    save(tmp_path / name, noise(n_frames=50_001), 48000)
    whole, _ = load(tmp_path / name)
    with SoundReader(tmp_path / name) as reader:
        for n_frames in (160, 777, 1000, 50_000, 10**9):
            blocks = list(reader.blocks(n_frames))
            assert all(block.shape[1] == n_frames for block in blocks[:-1])
            assert np.array_equal(np.concatenate(blocks, axis=1), whole)
    stretch, _ = load(tmp_path / name, start=30_000, n_frames=1000)
    # Seeking in an MP3 file changes the last bit of a float.
    assert np.allclose(stretch, whole[:, 30_000:31_000], rtol=0, atol=1e-6)
    for start in (49_000, 50_000):
        end, _ = load(tmp_path / name, start=start, n_frames=10_000)
        assert np.allclose(end, whole[:, start:], rtol=0, atol=1e-6)


def test_a_stretch_outside_the_file_is_refused(tmp_path):
    save(tmp_path / "a.wav", noise(), RATE)
    for start, n_frames in ((20_000, None), (-1, None), (0, 0)):
        assert "holds 20000 frames" in refusal(load, tmp_path / "a.wav", start=start, n_frames=n_frames)


def test_load_resamples(tmp_path):
    save(tmp_path / "a.wav", tone(1000, 44100), 44100, subtype="FLOAT")
    samples, rate = load(tmp_path / "a.wav", sample_rate=16000)
    assert rate == 16000
    assert np.array_equal(samples, resample(tone(1000, 44100), 44100, 16000))
    assert "allowed are" in refusal(load, tmp_path / "a.wav", sample_rate=0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.wav", b"", "is empty"),
        ("text.wav", b"hello world\n" * 200, "not a sound file"),
        ("text.mp3", b"hello world\n" * 200, "not a sound file"),
        ("text.au", b"hello world\n" * 200, "not a sound file"),
        ("text.flac", b"fLaC" + bytes(300), "not a sound file"),
        ("text.ogg", b"OggS" + bytes(range(256)) * 9, "not a sound file"),
        ("header.wav", wav_bytes(n_bytes=0), "holds no samples"),
        ("channels.wav", wav_bytes(n_channels=0), "not a sound file"),
        ("many.wav", wav_bytes(n_channels=65535), "not a sound file"),
        ("few.wav", wav_bytes(n_channels=1000), "holds no samples"),
        ("bits.wav", wav_bytes(bits=0), "not a sound file"),
        ("rate.wav", wav_bytes(sample_rate=0), "not a sound file"),
        ("slow.wav", wav_bytes(sample_rate=1), "allowed are"),
        ("fast.wav", wav_bytes(sample_rate=2**31 - 1), "allowed are"),
    ],
)
def test_bad_file_is_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (probe, load):
        message = refusal(read, path)
        assert words in message
        assert name in message
        assert "ffmpeg" not in message


def test_what_is_no_file(tmp_path):
    assert "does not exist" in refusal(probe, tmp_path / "a.wav")
    assert "not a regular file" in refusal(probe, tmp_path)
    save(tmp_path / "a.wav", noise(), RATE)
    assert "cannot be read" in refusal(probe, tmp_path / "a.wav" / "b.wav")


def test_header_that_promises_too_much(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(promised=2**32 - 16))
    assert load(path)[0].shape == (1, 100)
    save(tmp_path / "a.flac", noise(), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] |= 0x0F  # with the next four bytes, the 36 bits of the number of frames
    content[22:26] = b"\xff" * 4
    (tmp_path / "a.flac").write_bytes(content)
    assert "of 68719476735 samples" in refusal(load, tmp_path / "a.flac")


def test_truncated_flac(tmp_path):
    path = tmp_path / "a.flac"
    save(path, noise(n_frames=100_000), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "is truncated" in refusal(load, path)
    with SoundReader(path) as reader:
        assert "of 100000 samples" in refusal(list, reader.blocks(1000))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff", "a.caf", "a.w64"])
def test_damaged_bytes_end_in_samples_or_one_line(tmp_path, name):
    path = tmp_path / name
    save(path, noise(n_frames=3000), 48000)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    messages = []
    for _ in range(60):
        damaged = content[: generator.integers(1, len(content))].copy()
        places = generator.integers(0, min(len(damaged), generator.choice([60, len(damaged)])), 4)
        damaged[places] = generator.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        try:
            samples, _ = load(path)
        except AudioError as error:
            messages.append(str(error))
        else:
            assert np.isfinite(samples).all()
    assert messages
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(("mode", "n_kept"), [("CONSTANT", 96_000), ("VARIABLE", None)])
def test_mp3_that_states_no_length(tmp_path, mode, n_kept):
    path = tmp_path / "a.mp3"
    samples = noise(n_channels=1, n_frames=96_000)
    samples[:, :48_000] *= 0.001
    sf.write(path, samples.T, 48000, bitrate_mode=mode, compression_level=0.5)
    content = path.read_bytes()
    sync = content[:2]
    second_frame = next(i for i in range(150, len(content)) if content[i : i + 2] == sync)
    assert any(tag in content[:second_frame] for tag in (b"Xing", b"Info"))
    path.write_bytes(content[second_frame:])
    if n_kept is None:  # libsndfile would stop after a part
        assert "states no length" in refusal(load, path)
    else:
        n_frames = probe(path).n_frames
        assert n_kept <= n_frames < n_kept + 4 * 1152
        assert load(path)[0].shape == (1, n_frames)
