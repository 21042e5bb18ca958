"""Worker processes, and the fair queue that they take from.

A worker is a spawned process at the other end of a pipe. It says when it is ready, takes a task, tells how
far it is, looks for a request to stop between blocks, and gives the result or a sentence on what failed. When
it dies, its task fails and another worker takes its place; when the service dies, the pipe ends and so does
the worker.
"""

import asyncio
import contextlib
import errno
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from miase.errors import AudioError, MiaseError, ServiceError, StorageError
from miase.service.tasks import Task, TooLongError

CANCEL_SECONDS = 1.0  # a worker that has not stopped by then is killed
REPORT_SECONDS = 0.1  # between two reports of progress
NICENESS = 5  # of workers, so that the service itself answers at once
LONGEST_PAUSE = 30.0  # seconds between attempts to start a worker that dies


class _CancelledError(Exception):
    """The service asked the worker to stop."""


# ---- in the worker process


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


# ---- in the service


class TaskError(ServiceError):
    """A task failed.

    Attributes:
        kind: sound (it is none, or damaged), long, disk (full), died (the worker) or failed.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Ticket:
    """A task in the queue, and what becomes of it.

    Attributes:
        future: its result, a TaskError, or cancelled.
    """

    def __init__(
        self,
        task: Task,
        on_start: Callable[[], None] = lambda: None,
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> None:
        self.task = task
        self.on_start, self.on_progress = on_start, on_progress
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.worker: Worker | None = None


class FairQueue:
    """Takes turns among clients: each gives one ticket, the earliest, before any gives a second."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Ticket]] = {}  # in the order of the turns
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, client: str, ticket: Ticket) -> None:
        """Append a ticket."""
        self._waiting.setdefault(client, deque()).append(ticket)
        self._filled.set()

    async def take(self) -> Ticket:
        """The next ticket, as soon as there is one."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        client = next(iter(self._waiting))
        tickets = self._waiting.pop(client)
        ticket = tickets.popleft()
        if tickets:
            self._waiting[client] = tickets  # behind all others
        return ticket

    def remove(self, ticket: Ticket) -> bool:
        """Take a ticket out; whether it was there."""
        for client, tickets in self._waiting.items():
            if ticket in tickets:
                tickets.remove(ticket)
                if not tickets:
                    del self._waiting[client]
                return True
        return False

    def position(self, ticket: Ticket) -> int | None:
        """How many are taken before it; None where it does not wait."""
        clients = list(self._waiting)
        for turn, client in enumerate(clients):
            tickets = self._waiting[client]
            if ticket in tickets:
                own = tickets.index(ticket)
                others = (
                    min(len(self._waiting[other]), own + (1 if i < turn else 0))
                    for i, other in enumerate(clients)
                    if other != client
                )
                return own + sum(others)
        return None


class Worker:
    """A process, seen from the service."""

    def __init__(self, setup: WorkerSetup, threads: ThreadPoolExecutor) -> None:
        self._setup, self._threads = setup, threads
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> list[ModelCard]:
        """Start the process and wait until it is ready; raises TaskError where it dies on the way.

        Raises:
            ServiceError: a model cannot be used.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, self._setup), daemon=True)
        self._process.start()
        theirs.close()
        kind, content = await self._receive(None)
        if kind == "unfit":
            raise ServiceError(content)
        cards: list[ModelCard] = content
        return cards

    async def run(self, ticket: Ticket, stall_seconds: float) -> Any:
        """Give the result of the task; raises TaskError, or _CancelledError where it was asked to stop."""
        assert self._connection is not None
        try:
            self._connection.send(ticket.task)
        except OSError:
            raise TaskError("died", "the worker process was gone; try again") from None
        while True:
            kind, content = await self._receive(stall_seconds)
            if kind == "progress":
                ticket.on_progress(content)
            elif kind == "done":
                return content
            elif kind == "cancelled":
                raise _CancelledError
            else:
                raise TaskError(kind, content)

    async def _receive(self, stall_seconds: float | None) -> tuple[str, Any]:
        assert self._connection is not None
        loop = asyncio.get_running_loop()
        waiting = loop.run_in_executor(self._threads, self._connection.recv)
        done, _ = await asyncio.wait((waiting,), timeout=stall_seconds)
        if not done:
            self.kill()
            with contextlib.suppress(EOFError, OSError):
                await waiting
            raise TaskError(
                "died", f"the worker made no progress for {stall_seconds:g} s and was ended; try again"
            )
        try:
            message: tuple[str, Any] = waiting.result()
        except (EOFError, OSError):
            self.kill()
            raise TaskError(
                "died",
                "the worker process died while it worked on this file; only this job is lost, try again",
            ) from None
        return message

    def cancel(self) -> None:
        """Ask it to stop what it is doing."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.send(None)

    def kill(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process and wait for it."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Pool:
    """Workers of one kind, and their queue.

    Args:
        n_workers: processes.
        setup: what they need.
        stall_seconds: without progress, after which one is replaced.

    Attributes:
        queue: what waits.
        n_ready: workers that are there.
        n_running: tasks that are being worked on.
        n_restarts: workers that had to be replaced.
        cards: of the models, known when the first worker is ready.
    """

    def __init__(self, n_workers: int, setup: WorkerSetup, stall_seconds: float) -> None:
        self.queue = FairQueue()
        self.n_ready = self.n_running = self.n_restarts = 0
        self.cards: list[ModelCard] = []
        self._stall_seconds = stall_seconds
        self._threads = ThreadPoolExecutor(n_workers, "miase-worker")
        self.workers = [Worker(setup, self._threads) for _ in range(n_workers)]
        self._tasks: list[asyncio.Task[None]] = []
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start the workers and wait for the first of them.

        Raises:
            ServiceError: they cannot work, as with a model that is damaged.
        """
        self._tasks = [asyncio.create_task(self._serve(worker)) for worker in self.workers]
        await self._ready

    async def call(self, task: Task, client: str = "") -> Any:
        """Have a task done; a caller that is cancelled stops it."""
        ticket = Ticket(task)
        self.queue.put(client, ticket)
        try:
            return await asyncio.shield(ticket.future)
        except asyncio.CancelledError:
            await self.cancel(ticket)
            raise

    async def cancel(self, ticket: Ticket) -> None:
        """Stop a task, within about a second; it no longer touches its files when this returns."""
        if self.queue.remove(ticket):
            ticket.future.cancel()
        if ticket.future.done() or ticket.worker is None:
            return
        ticket.worker.cancel()
        done, _ = await asyncio.wait((ticket.future,), timeout=CANCEL_SECONDS)
        if not done and ticket.worker is not None:
            ticket.worker.kill()
            await asyncio.wait((ticket.future,))
        if not ticket.future.cancelled():
            ticket.future.exception()  # seen, so that nobody warns of it

    async def _serve(self, worker: Worker) -> None:
        pause = 1.0
        while True:
            try:
                cards = await worker.start()
            except ServiceError as error:
                worker.close()
                if not self._ready.done() and (not isinstance(error, TaskError) or pause > 4):
                    self._ready.set_exception(ServiceError(f"no worker can be started: {error}"))
                self.n_restarts += 1
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = 1.0
            self.cards = cards
            if not self._ready.done():
                self._ready.set_result(None)
            self.n_ready += 1
            while await self._do(worker, await self.queue.take()):
                pass
            self.n_ready -= 1
            self.n_restarts += 1
            worker.close()

    async def _do(self, worker: Worker, ticket: Ticket) -> bool:
        """Do a task; whether the worker is still there."""
        if ticket.future.done():
            return True
        self.n_running += 1
        ticket.worker = worker
        ticket.on_start()
        try:
            result = await worker.run(ticket, self._stall_seconds)
        except TaskError as error:
            if not ticket.future.done():
                ticket.future.set_exception(error)
            return error.kind != "died"
        except _CancelledError:
            ticket.future.cancel()
            return True
        else:
            if not ticket.future.done():
                ticket.future.set_result(result)
            return True
        finally:
            ticket.worker = None
            self.n_running -= 1

    async def stop(self) -> None:
        """End the workers and what they do."""
        for worker in self.workers:
            worker.kill()  # wakes the threads that wait for it
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self.workers:
            worker.close()
        self._threads.shutdown(wait=True)
