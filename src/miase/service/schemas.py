"""What the API answers, as OpenAPI describes it."""

from typing import Any, Literal

from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from miase.service.jobs import Job, Jobs
from miase.service.tasks import Scores


class Answer(BaseModel):
    """Base of all answers: fields are documented by their docstrings."""

    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())


class Failure(Answer):
    """Every answer with a status from 400 up."""

    error: str = Field(examples=["the upload is larger than 200 MB; use a compressed format, or cut it"])
    """What was got, what is allowed and what to do, in a sentence."""


_TEXTS = {
    400: "not a sound, damaged or silent, or a format that cannot hold it",
    401: "the token is missing or wrong",
    403: "a request of another site's page, or under a name that is not the service's",
    404: "there is no such thing",
    408: "the upload is too slow",
    409: "the job is not done",
    413: "the upload is too large, the sound too long or of too many channels",
    422: "a field or parameter is missing, unknown or not allowed",
    429: "the queue is full, or the client has enough jobs in it; Retry-After tells when to try again",
    503: "a worker died at it; only this request is lost, try again",
    507: "the disk is full",
}


def failures(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of these statuses, and of those that any route may answer."""
    return {code: {"model": Failure, "description": _TEXTS[code]} for code in sorted((401, 403, *codes))}


def file_answer(description: str, media_type: str) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a file in an answer."""
    schema = {} if media_type == "text/event-stream" else {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": description, "content": {media_type: schema}}}


SOUND_ANSWER = file_answer("the sound file", "audio/*")
TOKEN = HTTPBearer(auto_error=False, description="where the service has a token; `guard` asks for it")


class Health(Answer):
    """Whether the service works."""

    status: Literal["ok", "starting"]
    """`starting` while no worker is ready."""
    workers: int
    """Processes that are ready to enhance."""
    queued: int
    """Jobs that wait."""
    running: int
    """Jobs that are worked on."""


class Model(Answer):
    """A model that may be asked for."""

    name: str = Field(examples=["default"])
    sample_rate: int = Field(examples=[16000])
    """In Hz; sounds of any rate are taken and come back at their own."""
    licence: str
    """Of the weights, as their card states it."""
    summary: str
    default: bool
    """Whether it is used when none is named."""


class Limits(Answer):
    """What is allowed."""

    upload_mb: float
    """In MB of 1e6 bytes."""
    minutes: float
    channels: int
    queue: int
    """Jobs that may wait."""
    jobs_per_client: int
    """Jobs of one client that may wait or run."""
    result_minutes: float
    """How long a finished job is kept."""
    preview_seconds: float
    """Length of a preview."""
    formats: list[str]
    """Suffixes of sound files that can be read here."""
    output_formats: list[str]
    """Formats that may be asked for."""


class Example(Answer):
    """A sound to try."""

    name: str
    title: str
    seconds: float


class Ratings(Answer):
    """DNSMOS P.835, from 1 to 5; null where it is undefined."""

    SIG: float | None
    """Of the speech."""
    BAK: float | None
    """Of the background."""
    OVRL: float | None
    """Overall."""


class JobScores(Answer):
    """What can be said of a result without clean speech."""

    noisy: Ratings | None
    """Null where the service has no DNSMOS (the extra `eval`)."""
    estimate: Ratings | None
    warning: str | None
    """Why speech may be damaged; null if it does not seem so."""


class JobAnswer(Answer):
    """A job."""

    id: str
    """Unguessable: who knows it may hear the result."""
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    position: int | None
    """How many jobs are taken before it; null where it does not wait."""
    progress: float = Field(ge=0, le=1)
    seconds_left: float | None
    """A guess; null where there is none."""
    name: str
    """The client's name for the file, cleaned."""
    model: str
    seconds: float
    """Of the sound that is worked on: for a preview, of the preview."""
    sample_rate: int
    n_channels: int
    preview: bool
    scores: JobScores | None
    """Null until they are known."""
    scores_pending: bool
    """Whether scores are still being made; `done` does not wait for them."""
    error: str | None


def job_answer(jobs: Jobs, job: Job) -> JobAnswer:
    """A job as the API shows it."""
    left = job.seconds_left
    return JobAnswer(
        id=job.id,
        state=job.state,  # type: ignore[arg-type]
        position=jobs.position(job),
        progress=round(job.progress, 4),
        seconds_left=None if left is None else round(left, 1),
        name=job.upload.name,
        model=job.order.model,
        seconds=round(job.sound.seconds, 3),
        sample_rate=job.sound.sample_rate,
        n_channels=job.sound.n_channels,
        preview=job.order.preview_seconds > 0,
        scores=None if job.scores is None else _scores(job.scores),
        scores_pending=job.scores_pending,
        error=job.error,
    )


def _scores(scores: Scores) -> JobScores:
    def ratings(values: dict[str, float | None] | None) -> Ratings | None:
        return None if values is None else Ratings(**values)

    return JobScores(noisy=ratings(scores.noisy), estimate=ratings(scores.estimate), warning=scores.warning)
