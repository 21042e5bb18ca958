"""The application, and the server that runs it."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

import miase
from miase.errors import ServiceError
from miase.service.about import make_about_router
from miase.service.api import make_router
from miase.service.counters import Counters
from miase.service.folder import WorkFolder
from miase.service.guard import Guard
from miase.service.jobs import Jobs
from miase.service.settings import ServiceConfig
from miase.service.uploads import DisconnectedError, RefusedError

PAGE_FOLDER = Path(miase.__file__).parent / "page"
DESCRIPTION = (
    "Takes the noise out of speech recordings. Every failure is a JSON object with one sentence, `error`."
)
GONE = 499  # nobody reads this status; it is for the counters
LAST_SECONDS = 3  # for answers under way when the service ends


class TimedProtocol(H11Protocol):
    """HTTP whose requests must have come within some time: uvicorn itself waits for a slow head for ever.

    The time runs whenever no request is being answered: before a first one, between two, and while the rest
    of one that was refused early still comes in.
    """

    head_seconds = 15.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._restart_clock()

    def data_received(self, data: bytes) -> None:
        """Stop the clock while a request is being answered."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def on_response_complete(self) -> None:
        """Start the clock again, unless the next request is there already."""
        super().on_response_complete()
        if self.cycle is None or self.cycle.response_complete:
            self._restart_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _restart_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(self.head_seconds, self._close)

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def make_app(config: ServiceConfig, jobs: Jobs, counters: Counters) -> FastAPI:
    """The application: the API, and the page under / and /static."""
    app = FastAPI(
        title="miase",
        version=miase.__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(make_about_router(config, jobs, counters))
    app.include_router(make_router(config, jobs))
    if PAGE_FOLDER.is_dir():
        app.mount("/static", StaticFiles(directory=PAGE_FOLDER))
        app.mount("/", StaticFiles(directory=PAGE_FOLDER, html=True))
    app.add_middleware(Guard, config=config, counters=counters)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(DisconnectedError, _gone)
    app.add_exception_handler(FileNotFoundError, _deleted)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return JSONResponse({"error": str(error)}, error.status, headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)


async def _deleted(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the job was deleted while its file was to be sent"}, 404)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return JSONResponse({"error": f"{where}: {first['msg']}; see /openapi.json"}, 422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:200]}"
    methods = _methods(request)
    if methods and request.method not in methods:
        # The page, which stands under all other paths, answers 404; and Starlette names one route's methods.
        text = f"{what}: there are {', '.join(methods)}; see /openapi.json"
        return JSONResponse({"error": text}, 405, {"allow": ", ".join(methods)})
    text = f"{what}: {error.detail}; see /openapi.json for what there is"
    return JSONResponse({"error": text}, error.status_code, error.headers)


def _methods(request: Request) -> list[str]:
    paths: dict[str, dict[str, object]] = request.app.openapi()["paths"]
    parts = request.url.path.split("/")
    for path, methods in paths.items():
        wanted = path.split("/")
        if len(wanted) == len(parts) and all(
            w.startswith("{") or w == p for w, p in zip(wanted, parts, strict=True)
        ):
            return sorted(method.upper() for method in methods)
    return []


async def _bug(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the service has a fault; its log tells more"}, 500)


def serve(config: ServiceConfig, on_ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve until the process is interrupted or asked to end.

    Args:
        config: settings and limits.
        on_ready: called with the address of the page once requests are answered.

    Raises:
        ServiceError: the address cannot be bound to, or the service cannot work.
    """
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # tells of each form that is none
    with _bind(config) as listening, _signals_end_it():
        try:
            asyncio.run(_serve(config, listening, on_ready))
        except KeyboardInterrupt:  # while it started; later, the server ends of its own accord
            return


@contextlib.contextmanager
def _signals_end_it() -> Iterator[None]:
    """SIGTERM ends the service as Ctrl-C does, so that its files go with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """Let nothing disturb the last second, in which files are removed."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


def _bind(config: ServiceConfig) -> socket.socket:
    host = config.host.strip("[]")
    try:
        family, *_, address = socket.getaddrinfo(host, config.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except OSError as error:
        reason = (error.strerror or "no reason given").partition(" (while")[0]
        raise ServiceError(
            f"{host}:{config.port} cannot be bound to ({reason}); choose another by --port, 0 for a free one"
        ) from error


async def _serve(config: ServiceConfig, listening: socket.socket, on_ready: Callable[[str], None]) -> None:
    folder = WorkFolder(config.work_dir)
    counters = Counters()
    try:
        jobs = Jobs(config, folder, counters)
        try:
            await jobs.start()
            server = make_server(config, make_app(config, jobs, counters))
            host, port = listening.getsockname()[:2]
            on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
            await server.serve(sockets=[listening])
        finally:
            _ignore_signals()
            await jobs.stop()
    finally:
        folder.remove()


def make_server(config: ServiceConfig, app: FastAPI) -> uvicorn.Server:
    """The server, with its limits."""
    protocol = type("Protocol", (TimedProtocol,), {"head_seconds": config.head_seconds})
    settings = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=config.connections,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=LAST_SECONDS,
        h11_max_incomplete_event_size=2**14,
    )
    return uvicorn.Server(settings)
