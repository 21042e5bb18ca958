"""Load on the service: many clients at once, and how it fares.

    python benchmarks/service.py --seconds 120 -o benchmarks/results/service.json

Starts `miase serve` on a free port of this machine. Each client, under a name of its own, sends a recording
to /v1/enhance, waits for the result and sends the next, as fast as it can; meanwhile /healthz is asked ten
times a second, and the memory of the service with its workers is read from /proc. Needs Linux.
"""

import argparse
import http.client
import io
import json
import os
import platform
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile as sf

RATE = 16000
PAGE_BYTES = 4096


def make_recording(seconds: float, seed: int) -> bytes:
    """A WAV of noise with a level that comes and goes."""
    rng = np.random.default_rng(seed)
    samples = 0.1 * rng.standard_normal(round(seconds * RATE))
    samples *= 1 + 0.8 * np.sin(2 * np.pi * 3 * np.arange(len(samples)) / RATE)
    stream = io.BytesIO()
    sf.write(stream, samples.clip(-1, 1), RATE, "PCM_16", format="WAV")
    return stream.getvalue()


class Load:
    """What the clients saw, gathered from their threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.statuses: Counter[str] = Counter()
        self.done: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.health: list[float] = []
        self.retries_without_header = 0


def enhance(port: int, client: int, body: bytes, kind: str, load: Load, deadline: float) -> None:
    """One client, until the time is over."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    while time.monotonic() < deadline:
        start = time.monotonic()
        try:
            headers = {"Content-Type": kind, "X-Client": f"client {client}"}
            connection.request("POST", "/v1/enhance", body, headers)
            answer = connection.getresponse()
            data = answer.read()
            status = str(answer.status)
            if status == "200" and not data.startswith(b"RIFF"):
                status = "200 without a sound"
        except (OSError, http.client.HTTPException) as error:
            status, answer = type(error).__name__, None
            connection.close()
        with load.lock:
            load.statuses[status] += 1
            if status == "200":
                load.done[client] += 1
                load.seconds.append(time.monotonic() - start)
            elif status == "429" and answer is not None and "Retry-After" not in answer.headers:
                load.retries_without_header += 1
        if status == "429" and answer is not None:
            time.sleep(float(answer.headers.get("Retry-After", "1")))
    connection.close()


def watch_health(port: int, load: Load, stop: threading.Event) -> None:
    """Ask ten times a second whether it works."""
    while not stop.wait(0.1):
        start = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/healthz")
            ok = connection.getresponse().read().startswith(b'{"status":"ok"')
        except OSError:
            ok = False
        finally:
            connection.close()
        load.health.append(time.monotonic() - start if ok else float("inf"))


def resident_mb(pid: int) -> tuple[float, float]:
    """Memory of the service, and of it with all its workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def own(number: str | int) -> float:
        try:
            return int(Path(f"/proc/{number}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6
        except OSError:  # it has ended
            return 0.0

    return own(pid), own(pid) + sum(map(own, children))


def spread(values: list[float]) -> dict[str, float]:
    """Percentiles."""
    found = np.percentile(values, [50, 95, 99, 100])
    return {name: round(float(v), 4) for name, v in zip(("p50", "p95", "p99", "max"), found, strict=True)}


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Put the load on a fresh service."""
    boundary = secrets.token_hex(16)
    recording = make_recording(arguments.sound, 0)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="noisy.wav"\r\n\r\n'
    body = head.encode() + recording + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "miase", "serve", "--port", "0", "--work-dir", work]
        command += ["--workers", str(arguments.workers), "--threads", "1", "--device", "cpu"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        found = re.search(r":(\d+)/", process.stdout.readline())
        assert found, "the service did not start"
        port = int(found[1])
        load, stop = Load(), threading.Event()
        deadline = time.monotonic() + arguments.seconds
        clients = [
            threading.Thread(target=enhance, args=(port, i, body, kind, load, deadline))
            for i in range(arguments.clients)
        ]
        watch = threading.Thread(target=watch_health, args=(port, load, stop))
        memory = []
        for thread in (*clients, watch):
            thread.start()
        while any(thread.is_alive() for thread in clients):
            memory.append(resident_mb(process.pid))
            time.sleep(0.5)
        seconds = time.monotonic() - deadline + arguments.seconds
        stop.set()
        watch.join()
        left = [path.name for path in Path(work).glob("*/*") if path.is_dir()]
        process.terminate()
        printed = process.communicate(timeout=60)[0]
        left += [path.name for path in Path(work).iterdir()]
    counts = [load.done[i] for i in range(arguments.clients)]
    quarter = max(1, len(memory) // 4)
    return {
        "clients": arguments.clients,
        "seconds": round(seconds, 1),
        "sound_seconds": arguments.sound,
        "workers": arguments.workers,
        "answers": dict(load.statuses),
        "sound_seconds_per_second": round(sum(counts) * arguments.sound / seconds, 1),
        "answer_seconds": spread(load.seconds),
        "done_per_client": {"min": min(counts), "max": max(counts), "all": counts},
        "healthz_seconds": spread(load.health),
        "healthz_asked": len(load.health),
        "healthz_above_200_ms": sum(value > 0.2 for value in load.health),
        "memory_mb": {
            "service_first_quarter": round(max(own for own, _ in memory[:quarter]), 1),
            "service_last_quarter": round(max(own for own, _ in memory[-quarter:]), 1),
            "with_workers_peak": round(max(together for _, together in memory), 1),
        },
        "answers_429_without_retry_after": load.retries_without_header,
        "left_behind": left,
        "printed": printed,
        "hardware": f"{cpu_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        "python": platform.python_version(),
    }


def cpu_name() -> str:
    """As /proc/cpuinfo has it."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def main() -> None:
    """Run the load and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--sound", type=float, default=10, help="seconds of each recording")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    text = json.dumps(run(arguments), indent=2)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
