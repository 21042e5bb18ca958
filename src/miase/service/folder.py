"""The private folder of a running service, and the removal of what crashed services left."""

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from miase.errors import ServiceError

if sys.platform != "win32":
    import fcntl

PREFIX = "miase-serve-"
_LOCK = "lock"
_YOUNGEST_UNLOCKED = 60.0  # seconds; a younger folder without lock may belong to a service that is starting


class WorkFolder:
    """A folder that only this user may read, held by a lock that ends with the process, even when killed.

    Args:
        parent: folder to make it in; the system's temporary folder by default.

    Attributes:
        path: the folder.

    Raises:
        ServiceError: it cannot be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
            sweep(parent)
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mode 0700
            self._lock = _locked(self.path / _LOCK)
        except OSError as error:
            raise ServiceError(
                f"no work folder can be made in {parent} ({error.strerror}); name another by --work-dir"
            ) from error
        if self._lock is None:
            raise ServiceError(f"{self.path} is held by another process; start the service again")

    def free_bytes(self) -> int:
        """Room that is left on its disk."""
        return shutil.disk_usage(self.path).free

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


def sweep(parent: Path) -> list[Path]:
    """Remove the folders of services that are no longer running; gives their paths."""
    removed = []
    for folder in sorted(parent.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            if _is_stale(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed


def _is_stale(folder: Path) -> bool:
    found = folder.lstat()
    # A temporary folder is shared: another user may put links or folders of this name there.
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
        return False
    if not (folder / _LOCK).exists():
        return time.time() - found.st_mtime > _YOUNGEST_UNLOCKED
    lock = _locked(folder / _LOCK)
    if lock is None:
        return False
    lock.close()
    return True


def _locked(path: Path) -> IO[bytes] | None:
    """The open file, locked, or None where another process holds it."""
    if sys.platform == "win32":
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # refused there while a process has it open
            return path.open("wb")
        return None
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
