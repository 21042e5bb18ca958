"""Is a manifest read as it was written, and is what is wrong with a folder named?"""

import dataclasses
import json

import pytest

from miase.errors import CorpusError
from miase.manifest import ManifestItem, discover, read_manifest


def test_does_reading_name_what_is_wrong(tmp_path):
    with pytest.raises(CorpusError, match="not a folder"):
        discover(tmp_path / "missing")
    with pytest.raises(CorpusError, match="no sound files"):
        discover(tmp_path)
    with pytest.raises(CorpusError, match=r"no manifest\.jsonl"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "line", ["{", "null", '{"noisy": "a"}', '{"noisy": "../x", "clean": null, "noise": "white"}', "ESCAPE"]
)
def test_is_a_damaged_manifest_line_named(tmp_path, line):
    item = ManifestItem("noisy/a.flac", None, "white", None, 5.0, 1, 1.0, 16000, 0, "a")
    escape = dataclasses.replace(item, noisy="noisy/../../b.flac")
    good, bad = (json.dumps(dataclasses.asdict(i)) for i in (item, escape))
    (tmp_path / "manifest.jsonl").write_text(f"{good}\n{bad if line == 'ESCAPE' else line}\n")
    with pytest.raises(CorpusError, match="line 2 is damaged"):
        read_manifest(tmp_path)
