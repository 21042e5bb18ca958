"""What Prometheus reads: counters, a histogram and what the service holds now, in its text format 0.0.4."""

from collections import Counter
from collections.abc import Mapping

BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # seconds


class Counters:
    """What has happened since the service started.

    Attributes:
        requests: by method, route and status.
        jobs: that ended, by state.
        audio_seconds: of sound that was enhanced.
        upload_bytes: that were received.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.jobs: Counter[str] = Counter()
        self.audio_seconds = 0.0
        self.upload_bytes = 0
        self._processing: Counter[float] = Counter()
        self._processing_sum, self._processing_count = 0.0, 0

    def processed(self, seconds: float) -> None:
        """Note the time that a job took in a worker."""
        self._processing_sum += seconds
        self._processing_count += 1
        for bucket in BUCKETS:
            self._processing[bucket] += seconds <= bucket

    @property
    def mean_processing(self) -> float:
        """Seconds that a job takes in a worker; 1 while none has ended."""
        return self._processing_sum / self._processing_count if self._processing_count else 1.0

    def text(self, now: Mapping[str, tuple[str, float]], restarts: Mapping[str, int]) -> str:
        """All of it, for `/metrics`.

        Args:
            now: name -> help and value of what the service holds now.
            restarts: kind of workers -> how many were replaced.
        """
        lines = _family("miase_requests_total", "counter", "Requests answered.")
        for (method, route, status), n in sorted(self.requests.items()):
            lines.append(
                f'miase_requests_total{{method="{method}",route="{_escaped(route)}",status="{status}"}} {n}'
            )
        lines += _family("miase_jobs_total", "counter", "Jobs that ended, by state.")
        lines += [
            f'miase_jobs_total{{state="{state}"}} {self.jobs[state]}'
            for state in ("done", "failed", "cancelled")
        ]
        lines += _family("miase_audio_seconds_total", "counter", "Seconds of sound enhanced.")
        lines.append(f"miase_audio_seconds_total {self.audio_seconds:.3f}")
        lines += _family("miase_upload_bytes_total", "counter", "Bytes of uploads that were stored.")
        lines.append(f"miase_upload_bytes_total {self.upload_bytes}")
        name = "miase_processing_seconds"
        lines += _family(name, "histogram", "Seconds that jobs took in a worker.")
        lines += [f'{name}_bucket{{le="{bucket:g}"}} {self._processing[bucket]}' for bucket in BUCKETS]
        lines.append(f'{name}_bucket{{le="+Inf"}} {self._processing_count}')
        lines += [f"{name}_sum {self._processing_sum:.3f}", f"{name}_count {self._processing_count}"]
        lines += _family("miase_worker_restarts_total", "counter", "Workers that died and were replaced.")
        lines += [f'miase_worker_restarts_total{{kind="{kind}"}} {n}' for kind, n in restarts.items()]
        for name, (text, value) in now.items():
            lines += [*_family(name, "gauge", text), f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
