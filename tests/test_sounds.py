"""Are sound files found, and samples that are not finite refused?"""

import numpy as np
import soundfile as sf

from files import RATE, noise, refusal
from miase.audio import SoundReader, load
from miase.sounds import check_finite, find_sounds


def test_samples_that_are_not_finite_are_refused(tmp_path):
    samples = noise(n_channels=1)
    samples[0, [4000, 5000]] = np.nan, np.inf
    sf.write(tmp_path / "a.wav", samples.T, RATE, subtype="FLOAT")
    message = refusal(load, tmp_path / "a.wav")
    assert "2 of 20000" in message
    assert "0.250 s" in message
    assert "frame 4000" in refusal(check_finite, samples, "x.wav")
    with SoundReader(tmp_path / "a.wav") as reader:
        assert "0.250 s" in refusal(list, reader.blocks(1500))
    assert load(tmp_path / "a.wav", start=6000)[0].shape == (1, 14_000)


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
    found = [path.relative_to(tmp_path).as_posix() for path in find_sounds(tmp_path)]
    assert found == ["a/deep/er.m4a", "a/z.FLAC", "b.wav"]
    assert "not a folder" in refusal(find_sounds, tmp_path / "b.wav")
