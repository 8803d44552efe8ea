"""Locks of the cache's entries: two processes never make the same one, and who was killed holds none."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .progress import say

#: What file systems without locks answer.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked(folder: Path, key: str, what: str) -> Iterator[bool]:
    """Hold the lock of an entry; wait for another process that has it, and say so.

    Parameters
    ----------
    folder : Path
        Where the entry lies, or is to lie.
    key : str
        Its name.
    what : str
        What it is, for the line on standard error.

    Yields
    ------
    bool
        Whether nobody else has it: False where the file system knows no locks.
    """
    path = _path(folder, key)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            held = _take(file, what)
            if _is(file, path):
                break
        except BaseException:
            os.close(file)
            raise
        # Who had it has removed it meanwhile.
        os.close(file)
    try:
        with suppress(OSError):
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield held
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(file)


def is_locked(folder: Path, key: str) -> bool:
    """Whether a process is making an entry."""
    try:
        file = os.open(_path(folder, key), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    finally:
        os.close(file)
    return False


def _path(folder: Path, key: str) -> Path:
    return folder / f".{key}.lock"


def _take(file: int, what: str) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(file, 20, 0).decode(errors="replace").strip()
        say(f"another process{f' ({owner})' if owner else ''} is making {what}: waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _is(file: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(file)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
