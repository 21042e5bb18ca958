"""What is told of a folder before a model learns from it."""

import dataclasses

import numpy as np
import pytest
import soundfile as sf

from miase import Enhancer
from miase.audit import audit
from miase.errors import CorpusError
from miase.judge import speech_share
from miase.pauses import estimated_snr
from signals import speech_like, white

RATE = 16_000


class Oracle:
    """A model that knows the noise: it gives what is left of a recording without it."""

    sample_rate = RATE

    def __init__(self):
        self.clean_of = {}

    def knows(self, noisy, clean):
        self.clean_of[len(noisy)] = clean

    def enhance(self, noisy, sample_rate):
        assert sample_rate == RATE
        return self.clean_of.get(len(noisy), 0 * noisy)[: len(noisy)]


@pytest.fixture
def oracle():
    return Oracle()


def write(folder, name, samples, rate=RATE, subtype="PCM_16"):
    folder.mkdir(exist_ok=True)
    sf.write(folder / name, samples, rate, subtype=subtype)


def speak(folder, name, oracle, seconds, seed=0, snr_db=10.0):
    """Write noisy speech whose clean part the oracle knows; lengths tell the recordings apart."""
    clean = speech_like(seconds, RATE, seed)
    noise = white(seconds, RATE, seed + 100)
    noisy = clean + noise * np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    oracle.knows(noisy, clean)
    write(folder, name, 0.5 * noisy)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_the_snr_is_that_of_the_mixture(snr_db):
    clean, noise = speech_like(6, RATE, 3), white(6, RATE, 4)
    noisy = clean + noise * np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    assert estimated_snr(noisy, RATE) == pytest.approx(snr_db, abs=2.0)


def test_the_snr_does_not_depend_on_the_level():
    noisy = speech_like(4, RATE, 3) + 0.05 * white(4, RATE, 4)
    assert estimated_snr(0.01 * noisy, RATE) == pytest.approx(estimated_snr(noisy, RATE), abs=0.01)


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.zeros(0), np.ones(100)])
def test_without_signal_there_is_no_snr(samples):
    assert np.isnan(estimated_snr(samples, RATE))


def test_speech_that_is_kept_counts_and_speech_that_is_removed_does_not():
    clean = speech_like(3, RATE, 1)
    noisy = clean + 0.02 * white(3, RATE, 2)
    assert speech_share(clean, noisy) > 0.2
    assert speech_share(0.1 * clean, noisy) == 0
    assert speech_share(white(3, RATE, 5), white(3, RATE, 5)) < 0.01
    assert speech_share(np.zeros(10), np.ones(10)) == 0


def test_facts_of_a_mixed_folder(tmp_path, oracle):
    folder = tmp_path / "noisy"
    for i in range(4):
        speak(folder, f"a{i}.wav", oracle, 2 + 0.1 * i, seed=i)
    original, _ = sf.read(folder / "a0.wav")
    write(folder, "b_copy.flac", original)  # another format, the same samples
    write(folder, "c_noise.wav", 0.1 * white(3, RATE, 9))
    write(folder, "d_silent.wav", np.zeros(2 * RATE))
    clipped = np.clip(20 * speech_like(2.7, RATE, 8), -1, 1)
    oracle.knows(clipped, clipped)
    write(folder, "e_loud.wav", clipped)
    (folder / "f_broken.wav").write_bytes(b"RIFF")
    found = audit(folder, oracle)
    by_name = {recording.info.path.name: recording for recording in found.recordings}
    assert len(found.failures) == 1
    assert by_name["b_copy.flac"].copy_of == folder / "a0.wav"
    assert not by_name["c_noise.wav"].has_speech
    assert by_name["c_noise.wav"].level_db == pytest.approx(-20, abs=0.1)
    assert by_name["d_silent.wav"].is_silent
    assert by_name["e_loud.wav"].clipped > 0.01
    assert by_name["a1.wav"].clipped == 0
    useful = [recording.info.path.name for recording in found.useful]
    assert useful == ["a0.wav", "a1.wav", "a2.wav", "a3.wav", "e_loud.wav"]
    text = "\n".join(found.warnings())
    for words in ("1 of 9 recordings cannot", "1 of 8 recordings are copies", "1 of 8 recordings are silent",
                  "1 of 8 recordings seem to hold no speech", "1 of 8 recordings are clipped",
                  "ten minutes or more are advised"):  # fmt: skip
        assert words in text
    facts = dict(found.facts())
    assert facts["recordings"].startswith("8 files, 18 s, 1 unreadable")
    assert facts["rates"] == "16000 Hz: 8"
    assert "30 s or more" in found.refusal()


def test_a_folder_that_will_do_is_not_refused(tmp_path, oracle):
    for i in range(3):
        speak(tmp_path / "noisy", f"a{i}.wav", oracle, 11 + 0.1 * i, seed=i)
    found = audit(tmp_path / "noisy", oracle)
    # The oracle knows whole recordings; the audit listens to ten seconds of each.
    recordings = tuple(dataclasses.replace(recording, speech=0.5) for recording in found.recordings)
    assert dataclasses.replace(found, recordings=recordings).refusal() == ""


@pytest.mark.parametrize(
    ("kind", "words"),
    [("noise", "seems to hold speech"), ("silence", "all recordings are silent"), ("one", "only one")],
)
def test_what_cannot_work_is_refused_with_a_sentence(tmp_path, oracle, kind, words):
    folder = tmp_path / "noisy"
    if kind == "one":
        speak(folder, "a.wav", oracle, 9, seed=1)
        write(folder, "a.wav", np.tile(sf.read(folder / "a.wav")[0], 4))
        found = audit(folder, oracle)
        long = dataclasses.replace(found.recordings[0], speech=0.5)
        found = dataclasses.replace(found, recordings=(long,))
    else:
        for i in range(3):
            write(folder, f"{i}.wav", (0.1 if kind == "noise" else 0.0) * white(2, RATE, i))
        found = audit(folder, oracle)
    assert words in found.refusal()


def test_a_folder_without_a_readable_file_is_an_error(tmp_path, oracle):
    (tmp_path / "a.wav").write_bytes(b"nothing")
    with pytest.raises(CorpusError, match="no recording that can be read"):
        audit(tmp_path, oracle)


def test_the_packaged_model_tells_speech_from_noise(tmp_path):
    enhancer = Enhancer.from_pretrained("default", "cpu")
    write(tmp_path, "speech.wav", speech_like(3, RATE, 1) + 0.02 * white(3, RATE, 2))
    write(tmp_path, "noise.wav", 0.1 * white(3, RATE, 3))
    found = audit(tmp_path, enhancer)
    assert [recording.has_speech for recording in found.recordings] == [False, True]
