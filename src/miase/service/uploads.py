"""Uploads: multipart/form-data written to disk as it comes, within limits of size and time.

The client's file name gives no path: the file is stored under a name of ours, and what is left of the name
after cleaning is only shown and offered for downloads.
"""

import asyncio
import contextlib
import errno
import re
import time
import unicodedata
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from miase.errors import ServiceError
from miase.service.settings import ServiceConfig
from miase.sounds import SOUND_SUFFIXES

GRACE_SECONDS = 10.0  # before the rate of an upload counts
WRITE_BYTES = 2**18  # that are gathered before they are written
FRAME_BYTES = 2**16  # of an upload that are no file: boundaries, headers, fields
FIELD_BYTES = 1000  # of a field's value
MOST_PARTS = 32
SPARE_BYTES = 64e6  # of the disk, that no upload may take
LONGEST_NAME = 120  # characters of a name that is shown

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class RefusedError(ServiceError):
    """A request is refused.

    Attributes:
        status: of the answer, as HTTP has it.
        retry_after: seconds after which another attempt makes sense; None where it does not.
    """

    def __init__(self, status: int, text: str, retry_after: int | None = None) -> None:
        super().__init__(text)
        self.status, self.retry_after = status, retry_after


class DisconnectedError(ServiceError):
    """The client went away."""


@dataclass
class Upload:
    """What came.

    Attributes:
        path: the file, under a name of ours.
        name: the client's name, cleaned.
        fields: the other values of the form.
    """

    path: Path
    name: str
    fields: dict[str, str] = field(default_factory=dict)


def clean_name(name: str) -> str:
    """What may be shown of a client's file name: its last part, without control characters, not too long."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    kept = "".join(c for c in last if unicodedata.category(c)[0] != "C" and c not in '<>:"|?*')
    kept = " ".join(kept.split()).lstrip(". ")
    path = PurePosixPath(kept or "recording")
    suffix = path.suffix[:16]
    stem = path.stem[: LONGEST_NAME - len(suffix)]
    while len((stem + suffix).encode()) > 200:  # file systems count bytes
        stem = stem[:-1]
    return (stem.rstrip() or "recording") + suffix


async def receive_upload(
    receive: Receive,
    content_type: str,
    content_length: int | None,
    folder: Path,
    config: ServiceConfig,
    free_bytes: Callable[[], int],
) -> Upload:
    """Write the field ``file`` of a form to ``folder`` and give it with the other fields.

    Args:
        receive: gives the messages of the request's body.
        content_type: of the request.
        content_length: of the request, where it is stated.
        folder: of this upload alone.
        config: the limits.
        free_bytes: of the disk.

    Raises:
        RefusedError: the form is not as it should be (400, 422), too large (413), too slow (408), or the disk
            is full (507).
        DisconnectedError: the client went away.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        shown = content_type[:60] or "nothing"
        raise RefusedError(
            422, f"the content type is {shown!r}; send multipart/form-data with a field 'file'"
        )
    most = config.upload_bytes + FRAME_BYTES
    if content_length is not None and content_length > most:
        raise _too_large(config)
    if (content_length or 0) + SPARE_BYTES > free_bytes():
        raise RefusedError(507, "the disk of the service is full; try again later, or delete jobs")
    form = _Form(folder, config)
    parser = form.parser(options[b"boundary"])
    start, n_bytes = time.monotonic(), 0
    try:
        while True:
            message = await _within(receive, start, n_bytes, config)
            if message["type"] == "http.disconnect":
                raise DisconnectedError("the client went away during the upload")
            body: bytes = message.get("body", b"")
            n_bytes += len(body)
            if n_bytes > most:
                raise _too_large(config)
            parser.write(body)
            await form.flush(WRITE_BYTES)
            if not message.get("more_body", False):
                break
        parser.finalize()
        await form.flush(0)
    except MultipartParseError as error:
        raise RefusedError(400, f"the form cannot be read ({error}); send multipart/form-data") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RefusedError(
                507, "the disk of the service is full; try again later, or delete jobs"
            ) from None
        raise
    finally:
        form.close()
    return form.upload()


async def _within(
    receive: Receive, start: float, n_bytes: int, config: ServiceConfig
) -> MutableMapping[str, Any]:
    """The next message, if it comes before the upload is too slow."""
    if not config.upload_kb_per_second:
        return await receive()
    allowed = GRACE_SECONDS + n_bytes / (1000 * config.upload_kb_per_second)
    try:
        return await asyncio.wait_for(receive(), max(0.0, start + allowed - time.monotonic()))
    except asyncio.TimeoutError:
        raise RefusedError(
            408,
            f"the upload is slower than {config.upload_kb_per_second:g} kB/s; use a better connection or a "
            f"compressed format",
        ) from None


def _too_large(config: ServiceConfig) -> RefusedError:
    return RefusedError(
        413,
        f"the upload is larger than {config.upload_mb:g} MB; use a compressed format such as FLAC, or cut it",
    )


class _Form:
    """Takes the parser's events; file data waits in memory only until the next `flush`."""

    def __init__(self, folder: Path, config: ServiceConfig) -> None:
        self._folder, self._config = folder, config
        self._fields: dict[str, str] = {}
        self._n_parts = self._n_header_bytes = self._n_file_bytes = 0
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._part = ""  # name of the field that comes in
        self._text = bytearray()
        self._waiting: list[bytes] = []
        self._n_waiting = 0
        self._file: IO[bytes] | None = None
        self._name = ""
        self._complete = False

    def parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def _on_part_begin(self) -> None:
        self._n_parts += 1
        self._disposition, self._n_header_bytes = b"", 0
        if self._n_parts > MOST_PARTS:
            raise RefusedError(400, f"the form has more than {MOST_PARTS} parts; send a file and its options")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _count_header(self, n_bytes: int) -> None:
        self._n_header_bytes += n_bytes
        if self._n_header_bytes > 8192:
            raise RefusedError(
                400, "a part of the form has headers of more than 8 kB; shorten the file's name"
            )

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        self._text = bytearray()
        if self._part != "file":
            if b"filename" in options:
                raise RefusedError(
                    422, f"a file is in the field {self._part[:40]!r}; send it in the field 'file'"
                )
            return
        if self._file is not None:
            raise RefusedError(400, "the form has two files; send one in a request")
        name = options.get(b"filename", b"").decode("utf-8", "replace")
        suffix = PurePosixPath(clean_name(name)).suffix.lower()
        self._name = clean_name(name)
        # The reader goes by the suffix in some cases, so one that it knows is kept; it never sees another.
        self._file = (self._folder / f"upload{suffix if suffix in SOUND_SUFFIXES else ''}").open("xb")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part == "file":
            self._n_file_bytes += end - start
            if self._n_file_bytes > self._config.upload_bytes:
                raise _too_large(self._config)
            self._waiting.append(data[start:end])
            self._n_waiting += end - start
            return
        self._text += data[start:end]
        if len(self._text) > FIELD_BYTES:
            raise RefusedError(
                422, f"the field {self._part[:40]!r} has more than {FIELD_BYTES} bytes; shorten it"
            )

    def _on_part_end(self) -> None:
        if self._part != "file":
            self._fields[self._part] = self._text.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._complete = True

    async def flush(self, at_least: int) -> None:
        """Write what waits, if more than ``at_least`` bytes, outside the thread that answers requests."""
        if self._n_waiting <= at_least or self._file is None:
            return
        data, self._waiting, self._n_waiting = b"".join(self._waiting), [], 0
        await asyncio.to_thread(_write, self._file, data)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def upload(self) -> Upload:
        if not self._complete:
            raise RefusedError(400, "the form ends too early; send it again")
        if self._file is None:
            raise RefusedError(422, "the form has no field 'file'; send the sound in it")
        return Upload(Path(self._file.name), self._name, self._fields)


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(data)
    file.flush()  # a full disk is to be told here
