"""How fast, against the plain networks and against what the machine could do: all as ratios of paired runs.

    python benchmarks/speed.py [--seconds 60] [--repeats 3] [--hour]

CPU time of one thread, ways taken in turn, each in a process of its own, medians. --hour also runs the
command on one minute and on an hour of sound and measures its memory. Writes benchmarks/results/speed.json.
"""

import argparse
import functools
import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from plain import PlainDCUNet
from roofline import floor_seconds, measure_ceiling, parts_of
from turns import by_turns, ratios

from miase import Enhancer
from miase.config import ModelConfig
from miase.models import MODELS, build_model
from miase.models.inference import FusedNetwork
from miase.streaming import ModelStream
from miase.writing import SoundWriter

ROOT = Path(__file__).parents[1]
PUBLISHED = {"sample_rate": 48000, "n_fft": 3072, "hop_length": 768, "n_blocks": 6}
PACKAGES = ("torch", "numpy", "onnxruntime", "soundfile", "soxr")
WAYS = ("plain", "plain by windows", "module", "prepared", "bfloat16")
N_WINDOWS = 1  # of 256 frames at once, as Enhancer has it for files


def main() -> None:
    """Parse the command, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of sound in each run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hour", action="store_true")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "speed.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results: dict = {"machine": machine(), "ceiling": measure_ceiling()}
    show("ceiling", results["ceiling"])
    packaged = Enhancer.from_pretrained(device="cpu")
    results["roofline"] = {
        name: roofline(ModelConfig(name, **PUBLISHED), results["ceiling"]) for name in MODELS
    }
    results["roofline"]["default"] = roofline(packaged.model.config, results["ceiling"])
    for network, name in (("dcunet10_ctstm", "dcunet10_ctstm at 48 kHz"), ("default", "default")):
        ways = WAYS if network != "default" else (*WAYS, "onnxruntime")
        prepare = functools.partial(prepared, network, arguments.seconds)
        results[name] = ratios(by_turns(prepare, ways, arguments.repeats, settling=1), "prepared")
        cpu_seconds = results[name]["cpu_seconds"]
        results[name]["times_real_time"] = {way: arguments.seconds / s for way, s in cpu_seconds.items()}
        floor = results["roofline"][network]["floor_seconds"]
        results[name]["over_floor"] = {way: s / arguments.seconds / floor for way, s in cpu_seconds.items()}
        show(name, results[name])
    results["streaming"] = streaming(packaged, min(arguments.seconds, 20.0))
    show("streaming", results["streaming"])
    if arguments.hour:
        results["command"] = command()
        show("command", results["command"])
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def machine() -> dict:
    """Hardware, versions, threads."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        cpu = next((s.split(":")[1].strip() for s in info.read_text().splitlines() if "model name" in s), cpu)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "cpu": cpu,
        "capability": capability,
        "threads": 1,
        "python": platform.python_version(),
        **versions,
    }


def roofline(config: ModelConfig, ceiling: dict) -> dict:
    """Multiply-adds and bytes for a second of sound, and the least time for it."""
    parts = parts_of(config)
    return {
        "parts": {part.name: {"macs": part.macs, "bytes": part.n_bytes} for part in parts},
        "macs": sum(part.macs for part in parts),
        "bytes": sum(part.n_bytes for part in parts),
        "floor_seconds": floor_seconds(parts, ceiling),
    }


def prepared(network: str, seconds: float, way: str) -> Callable[[], object]:
    """One of the ways to enhance so many seconds of sound, which waits to be timed.

    The plain network on the whole recording and by windows, ours in PyTorch, prepared, in bfloat16, and on
    onnxruntime.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if way == "onnxruntime":
        return on_onnxruntime(network, seconds)
    if network == "default":
        model = Enhancer.from_pretrained(device="cpu").model
    else:
        model = build_model(ModelConfig(network, **PUBLISHED)).eval()
    noisy = 0.1 * torch.randn(1, round(seconds * model.sample_rate))
    if way in {"prepared", "bfloat16"}:
        fused = FusedNetwork(model, torch.bfloat16 if way == "bfloat16" else torch.float32)
        return lambda: ModelStream(model, fused, fused.piece, N_WINDOWS).feed(noisy[0].numpy(), last=True)
    whole = {
        "plain": PlainDCUNet(model),
        "plain by windows": PlainDCUNet(model, model.config.window_frames),
        "module": model,
    }[way]
    return torch.inference_mode()(lambda: whole(noisy))


def on_onnxruntime(model: str, seconds: float) -> Callable[[], object]:
    """A packaged model."""
    from miase.export import export_onnx
    from miase.onnx_enhancer import open_session

    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, Path(folder) / "a.onnx")
        session = open_session(Path(folder) / "a.onnx", 1)
    noisy = 0.1 * np.random.default_rng(0).standard_normal((1, round(seconds * 16000)), np.float32)
    return lambda: session.run(None, {"noisy": noisy})


def streaming(enhancer: Enhancer, seconds: float) -> dict:
    """Latency, cost and difference from the file's estimate, fed 10 ms at a time."""
    noisy = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 16000), np.float32)
    whole = enhancer.enhance(noisy, 16000)
    result = {}
    for lookahead in (None, 0.5, 0.2, 0.0):
        streamer = enhancer.streamer(16000, lookahead=lookahead)
        start = time.process_time()
        blocks = [streamer.feed(noisy[i : i + 160]) for i in range(0, noisy.size, 160)]
        estimate = np.concatenate([*blocks, streamer.flush()])
        spent = time.process_time() - start
        error = np.square(estimate - whole).sum() / np.square(whole).sum()
        result["all" if lookahead is None else f"lookahead {lookahead} s"] = {
            "latency_seconds": streamer.latency_seconds,
            "times_real_time": seconds / spent,
            "difference_db": float(10 * np.log10(error + 1e-20)),
        }
    return result


def command() -> dict:
    """CPU time and peak memory of the command on one minute and on an hour of 44.1 kHz sound."""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (1, 60):
            source, target = Path(folder) / f"{minutes}.wav", Path(folder) / f"{minutes}_out.wav"
            rng = np.random.default_rng(0)
            with SoundWriter(source, 44100, 1) as writer:
                for _ in range(minutes):
                    writer.write(0.1 * rng.standard_normal((1, 60 * 44100), np.float32))
            words = ["-m", "miase", "enhance", source, "-o", target, "-q", "--threads", "1"]
            code = (
                "import json, resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
                "u = resource.getrusage(resource.RUSAGE_CHILDREN); "
                "print(json.dumps([u.ru_utime + u.ru_stime, u.ru_maxrss]))"
            )
            run = [sys.executable, "-c", code, sys.executable, *map(str, words)]
            seconds, peak = json.loads(subprocess.run(run, check=True, capture_output=True).stdout)
            result[f"{minutes} min"] = {
                "times_real_time": 60 * minutes / seconds,
                "cpu_seconds": seconds,
                "peak_mb": peak * (1 if sys.platform == "darwin" else 1024) / 1e6,
            }
    result["hour_over_minute"] = {
        key: result["60 min"][key] / result["1 min"][key] for key in ("cpu_seconds", "peak_mb")
    }
    return result


def show(title: str, values: dict) -> None:
    """A block of the report."""
    print(title)
    for key, value in values.items():
        if isinstance(value, dict):
            print(f"  {key}: " + ", ".join(f"{name} {number:.4g}" for name, number in value.items()))
        else:
            print(f"  {key}: {value:.4g}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
