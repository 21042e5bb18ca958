"""The settings of the service: every limit has a name, is checked once and is a flag of `miase serve`."""

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from miase.config import require
from miase.errors import ConfigError

TOKEN_VARIABLE = "MIASE_TOKEN"
SHORTEST_TOKEN = 16  # characters
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ServiceConfig:
    """How `miase serve` serves, and what it allows.

    Attributes:
        host: address to bind to; anything but a loopback address needs a token.
        port: to bind to; 0 takes a free one.
        token: bearer token that the API asks for; the environment variable MIASE_TOKEN gives it unseen by
            other users of the machine.
        allow_host: names by which this server may be called, beside its address and localhost: behind a
            proxy, the public one. Repeat the flag for each.
        models: names from 'miase models list' or folders of models, the default one first; without it, all
            packaged models. Repeat the flag for each.
        device: auto, cpu, cuda or another device that torch knows.
        workers: processes that enhance, each with its own copy of the model.
        threads: CPU threads of each of them; 0 shares the cores among them, and leaves the choice to torch
            where there is one, as 'miase enhance' does.
        upload_mb: largest upload, in MB of 1e6 bytes.
        minutes: longest sound.
        channels: of a sound, at most.
        queue: jobs that may wait.
        jobs_per_client: jobs of one client that may wait or run.
        kept_jobs: finished jobs that are kept at once; beyond it the oldest goes first.
        result_minutes: how long a finished job and its files are kept.
        preview: length of the previews that the page asks for, in seconds.
        scored_seconds: of each sound, from its start, that DNSMOS rates.
        upload_kb_per_second: slowest upload, averaged after its first ten seconds.
        head_seconds: time within which the head of a request must have come.
        stall_seconds: a worker that makes no progress for so long is replaced.
        connections: open at once.
        work_dir: where the private folder with the uploads is made; the system's temporary folder by default.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    token: Annotated[str | None, Parameter(env_var=TOKEN_VARIABLE, show_default=False)] = field(
        default=None, repr=False
    )
    allow_host: tuple[str, ...] = ()
    models: Annotated[tuple[str, ...], Parameter(name=("-m", "--model"))] = ()
    device: str = "auto"
    workers: int = 1
    threads: int = 0
    upload_mb: float = 200.0
    minutes: float = 60.0
    channels: int = 16
    queue: int = 64
    jobs_per_client: int = 16
    kept_jobs: int = 200
    result_minutes: float = 30.0
    preview: float = 10.0
    scored_seconds: float = 12.0
    upload_kb_per_second: float = 50.0
    head_seconds: float = 15.0
    stall_seconds: float = 120.0
    connections: int = 512
    work_dir: Path | None = None

    def __post_init__(self) -> None:
        require(bool(self.host.strip()), "host", self.host, "an address, such as 127.0.0.1")
        require(0 <= self.port <= 65535, "port", self.port, "0 to 65535")
        require(self.threads >= 0, "threads", self.threads, "0 or more")
        counts = ("workers", "channels", "queue", "jobs_per_client", "kept_jobs", "connections")
        for name in counts:
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        amounts = (
            "upload_mb", "minutes", "result_minutes", "preview", "scored_seconds", "head_seconds",
            "stall_seconds",
        )  # fmt: skip
        for name in amounts:
            value = getattr(self, name)
            require(value > 0, name, value, "above 0")
        require(self.upload_kb_per_second >= 0, "upload_kb_per_second", self.upload_kb_per_second, "0 or up")
        if self.token is not None:
            long_enough = len(self.token) >= SHORTEST_TOKEN and self.token.isascii()
            if not long_enough or any(c.isspace() or not c.isprintable() for c in self.token):
                # The message must not show the token: it ends in logs.
                raise ConfigError(
                    f"the token must have {SHORTEST_TOKEN} or more ASCII characters without spaces; make one "
                    f'with: python -c "import secrets; print(secrets.token_urlsafe(24))"'
                )
        elif not is_loopback(self.host):
            raise ConfigError(
                f"host is {self.host!r}, which others can reach; give a token (--token or {TOKEN_VARIABLE}), "
                f"or serve on 127.0.0.1"
            )

    @property
    def worker_threads(self) -> int:
        """CPU threads of a worker; 0 leaves the choice to torch."""
        if self.threads or self.workers == 1:
            return self.threads
        return max(1, (os.cpu_count() or 1) // self.workers)

    @property
    def upload_bytes(self) -> int:
        """Largest upload, in bytes."""
        return int(self.upload_mb * 1e6)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # another name: where it leads may change
