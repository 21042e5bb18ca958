"""Worker processes, seen from the service.

Each is spawned and hangs at a pipe. When one dies, its task fails with a sentence and another takes its
place.
"""

import asyncio
import contextlib
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from miase.errors import ServiceError
from miase.service.process import ModelCard, WorkerSetup, work
from miase.service.tasks import Task
from miase.service.turns import FairQueue, Ticket

CANCEL_SECONDS = 1.0  # a worker that has not stopped by then is killed
LONGEST_PAUSE = 30.0  # seconds between attempts to start a worker that dies


class StoppedError(ServiceError):
    """A worker stopped, as it was asked to."""


class GoneError(ServiceError):
    """A worker had died before it was given the task."""


class TaskError(ServiceError):
    """A task failed.

    Attributes:
        kind: sound (it is none, or damaged), long, disk (full), died (the worker) or failed.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Worker:
    """A process, seen from the service."""

    def __init__(self, setup: WorkerSetup, threads: ThreadPoolExecutor) -> None:
        self._setup, self._threads = setup, threads
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

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
        """Give the result of the task; raises TaskError, StoppedError or GoneError."""
        assert self._connection is not None
        try:
            self._connection.send(ticket.task)
        except OSError:
            raise GoneError from None
        while True:
            kind, content = await self._receive(stall_seconds)
            if kind == "progress":
                ticket.on_progress(content)
            elif kind == "done":
                return content
            elif kind == "cancelled":
                raise StoppedError
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
        ticket = Ticket(task, client)
        self.queue.put(ticket)
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
        ticket.is_unwanted = True
        ticket.worker.cancel()
        done, _ = await asyncio.wait((ticket.future,), timeout=CANCEL_SECONDS)
        if not done and ticket.worker is not None:
            ticket.worker.kill()
            await asyncio.wait((ticket.future,))

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
        except GoneError:
            self.queue.put_back(ticket)
            return False
        except TaskError as error:
            if ticket.is_unwanted:
                ticket.future.cancel()
            else:
                ticket.future.set_exception(error)
            return error.kind != "died"
        except StoppedError:
            ticket.future.cancel()
            return True
        else:
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
