"""The house: imports go one way, the public names exist, the command starts at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import miase

PACKAGE = Path(miase.__file__).parent

# Row by row, each may import from the rows above it.
ROWS = [
    {"errors"},
    {"config"},
    {"config_file"},
    {"sounds"},
    {"ffmpeg", "resampling", "manifest"},
    {"audio", "writing", "codec", "sources", "noise", "pauses", "stft", "registry", "overlap"},
    {
        "mixing",
        "augment",
        "rooms",
        "models",
        "losses",
        "first_pass",
        "loudness",
        "metrics",
        "classical",
        "peers",
        "summary",
    },
    {"corpus", "dataset", "objectives", "checkpoint", "judge", "matching"},
    {"streamer", "streaming"},
    {"shifts", "full_band"},
    {"cleanest", "enhance", "health", "onthefly", "parallel", "plan", "schedule"},
    {"onnx_enhancer", "learner", "examples"},
    {"card", "resume", "training_log", "audit"},
    {"train"},
    {"batch", "piping", "doctor", "systems", "export"},
    {"stamp", "scoring"},
    {"evaluate", "gate"},
    {"report", "protocol", "adapt"},
    {"comparison"},
    {"compare"},
    {"service"},
    {"verbs"},
    {"cli"},
    {"__main__"},
]
LAZY = {"miase": {"enhance", "config"}}


def module_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "miase":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("miase."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("miase."))


def row_of(module):
    return next(i for i, row in enumerate(ROWS) if module in row)


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(PACKAGE).as_posix()
)
def test_imports_go_one_way(path):
    module = module_of(path)
    if module == "__init__":
        return
    for imported in imports_of(path):
        if imported != module:
            assert row_of(imported) < row_of(module), f"{module} imports {imported}"


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("lightning_fabric", {"train", "learner", "parallel"}),
        ("soundfile", {"audio", "writing", "codec", "doctor"}),
        ("soxr", {"resampling"}),
        ("pesq", {"metrics"}),
        ("pyroomacoustics", {"rooms"}),
        ("fastapi", {"service"}),
        ("uvicorn", {"service"}),
    ],
)
def test_a_package_is_imported_in_one_place(package, allowed):
    users = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] == package for name in names):
                users.add(module_of(path))
    assert users <= allowed


def test_only_audio_runs_ffmpeg():
    users = {module_of(path) for path in PACKAGE.rglob("*.py") if "ffmpeg" in imports_of(path)}
    assert users == {"audio"}


def test_public_names_exist():
    for name in miase.__all__:
        assert getattr(miase, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        miase.nonsense  # noqa: B018


def test_help_needs_neither_torch_nor_numpy():
    code = (
        "import sys; from miase.cli import run; run(['--help']); "
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.rstrip().endswith("[]")
    assert "enhance" in result.stdout
