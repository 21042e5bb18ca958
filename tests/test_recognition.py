"""The parts of benchmarks/recognition.py that need no recogniser."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "benchmarks" / "recognition.py"


@pytest.fixture(scope="module")
def recognition():
    spec = importlib.util.spec_from_file_location("recognition", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("s30_l_bbil7a", "bin blue in l seven again"),
        ("s1_pwwzzs-copy2", "place white with z zero soon"),
        ("s30_l_lwbn5p_WRONG_lwwn5p", "lay white with n five please"),
        ("s1_bbaw2n", None),  # GRID has no letter w
        ("speech", None),
    ],
)
def test_the_file_name_tells_the_words(recognition, stem, words):
    assert recognition.sentence(stem) == (words and words.split())


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b c", "a c", 1),
        ("a b", "a b c d", 2),
        ("a b", "", 2),
    ],
)
def test_word_errors_are_counted(recognition, said, heard, errors):
    assert recognition.word_errors(said.split(), heard.split()) == errors
