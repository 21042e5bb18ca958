"""The routes of the API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request, Response, Security
from fastapi.responses import FileResponse, StreamingResponse
from starlette.background import BackgroundTask

from miase.config import HIGH_BANDS, EnhanceConfig
from miase.service.archive import stream_archive
from miase.service.jobs import LIVE, Job, Jobs, events, refusal_of
from miase.service.orders import MOST_SHIFTS, make_config, read_order
from miase.service.schemas import SOUND_ANSWER, TOKEN, JobAnswer, failures, file_answer, job_answer
from miase.service.settings import ServiceConfig
from miase.service.tasks import Part
from miase.service.uploads import DisconnectedError, RefusedError, receive_upload
from miase.writing import FORMATS

ALIVE_SECONDS = 10.0  # between two signs of life of a stream of events
MOST_IN_ARCHIVE = 100
MEDIA_TYPES = {
    ".wav": "audio/wav", ".rf64": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg",
    ".oga": "audio/ogg", ".opus": "audio/ogg", ".mp3": "audio/mpeg", ".aiff": "audio/aiff",
    ".aif": "audio/aiff", ".aifc": "audio/aiff", ".w64": "audio/x-w64", ".au": "audio/basic",
    ".caf": "audio/x-caf",
}  # fmt: skip

_FIELDS: dict[str, Any] = {
    "file": {
        "type": "string", "format": "binary",
        "description": "the sound, of any format that can be read",
    },
    "model": {
        "type": "string", "example": "default",
        "description": "a name of /v1/models; by default the first",
    },
    "strength": {
        "type": "number", "minimum": 0, "maximum": 1, "default": 1,
        "description": "share of the noise that is removed: 0 gives the sound back",
    },
    "atten_lim": {
        "type": "number", "minimum": 0,
        "description": "largest attenuation, in dB; by default no limit",
    },
    "high_band": {
        "type": "string", "enum": list(HIGH_BANDS), "default": "follow",
        "description": "what becomes of the sound above the model's band",
    },
    "shifts": {
        "type": "integer", "minimum": 1, "maximum": MOST_SHIFTS, "default": 1,
        "description": "passes whose mean is the estimate: better, and each costs as much as the first",
    },
    "format": {
        "type": "string", "enum": list(FORMATS),
        "description": "of the result; by default that of the upload, with its sample format",
    },
    "preview_seconds": {
        "type": "number", "minimum": 0, "default": 0,
        "description": "enhance so many seconds from the start; 0 for all",
    },
}  # fmt: skip


def _form(models: list[str]) -> dict[str, Any]:
    fields = {**_FIELDS, "model": {**_FIELDS["model"], "enum": models}}
    schema = {"type": "object", "required": ["file"], "properties": fields, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


Strength = Annotated[
    float | None, Query(ge=0, le=1, allow_inf_nan=False, description="instead of that of the job")
]
Limit = Annotated[
    float | None,
    Query(ge=0, allow_inf_nan=False, description="largest attenuation in dB, instead of that of the job"),
]
Format = Annotated[
    Literal["wav", "flac", "ogg", "opus", "mp3", "aiff", "w64"] | None,
    Query(description="instead of that of the job"),
]
Result = TypeVar("Result")

# Where the id of a new job leads, for those who read the document.
_LINKS: dict[str, Any] = {
    operation: {"operationId": operation, "parameters": {"job_id": "$response.body#/id"}}
    for operation in ("job", "job_events", "result", "sound", "delete_job")
}


def client_of(request: Request) -> str:
    """Whose request it is: its address, and the name that it gives itself by the header X-Client."""
    address = request.client.host if request.client else ""
    return f"{address} {request.headers.get('x-client', '')[:64]}"


def make_router(config: ServiceConfig, jobs: Jobs) -> APIRouter:
    """The routes that take sounds and give them back."""
    router = APIRouter(dependencies=[Security(TOKEN)] if config.token else [])
    form = _form([card.name for card in jobs.cards])

    async def take_in(request: Request, *, listed: bool) -> Job:
        """Receive an upload, see what is asked for and what it holds, and make a job of it."""
        client, stated = client_of(request), request.headers.get("content-length", "")
        with jobs.admit(client):
            folder = jobs.make_folder()
            try:
                upload = await receive_upload(
                    request.receive,
                    request.headers.get("content-type", ""),
                    int(stated) if stated.isdecimal() else None,
                    folder,
                    config,
                    jobs.folder.free_bytes,
                )
                order = read_order(upload.fields, [card.name for card in jobs.cards])
                sound = await jobs.probe(upload, order, client)
                return jobs.add(client, folder, upload, sound, order, listed=listed)
            except BaseException:
                await asyncio.shield(jobs.remove_folder(folder))
                raise

    @router.post(
        "/v1/enhance",
        tags=["enhance"],
        response_class=FileResponse,
        responses=SOUND_ANSWER | failures(400, 408, 413, 422, 429, 503, 507),
        openapi_extra=form,
    )
    async def enhance(request: Request) -> Response:
        """A sound in, the enhanced sound out; what `miase enhance` writes with the same options.

        A client that goes away cancels it. For progress, or for sounds of many minutes, use /v1/jobs.
        """
        job = await take_in(request, listed=False)

        async def remove() -> None:
            await jobs.delete(job)

        try:
            await while_connected(request, jobs.wait(job))
            if job.state != "done":
                raise refusal_of(job.error_kind, job.error or "the service ends; try again")
            path = await while_connected(request, jobs.render(job))
        except BaseException:
            await asyncio.shield(remove())
            raise
        return _download(path, job.upload.name, remove)

    @router.post(
        "/v1/jobs",
        tags=["jobs"],
        status_code=202,
        responses=failures(400, 408, 413, 422, 429, 507) | {202: {"links": _LINKS}},
        openapi_extra=form,
    )
    async def start_job(request: Request, response: Response) -> JobAnswer:
        """Start a job; its files are kept for a while after it has ended."""
        job = await take_in(request, listed=True)
        response.headers["location"] = f"/v1/jobs/{job.id}"
        return job_answer(jobs, job)

    @router.get(
        "/v1/jobs/archive",
        tags=["jobs"],
        response_class=StreamingResponse,
        responses=file_answer("the archive", "application/zip") | failures(400, 404, 409, 422, 503, 507),
    )
    async def archive(
        request: Request,
        id: Annotated[list[str], Query(min_length=1, max_length=MOST_IN_ARCHIVE)],  # noqa: A002
        strength: Strength = None,
        atten_lim: Limit = None,
        format: Format = None,  # noqa: A002
    ) -> StreamingResponse:
        """A ZIP archive of the results of several jobs."""
        chosen = [jobs.get(job_id) for job_id in dict.fromkeys(id)]
        for job in chosen:
            if job.state != "done":
                raise RefusedError(409, f"{job.upload.name} is {job.state}; archive jobs that are done")

        async def make(i: int) -> tuple[Path, str]:
            path = await jobs.render(chosen[i], _config(chosen[i], strength, atten_lim), format)
            return path, path.suffix

        # The first one tells whether the format can hold these sounds, while the status can still say so.
        first = await while_connected(request, make(0))

        async def make_others(i: int) -> tuple[Path, str]:
            return await make(i) if i else first

        stream = stream_archive([job.upload.name for job in chosen], make_others)
        headers = {"content-disposition": 'attachment; filename="enhanced.zip"'}
        return StreamingResponse(stream, media_type="application/zip", headers=headers)

    @router.get("/v1/jobs/{job_id}", tags=["jobs"], responses=failures(404, 422))
    async def job(job_id: str) -> JobAnswer:
        """How a job is."""
        return job_answer(jobs, jobs.get(job_id))

    @router.get(
        "/v1/jobs/{job_id}/events",
        tags=["jobs"],
        response_class=StreamingResponse,
        responses=file_answer("events, each with the job as its data", "text/event-stream")
        | failures(404, 422),
    )
    async def job_events(job_id: str) -> StreamingResponse:
        """How a job goes, as server-sent events; the stream ends when nothing more will happen.

        Where scores are made, `done` comes twice: at once, and again with the scores.
        """
        found = jobs.get(job_id)

        async def stream() -> AsyncIterator[str]:
            async for state in with_signs_of_life(events(jobs, found)):
                if state is None:
                    yield ": still here\n\n"
                else:
                    kind = "progress" if state.state in LIVE else state.state
                    yield f"event: {kind}\ndata: {job_answer(jobs, state).model_dump_json()}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    @router.delete("/v1/jobs/{job_id}", tags=["jobs"], status_code=204, responses=failures(404, 422))
    async def delete_job(job_id: str) -> Response:
        """Cancel a job, if it is not done, and remove all its files."""
        await asyncio.shield(jobs.delete(jobs.get(job_id)))
        return Response(status_code=204)

    @router.get(
        "/v1/jobs/{job_id}/result",
        tags=["jobs"],
        response_class=FileResponse,
        responses=SOUND_ANSWER | failures(400, 404, 409, 422, 503, 507),
    )
    async def result(
        request: Request,
        job_id: str,
        strength: Strength = None,
        atten_lim: Limit = None,
        format: Format = None,  # noqa: A002
    ) -> Response:
        """The enhanced sound, of any strength, limit and format, without running the model again."""
        found = jobs.get(job_id)
        config = _config(found, strength, atten_lim)
        path = await while_connected(request, jobs.render(found, config, format))

        async def remove() -> None:
            path.unlink(missing_ok=True)

        return _download(path, found.upload.name, remove)

    @router.get(
        "/v1/jobs/{job_id}/sound/{part}",
        tags=["jobs"],
        response_class=FileResponse,
        responses=SOUND_ANSWER | failures(404, 409, 422, 503, 507),
    )
    async def sound(request: Request, job_id: str, part: Part) -> FileResponse:
        """A 16-bit WAV for players: the recording, the estimate at strength 1, or what it removes.

        Ranges of bytes may be asked for.
        """
        path = await while_connected(request, jobs.sound(jobs.get(job_id), part))
        return FileResponse(path, media_type="audio/wav", stat_result=path.stat())

    return router


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of some work, which is cancelled when the client goes away.

    Raises:
        DisconnectedError: the client went away.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise DisconnectedError("the client went away")
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def with_signs_of_life(states: AsyncIterator[Job]) -> AsyncIterator[Job | None]:
    """The states, and None where none came for a while, so that proxies keep the connection."""
    coming: asyncio.Future[Job] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(states))
            done, _ = await asyncio.wait((coming,), timeout=ALIVE_SECONDS)
            if not done:
                yield None
                continue
            try:
                state = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield state
    finally:
        if coming is not None:
            coming.cancel()


def _config(job: Job, strength: float | None, atten_lim: float | None) -> EnhanceConfig:
    config = job.order.config
    return make_config(
        config.strength if strength is None else strength,
        config.atten_lim if atten_lim is None else atten_lim,
        config.high_band,
        config.shifts,
    )


def _download(path: Path, name: str, remove: Callable[[], Awaitable[None]]) -> FileResponse:
    return FileResponse(
        path,
        media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
        filename=f"{Path(name).stem}_enhanced{path.suffix}",
        stat_result=path.stat(),
        background=BackgroundTask(remove),
    )
