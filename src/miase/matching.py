"""Which files belong together: recordings, clean speech and estimates, matched by relative path."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from miase.errors import EvaluationError
from miase.manifest import read_manifest
from miase.sounds import find_sounds


@dataclass(frozen=True)
class Item:
    """A noisy file and its partners.

    Attributes:
        name: of the file, as the report shows it.
        noisy: the recording.
        clean: the clean speech in it, if there is any.
        enhanced: its estimates by system, for systems that are folders.
        group: noise class or the like; the report gives the means of each group, too.
    """

    name: str
    noisy: Path
    clean: Path | None = None
    enhanced: Mapping[str, Path] = field(default_factory=dict)
    group: str = ""


def find_items(noisy: Path, clean: Path | None, enhanced: Mapping[str, Path]) -> list[Item]:
    """Match files by their path below the folders; the suffix may differ.

    Raises:
        EvaluationError: a file has no partner, or a name is there in two formats.
    """
    groups: dict[str, str] = {}
    if (noisy / "manifest.jsonl").is_file():
        manifest = [item for item in read_manifest(noisy) if item.take == 1]
        groups = {
            _key(PurePosixPath(item.noisy).relative_to("noisy")): item.noise_class or "" for item in manifest
        }
        if clean is None and manifest and all(item.clean for item in manifest):
            clean = noisy
        noisy = noisy / "noisy"
    if clean is not None and (clean / "manifest.jsonl").is_file():
        clean = clean / "clean"
    recordings = _by_key(noisy)
    if not recordings:
        raise EvaluationError(f"{noisy} holds no sound files; name a folder of recordings")
    partners = {name: _by_key(folder) for name, folder in enhanced.items()}
    references = _by_key(clean) if clean is not None else {}
    folders = {str(clean): references} if clean is not None else {}
    for where, found in (folders | {str(enhanced[name]): found for name, found in partners.items()}).items():
        _require_same(recordings, found, str(noisy), where)
    return [
        Item(
            path.relative_to(noisy).as_posix(),
            path,
            references.get(key),
            {name: found[key] for name, found in partners.items()},
            groups.get(key, ""),
        )
        for key, path in recordings.items()
    ]


def _key(relative: PurePosixPath | Path) -> str:
    return relative.with_suffix("").as_posix()


def _by_key(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in find_sounds(folder):
        key = _key(path.relative_to(folder))
        if key in found:
            raise EvaluationError(
                f"{folder} holds {key} in two formats, {found[key].name} and {path.name}; remove one"
            )
        found[key] = path
    return found


def _require_same(ours: Mapping[str, Path], theirs: Mapping[str, Path], where: str, there: str) -> None:
    for keys, has, lacks in (
        (ours.keys() - theirs.keys(), where, there),
        (theirs.keys() - ours.keys(), there, where),
    ):
        if keys:
            first = ", ".join(sorted(keys)[:3])
            raise EvaluationError(
                f"{len(keys)} of the files of {has} have no partner in {lacks}: {first}"
                f"{' ...' if len(keys) > 3 else ''}; both need the same files, by their path without suffix"
            )
