"""A ZIP archive as a stream: each file is written into it as soon as it exists, and nothing is held."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path, PurePosixPath

from miase.service.uploads import RefusedError

CHUNK_BYTES = 2**18


class _Pipe(io.RawIOBase):
    """Takes what `zipfile` writes; it cannot be sought, so the archive needs no file."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        chunk = bytes(data)  # type: ignore[call-overload]
        self._chunks.append(chunk)
        return len(chunk)

    def take(self) -> bytes:
        data, self._chunks = b"".join(self._chunks), []
        return data


async def stream_archive(
    names: list[str], make: Callable[[int], Awaitable[tuple[Path, str]]]
) -> AsyncIterator[bytes]:
    """The bytes of the archive.

    A file that cannot be made never stops the others: a text in its place says why.

    Args:
        names: of the files, without the suffixes that they get; equal ones are numbered.
        make: writes file i, and gives its path and its suffix, or refuses; the file is removed once it is in
            the archive.

    Yields:
        Bytes, in pieces.
    """
    pipe, used = _Pipe(), set[str]()
    # Stored, not deflated: sound hardly gets smaller by it.
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for i, name in enumerate(names):
            try:
                path, suffix = await make(i)
            except RefusedError as error:
                archive.writestr(_unused(name, "_failed.txt", used), f"{name}: {error}\n")
                continue
            try:
                with (
                    path.open("rb") as file,
                    archive.open(_unused(name, suffix, used), "w", force_zip64=True) as entry,
                ):
                    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                        entry.write(chunk)
                        yield pipe.take()
            finally:
                path.unlink(missing_ok=True)
    yield pipe.take()


def _unused(name: str, suffix: str, used: set[str]) -> str:
    stem, n = PurePosixPath(name).stem, 1
    found = f"{stem}_enhanced{suffix}"
    while found.casefold() in used:
        n += 1
        found = f"{stem}_enhanced_{n}{suffix}"
    used.add(found.casefold())
    return found
