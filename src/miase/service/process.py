"""What a worker process runs: it says when it is ready, takes tasks from its pipe, and answers.

While a task runs it tells how far it is and looks for a request to stop. When the service dies, the pipe ends
and so does the worker.
"""

import errno
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from miase.errors import AudioError, MiaseError, StorageError
from miase.service.tasks import Task, TooLongError

REPORT_SECONDS = 0.1  # between two reports of progress
NICENESS = 5  # of workers, so that the service itself answers at once


class _CancelledError(Exception):
    """The service asked the worker to stop."""


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs to know.

    Attributes:
        models: name -> what `miase enhance -m` takes; empty for workers that use none.
        device: auto, cpu, cuda or another device that torch knows.
        threads: CPU threads.
    """

    models: tuple[tuple[str, str], ...] = ()
    device: str = "auto"
    threads: int = 1


@dataclass(frozen=True)
class ModelCard:
    """What the service tells of a model."""

    name: str
    sample_rate: int
    licence: str
    summary: str


class _Models(dict[str, Any]):
    """Enhancers by name, loaded at the first use."""

    def __init__(self, setup: WorkerSetup) -> None:
        super().__init__()
        self._setup = setup

    def __missing__(self, name: str) -> Any:
        from miase.batch import BatchOptions, load_enhancer

        source = dict(self._setup.models)[name]
        self[name] = load_enhancer(
            BatchOptions(model=source, device=self._setup.device, threads=self._setup.threads)
        )
        return self[name]

    def cards(self) -> list[ModelCard]:
        from miase.checkpoint import read_card, read_config
        from miase.errors import WeightsError
        from miase.registry import resolve

        cards = []
        for name, source in self._setup.models:
            config, _ = read_config(resolve(source))
            try:
                text = read_card(resolve(source)).splitlines()
            except WeightsError:
                text = []
            title = next((line.removeprefix("# ") for line in text if line.startswith("# ")), config.name)
            licence = next((line for line in text if line.startswith("- **Licence**")), "")
            stated = licence.partition(":")[2].strip().rstrip(".") or "not stated"
            summary = title.replace("`", "").removeprefix(f"{name}: ")
            cards.append(ModelCard(name, config.sample_rate, stated, summary))
        return cards


def work(connection: Connection, setup: WorkerSetup) -> None:
    """What a worker process runs until its pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the service ends workers
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        models = _Models(setup)
        cards = models.cards() if setup.models else []
        if setup.models:
            models[setup.models[0][0]]
        connection.send(("ready", cards))
        while True:
            task = connection.recv()
            if task is not None:
                connection.send(_outcome(task, models, connection))
    except MiaseError as error:
        connection.send(("unfit", str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the service is gone


def _outcome(task: Task, models: _Models, connection: Connection) -> tuple[str, Any]:
    reported = 0.0

    def progress(share: float) -> None:
        nonlocal reported
        while connection.poll():
            if connection.recv() is None:
                raise _CancelledError
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            connection.send(("progress", share))

    try:
        return "done", task.run(models, progress)
    except _CancelledError:
        return "cancelled", None
    except StorageError as error:
        return "disk", str(error)
    except TooLongError as error:
        return "long", str(error)
    except AudioError as error:
        return "sound", str(error)
    except MiaseError as error:
        return "failed", str(error)
    except OSError as error:
        if isinstance(error, EOFError | BrokenPipeError | ConnectionResetError):
            raise
        kind = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "failed"
        return kind, f"the file cannot be worked on ({error.strerror})"
    except MemoryError:
        return "failed", "the memory does not suffice for this file; cut it"
    except RuntimeError as error:
        return "failed", f"the file cannot be worked on ({str(error).splitlines()[0]})"
