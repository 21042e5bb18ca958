"""Is what libsndfile cannot open decoded by ffmpeg, and is a missing or failing ffmpeg named?"""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from files import RATE, noise, refusal, tone
from miase.audio import SoundReader, load, probe
from miase.sounds import AudioInfo
from miase.writing import save

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
    assert probe(path) == AudioInfo(path, 44100, 2, 30_000, "FFMPEG", "M4A")
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
