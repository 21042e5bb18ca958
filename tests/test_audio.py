"""Does a sound come back as it went in, and does every bad file end in one line of AudioError?"""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from miase import audio
from miase.audio import SoundReader, SoundWriter, StreamResampler, load, probe, resample, save
from miase.errors import AudioError

RATE = 16000


def noise(n_channels=2, n_frames=20000, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(-0.5, 0.5, (n_channels, n_frames)).astype(np.float32)


def tone(frequency, sample_rate, seconds=1.0):
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)[None]


def wav_bytes(n_channels=1, sample_rate=RATE, n_bytes=200, promised=None, bits=16):
    fmt = struct.pack("<HHIIHH", 1, n_channels, sample_rate, 2 * sample_rate, 2 * n_channels % 65536, bits)
    size = n_bytes if promised is None else promised
    head = b"RIFF" + struct.pack("<I", (36 + size) % 2**32) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    return head + b"data" + struct.pack("<I", size) + bytes(n_bytes)


def refusal(call, *args, **kwargs):
    with pytest.raises(AudioError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Round trips


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


# Reading a part, and block by block


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


# Resampling


@pytest.mark.parametrize(
    ("source", "target"), [(44100, 16000), (16000, 48000), (48000, 44100), (8000, 16001), (16000, 16000)]
)
def test_stream_resampler_equals_the_whole(source, target):
    generator = np.random.default_rng(source + target)
    samples = noise(n_channels=3, n_frames=30_011)
    stream = StreamResampler(source, target, 3)
    outputs, start = [], 0
    while start < samples.shape[1]:
        size = int(generator.choice([0, 1, 7, 160, 4097]))
        outputs.append(stream.process(samples[:, start : start + size]))
        start += size
    outputs.append(stream.process(samples[:, :0], last=True))
    whole = resample(samples, source, target)
    assert np.array_equal(np.concatenate(outputs, axis=1), whole)
    reference = samples.T if source == target else soxr.resample(samples.T, source, target)
    assert np.array_equal(whole, reference.T)
    assert np.array_equal(resample(samples[1], source, target), whole[1])


def test_resampled_length_is_what_comes_out():
    for source in (8000, 16000, 22050, 44100, 48000):
        for target in (8000, 16000, 44100, 48000):
            for n_frames in (0, 1, 2, 3, 99, 1000, 12345):
                output = resample(np.zeros(n_frames, np.float32), source, target)
                assert len(output) == audio.resampled_length(n_frames, source, target)


def test_resampling_keeps_a_low_tone_in_place_and_removes_a_high_one():
    middle = slice(2000, -2000)
    low = resample(tone(1000, 44100), 44100, 16000)
    assert np.abs(low - tone(1000, 16000))[:, middle].max() < 1e-4
    high = resample(tone(10_000, 44100), 44100, 16000)
    assert np.abs(high)[:, middle].max() < 1e-4


def test_load_resamples(tmp_path):
    save(tmp_path / "a.wav", tone(1000, 44100), 44100, subtype="FLOAT")
    samples, rate = load(tmp_path / "a.wav", sample_rate=16000)
    assert rate == 16000
    assert np.array_equal(samples, resample(tone(1000, 44100), 44100, 16000))
    assert "allowed are" in refusal(load, tmp_path / "a.wav", sample_rate=0)


# Writing


def test_writer_in_blocks_equals_save(tmp_path):
    samples = noise()
    with SoundWriter(tmp_path / "deep/er/a.flac", RATE, 2, subtype="PCM_24") as writer:
        for start in range(0, 20_000, 777):
            writer.write(samples[:, start : start + 777])
        assert not writer.path.exists()
        assert audio.find_sounds(tmp_path) == []
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
        "from miase.audio import AudioError, save\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: save(sys.argv[1], np.zeros((1, 100_000), np.float32), 16000)\n"
        "except AudioError as error: sys.exit('disk full' in str(error) and 3)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "a.wav"], check=False)
    assert run.returncode == 3
    assert list(tmp_path.iterdir()) == []


def test_long_wav_becomes_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "_MAX_BYTES_OF_4_GB", 50_000)
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
    info = audio.AudioInfo(Path(name), RATE, 2, 100, written_as, subtype)
    assert audio.writable_format(info) == expected
    path = tmp_path / f"b{expected[2]}"
    save(path, noise(), RATE, format=expected[0], subtype=expected[1])
    again = probe(path)
    assert (again.format, again.subtype) == expected[:2]


# Bad files


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


def test_samples_that_are_not_finite_are_refused(tmp_path):
    samples = noise(n_channels=1)
    samples[0, [4000, 5000]] = np.nan, np.inf
    sf.write(tmp_path / "a.wav", samples.T, RATE, subtype="FLOAT")
    message = refusal(load, tmp_path / "a.wav")
    assert "2 of 20000" in message
    assert "0.250 s" in message
    assert "frame 4000" in refusal(audio.check_finite, samples, "x.wav")
    with SoundReader(tmp_path / "a.wav") as reader:
        assert "0.250 s" in refusal(list, reader.blocks(1500))
    assert load(tmp_path / "a.wav", start=6000)[0].shape == (1, 14_000)


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


# Folders


def test_find_sounds(tmp_path):
    for name in (
        "b.wav",
        "a/z.FLAC",
        "a/deep/er.m4a",
        ".hidden/x.wav",
        "a/.b.wav.12-ab.part",
        "a/._x.wav",
        "n.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in audio.find_sounds(tmp_path)]
    assert found == ["a/deep/er.m4a", "a/z.FLAC", "b.wav"]
    assert "not a folder" in refusal(audio.find_sounds, tmp_path / "b.wav")


# ffmpeg

FAKE = f"""#!{sys.executable}
import struct, sys
name = sys.argv[sys.argv.index("-i") + 1].removeprefix("file:")
frames = int(open(name).read())
if frames < 0:
    sys.exit("[mov @ 0x1] moov atom not found\\nmore")
sys.stdout.buffer.write(b".snd" + struct.pack(">5I", 32, 2**32 - 1, 6, 44100, 2) + bytes(8))
sys.stdout.buffer.write(struct.pack(f">{{2 * frames}}f", *(i / 1e6 for i in range(2 * frames))))
"""


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch):
    if sys.platform == "win32":
        pytest.skip("the fake is a script")
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


@pytest.mark.usefixtures("fake_ffmpeg")
def test_ffmpeg_reads_what_libsndfile_cannot(tmp_path):
    path = tmp_path / "a.m4a"
    path.write_text("30000")
    expected = (np.arange(60_000) / 1e6).astype(np.float32).reshape(-1, 2).T
    assert probe(path) == audio.AudioInfo(path, 44100, 2, 30_000, "FFMPEG", "M4A")
    assert np.array_equal(load(path)[0], expected)
    assert np.array_equal(load(path, start=25_000, n_frames=700)[0], expected[:, 25_000:25_700])
    with SoundReader(path) as reader:
        assert [block.shape[1] for block in reader.blocks(12_000)] == [12_000, 12_000, 6_000]
        unfinished = reader.blocks(10)
        assert np.array_equal(next(unfinished), expected[:, :10])
        unfinished.close()
    path.write_text("-1")
    assert "(moov atom not found)" in refusal(probe, path)
    path.write_text("0")
    assert "holds no samples" in refusal(probe, path)


def test_advice_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (tmp_path / "a.m4a").write_bytes(b"something")
    assert "install ffmpeg or convert to WAV" in refusal(load, tmp_path / "a.m4a")
    save(tmp_path / "b.wav", noise(), RATE)
    (tmp_path / "b.wav").rename(tmp_path / "b.mp4")
    assert load(tmp_path / "b.mp4")[0].shape == (2, 20_000)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_real_ffmpeg(tmp_path):
    save(tmp_path / "a.wav", tone(440, 48000, 2), 48000)
    video = ["-f", "lavfi", "-i", "testsrc=d=2:s=32x32"]
    for name, inputs, rest in (
        ("a.m4a", [], ["-c:a", "alac"]),
        ("a.mka", [], ["-c:a", "flac"]),
        ("v.mov", video, ["-c:a", "pcm_s16le", "-c:v", "mpeg4"]),
    ):
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-nostdin",
            *inputs,
            "-i",
            tmp_path / "a.wav",
            *rest,
            tmp_path / name,
        ]
        subprocess.run(command, check=True)
        assert probe(tmp_path / name).n_frames == 96_000
        assert np.array_equal(load(tmp_path / name)[0], load(tmp_path / "a.wav")[0])
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\na.wav\n")
    assert "cannot be decoded" in refusal(load, playlist)
    (tmp_path / "cut.m4a").write_bytes((tmp_path / "a.m4a").read_bytes()[:5000])
    assert "cannot be decoded" in refusal(load, tmp_path / "cut.m4a")
