"""The routes by which the service tells of itself: whether it works, its models, limits and examples."""

from pathlib import Path

from fastapi import APIRouter, Response, Security
from fastapi.responses import FileResponse

from miase.audio import readable_suffixes
from miase.service.counters import Counters
from miase.service.jobs import Jobs
from miase.service.schemas import SOUND_ANSWER, TOKEN, Example, Health, Limits, Model, failures, file_answer
from miase.service.settings import ServiceConfig
from miase.service.uploads import RefusedError
from miase.writing import FORMATS

EXAMPLES_FOLDER = Path(__file__).parent / "examples"
EXAMPLES = (Example(name="speech_and_steam", title="A voice beside hissing steam", seconds=5.7),)


def make_about_router(config: ServiceConfig, jobs: Jobs, counters: Counters) -> APIRouter:
    """The routes by which the service tells of itself."""
    root = APIRouter()
    router = APIRouter(dependencies=[Security(TOKEN)] if config.token else [])

    @root.get("/healthz", tags=["service"])
    async def health() -> Health:
        """Whether the service works, and how busy it is; needs no token."""
        return Health(
            status="ok" if jobs.enhancers.n_ready else "starting",
            workers=jobs.enhancers.n_ready,
            queued=len(jobs.enhancers.queue),
            running=jobs.enhancers.n_running,
        )

    @router.get(
        "/metrics",
        tags=["service"],
        response_class=Response,
        responses=file_answer("counters", "text/plain") | failures(),
    )
    async def metrics() -> Response:
        """Counters for Prometheus."""
        now = {
            "miase_workers": ("Workers that are ready to enhance.", jobs.enhancers.n_ready),
            "miase_queue_length": ("Jobs that wait.", len(jobs.enhancers.queue)),
            "miase_jobs_running": ("Jobs that are worked on.", jobs.enhancers.n_running),
            "miase_jobs_kept": ("Finished jobs that are kept.", jobs.count("done")),
            "miase_disk_free_bytes": ("Room on the disk of the work folder.", jobs.folder.free_bytes()),
        }
        restarts = {
            "enhance": jobs.enhancers.n_restarts,
            "write": jobs.writers.n_restarts,
            "rate": jobs.raters.n_restarts,
        }
        return Response(counters.text(now, restarts), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/v1/models", tags=["service"], responses=failures())
    async def models() -> list[Model]:
        """The models that may be asked for, the default first."""
        return [
            Model(
                name=card.name,
                sample_rate=card.sample_rate,
                licence=card.licence,
                summary=card.summary,
                default=i == 0,
            )
            for i, card in enumerate(jobs.cards)
        ]

    @router.get("/v1/limits", tags=["service"], responses=failures())
    async def limits() -> Limits:
        """What is allowed here."""
        return Limits(
            upload_mb=config.upload_mb,
            minutes=config.minutes,
            channels=config.channels,
            queue=config.queue,
            jobs_per_client=config.jobs_per_client,
            result_minutes=config.result_minutes,
            preview_seconds=config.preview,
            formats=sorted(readable_suffixes()),
            output_formats=list(FORMATS),
        )

    @router.get("/v1/examples", tags=["service"], responses=failures())
    async def examples() -> list[Example]:
        """Sounds to try."""
        return list(EXAMPLES)

    @router.get(
        "/v1/examples/{name}",
        tags=["service"],
        response_class=FileResponse,
        responses=SOUND_ANSWER | failures(404, 422),
    )
    async def example(name: str) -> FileResponse:
        """The file of an example."""
        if name not in {example.name for example in EXAMPLES}:
            raise RefusedError(404, "there is no example of that name; see /v1/examples")
        path = EXAMPLES_FOLDER / f"{name}.flac"
        return FileResponse(path, media_type="audio/flac", filename=path.name)

    root.include_router(router)
    return root
