"""Jobs: from an upload to the files that are made of it, their limits, and their end.

All of it runs in the thread of the event loop; what takes time is done by workers or in other threads.
"""

import asyncio
import contextlib
import math
import secrets
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from miase.config import EnhanceConfig
from miase.errors import ConfigError
from miase.registry import available
from miase.service.counters import Counters
from miase.service.folder import WorkFolder
from miase.service.orders import Order
from miase.service.process import ModelCard, WorkerSetup
from miase.service.settings import ServiceConfig
from miase.service.tasks import Enhance, Part, Probe, Rate, Render, Scores, Sound, Task
from miase.service.turns import Ticket
from miase.service.uploads import SPARE_BYTES, RefusedError, Upload
from miase.service.workers import Pool, TaskError

LIGHT_WORKERS = 2  # processes that look at uploads and write files; they need no model
MOST_UNRATED = 8  # jobs that wait for their scores; under load the others go without
EXPIRY_SECONDS = 2.0  # between two looks for what has expired
LIVE = ("queued", "running")
# What a failure means for a request that waits for it.
STATUS_OF = {"sound": 400, "long": 413, "disk": 507, "died": 503, "failed": 503}


@dataclass(eq=False)
class Job:
    """One sound on its way.

    Attributes:
        client: whose it is, for the order and the limits.
        folder: with the upload and all that is made of it.
        upload: what came.
        sound: what it holds.
        order: what is asked for.
        listed: whether its id was told, so that others may ask for it.
        state: queued, running, done, failed or cancelled.
        progress: from 0 to 1.
        error: why it failed, in a sentence; with ``error_kind`` as in `TaskError`.
        scores: what can be said of the result; None until it is known.
        scores_pending: whether they are still being made.
        is_deleted: whether its files are gone, or about to go.
        started, ended: when a worker took it, and when it ended, by the monotonic clock; 0 before.
        ticket: of the model's work.
        calls: other work on its files that is under way.
        writing: held while a sound for players is written.
    """

    client: str
    folder: Path
    upload: Upload
    sound: Sound
    order: Order
    listed: bool
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    state: str = "queued"
    progress: float = 0.0
    error: str | None = None
    error_kind: str = ""
    scores: Scores | None = None
    scores_pending: bool = False
    is_deleted: bool = False
    started: float = 0.0
    ended: float = 0.0
    ticket: Ticket | None = None
    calls: dict[Ticket, Pool] = field(default_factory=dict)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def noise(self) -> Path:
        """The file with what the model removed."""
        return self.folder / "noise.f32"

    @property
    def seconds_left(self) -> float | None:
        """Until it is done, guessed from the time so far; None where that says nothing."""
        if self.state != "running" or self.progress <= 0:
            return None
        return (time.monotonic() - self.started) * (1 - self.progress) / self.progress

    def change(self, state: str | None = None) -> None:
        """Tell those who wait for news."""
        self.state = state or self.state
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self, timeout: float) -> None:
        """Wait for a change, or for so many seconds."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)


class Jobs:
    """All jobs of the service, and the workers that do them.

    Args:
        config: settings and limits.
        folder: where files lie.
        counters: that are kept.

    Raises:
        ConfigError: two models have one name.
    """

    def __init__(self, config: ServiceConfig, folder: WorkFolder, counters: Counters) -> None:
        self.config, self.folder, self.counters = config, folder, counters
        self._jobs: dict[str, Job] = {}
        self._receiving: Counter[str] = Counter()  # uploads that come in, by client
        self._background: set[asyncio.Task[None]] = set()
        sources = config.models or tuple(available())
        models = tuple((Path(source).name, source) for source in sources)
        if len({name for name, _ in models}) < len(models):
            raise ConfigError(f"two models have one name among {', '.join(sources)}; rename a folder")
        setup = WorkerSetup(models, config.device, config.worker_threads)
        self.enhancers = Pool(config.workers, setup, config.stall_seconds)
        self.writers = Pool(LIGHT_WORKERS, WorkerSetup(), config.stall_seconds)
        self.raters = Pool(1, WorkerSetup(), config.stall_seconds)

    @property
    def cards(self) -> list[ModelCard]:
        """Of the models, the default first."""
        return self.enhancers.cards

    async def start(self) -> None:
        """Start the workers.

        Raises:
            ServiceError: a model cannot be used.
        """
        await asyncio.gather(self.enhancers.start(), self.writers.start(), self.raters.start())
        self._spawn(self._expire())

    async def stop(self) -> None:
        """End the workers and what is under way."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for pool in (self.enhancers, self.writers, self.raters):
            await pool.stop()

    def count(self, state: str) -> int:
        """Jobs in a state."""
        return sum(job.state == state for job in self._jobs.values())

    @contextlib.contextmanager
    def admit(self, client: str) -> Iterator[None]:
        """Hold a place in the queue while an upload comes in.

        Raises:
            RefusedError: the queue is full, or the client has enough jobs (429).
        """
        queued = self.count("queued") + self._receiving.total()
        if queued >= self.config.queue:
            raise RefusedError(
                429,
                f"the queue is full ({self.config.queue} jobs); try again later",
                self._retry_after(queued - self.config.queue + 1),
            )
        own = self._receiving[client] + sum(
            job.client == client and job.state in LIVE for job in self._jobs.values()
        )
        if own >= self.config.jobs_per_client:
            raise RefusedError(
                429,
                f"{own} of your jobs wait or run, and {self.config.jobs_per_client} may; wait for one to end",
                self._retry_after(1),
            )
        self._receiving[client] += 1
        try:
            yield
        finally:
            self._receiving[client] -= 1
            if not self._receiving[client]:
                del self._receiving[client]

    def _retry_after(self, n_jobs: int) -> int:
        seconds = n_jobs * self.counters.mean_processing / self.config.workers
        return min(60, max(1, math.ceil(seconds)))

    def make_folder(self) -> Path:
        """A folder for an upload; raises RefusedError (507) where the disk has no room for it."""
        folder = self.folder.path / secrets.token_hex(16)
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise RefusedError(507, f"the service cannot store anything ({error.strerror})") from None
        return folder

    async def remove_folder(self, folder: Path) -> None:
        """Remove a folder with all that is in it."""
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def probe(self, upload: Upload, order: Order, client: str) -> Sound:
        """What an upload holds.

        Raises:
            RefusedError: no sound (400), more than allowed (413), or than the disk has room for (507).
        """
        task = Probe(upload.path, self.config.minutes, self.config.channels, order.preview_seconds)
        try:
            sound: Sound = await self._probe(task, client)
        except TaskError as error:
            if error.kind == "died":
                text = f"{upload.name} cannot be read: the decoder crashed on it; convert it to WAV"
                raise RefusedError(400, text) from None
            raise refusal_of(error.kind, _shown(str(error), upload)) from None
        # A compressed upload says little of what its samples take.
        if 4 * sound.n_frames * sound.n_channels + SPARE_BYTES > self.folder.free_bytes():
            raise RefusedError(507, f"the disk of the service has no room for the samples of {upload.name}")
        return sound

    async def _probe(self, task: Probe, client: str) -> Any:
        try:
            return await self.writers.call(task, client)
        except TaskError as error:
            if error.kind != "died":
                raise
        return await self.writers.call(task, client)  # the first death may have had another cause

    def add(
        self, client: str, folder: Path, upload: Upload, sound: Sound, order: Order, *, listed: bool
    ) -> Job:
        """Put a job into the queue."""
        job = Job(client, folder, upload, sound, order, listed)
        task = Enhance(upload.path, job.noise, sound, order.model, order.config)

        def on_start() -> None:
            job.started = time.monotonic()
            job.change("running")

        def on_progress(share: float) -> None:
            job.progress = share
            job.change()

        job.ticket = Ticket(task, client, on_start, on_progress)
        self._jobs[job.id] = job
        self.counters.upload_bytes += upload.path.stat().st_size
        self.enhancers.queue.put(job.ticket)
        self._spawn(self._follow(job))
        return job

    async def _follow(self, job: Job) -> None:
        assert job.ticket is not None
        future = job.ticket.future
        await asyncio.wait((future,))
        job.ended = time.monotonic()
        if future.cancelled():
            state = "cancelled"
        elif (error := future.exception()) is not None:
            state, job.error = "failed", _shown(str(error), job.upload)
            job.error_kind = error.kind if isinstance(error, TaskError) else "failed"
        else:
            state, job.progress = "done", 1.0
            self.counters.audio_seconds += job.sound.seconds
            self.counters.processed(job.ended - job.started)
        self.counters.jobs[state] += 1
        job.scores_pending = state == "done" and job.listed and len(self.raters.queue) < MOST_UNRATED
        job.change(state)
        if job.scores_pending:
            self._spawn(self._rate(job))
        elif state != "done":
            await self.remove_folder(job.folder)

    async def _rate(self, job: Job) -> None:
        task = Rate(job.upload.path, job.noise, job.sound, job.order.config, self.config.scored_seconds)
        with contextlib.suppress(TaskError, RefusedError):  # the sound is there all the same
            job.scores = await self._call(job, self.raters, task)
        job.scores_pending = False
        job.change()

    def get(self, job_id: str) -> Job:
        """The job of an id; raises RefusedError (404) where there is none."""
        job = self._jobs.get(job_id)
        if job is None or not job.listed:
            raise RefusedError(404, "there is no such job; it may have expired or been deleted")
        return job

    def position(self, job: Job) -> int | None:
        """How many jobs are taken before one that waits."""
        return None if job.ticket is None else self.enhancers.queue.position(job.ticket)

    async def wait(self, job: Job) -> None:
        """Wait until a job has ended."""
        assert job.ticket is not None
        await asyncio.wait((job.ticket.future,))
        while job.state in LIVE:
            await job.news(1.0)

    async def delete(self, job: Job) -> None:
        """Cancel a job, if it is not done, and remove its files."""
        self._jobs.pop(job.id, None)
        job.is_deleted = True
        if job.ticket is not None:
            await self.enhancers.cancel(job.ticket)
        for ticket, pool in list(job.calls.items()):
            await pool.cancel(ticket)
        await self.remove_folder(job.folder)

    async def render(
        self, job: Job, config: EnhanceConfig | None = None, file_format: str | None = None
    ) -> Path:
        """A file of the result; the caller removes it.

        Args:
            job: that is done.
            config: strength and limit; by default those of the job.
            file_format: suffix without its dot; by default that of the job.

        Raises:
            RefusedError: the job is not done (409), or the format cannot hold the sound (400).
        """
        target = job.folder / f"result-{secrets.token_hex(8)}"
        config, file_format = config or job.order.config, file_format or job.order.file_format
        return await self._render(job, target, "estimate", config, file_format)

    async def sound(self, job: Job, part: Part) -> Path:
        """A 16-bit WAV of the recording, of the estimate at full strength or of what was removed.

        Raises:
            RefusedError: the job is not done (409).
        """
        target = job.folder / f"{part}"
        async with job.writing:
            path = target.with_suffix(".wav")
            if path.exists():
                return path
            full = replace(job.order.config, strength=1.0, atten_lim=None)
            return await self._render(job, target, part, full, "pcm")

    async def _render(
        self, job: Job, target: Path, part: Part, config: EnhanceConfig, file_format: str | None
    ) -> Path:
        if job.state != "done":
            text = f"the job has failed: {job.error}" if job.state == "failed" else f"the job is {job.state}"
            raise RefusedError(409, f"{text}; there is a result once it is done")
        task = Render(job.upload.path, job.noise, job.sound, target, part, config, file_format)
        path: Path = await self._call(job, self.writers, task)
        return path

    async def _call(self, job: Job, pool: Pool, task: Task) -> Any:
        """Have something done with a job's files, unless the job is deleted meanwhile."""
        if job.is_deleted:
            raise RefusedError(404, "the job was deleted")
        ticket = Ticket(task, job.client)
        job.calls[ticket] = pool
        pool.queue.put(ticket)
        try:
            await asyncio.wait((ticket.future,))
        except asyncio.CancelledError:
            await pool.cancel(ticket)
            raise
        finally:
            del job.calls[ticket]
        if ticket.future.cancelled():
            raise RefusedError(404, "the job was deleted")
        try:
            return ticket.future.result()
        except TaskError as error:
            raise refusal_of(error.kind, _shown(str(error), job.upload, task)) from None

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            ended = sorted((job for job in self._jobs.values() if job.ended), key=lambda job: job.ended)
            oldest = time.monotonic() - 60 * self.config.result_minutes
            n_over = len(ended) - self.config.kept_jobs
            for i, job in enumerate(ended):
                if i < n_over or job.ended < oldest:
                    await self.delete(job)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def refusal_of(kind: str, text: str) -> RefusedError:
    """The answer to a request that waited for what failed."""
    return RefusedError(STATUS_OF.get(kind, 503), text, 1 if kind == "died" else None)


def _shown(text: str, upload: Upload, task: Task | None = None) -> str:
    """A message with the client's name for the file in place of ours."""
    text = text.replace(str(upload.path), upload.name)
    if isinstance(task, Render):
        text = text.replace(f"{task.target}", "the result")
    return text


async def events(jobs: Jobs, job: Job) -> AsyncIterator[Job]:
    """The job at each change, until nothing more will."""
    shown: tuple[Any, ...] = ()
    while True:
        now = (job.state, job.progress, jobs.position(job), job.scores_pending)
        if now != shown:
            shown = now
            yield job
        if job.state not in LIVE and not job.scores_pending:
            return
        await job.news(1.0)
