"""A cache of things that take long to make, named after what they are made from."""

import errno
import hashlib
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from tailrace.spec.errors import ToolError

from .cache_entry import MANIFEST, damage, files_of, seal, sync
from .cache_lock import locked
from .progress import say

#: Environment variable that names another place for the cache.
VARIABLE = "TAILRACE_CACHE"
#: Ending of folders that are being filled.
DRAFT = ".draft"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def cache_folder() -> Path:
    """The folder of the cache: what ``TAILRACE_CACHE`` says, or ``tailrace`` among the user's caches. It need not exist.

    Raises
    ------
    ToolError
        If there can be no such folder.
    """
    named = os.environ.get(VARIABLE)
    if named is not None and not named.strip():
        # Not the usual place: a script whose own variable is not set must not empty that one.
        raise ToolError(f"{VARIABLE} is empty: let it name a folder, or unset it")
    try:
        folder = Path(platformdirs.user_cache_dir("tailrace")) if named is None else Path(named).expanduser().absolute()
    except RuntimeError as error:
        raise _unusable(named, "there is no such user") from error
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise _unusable(folder, "it is not a folder")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unusable(folder, error.strerror) from error
    return folder


def _unusable(folder: object, reason: str | None) -> ToolError:
    return ToolError(f"the cache {folder} can't be used ({reason}): set {VARIABLE} to a folder that can be written")


def content_key(parts: Iterable[str | bytes]) -> str:
    """A name for what is made from `parts`: equal parts in equal order give equal names."""
    digest = hashlib.sha256()
    for part in parts:
        data = os.fsencode(part) if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def is_cached(kind: str, key: str) -> bool:
    """Whether `cached` would find this entry, whole."""
    entry = cache_folder() / kind / key
    return entry.is_dir() and damage(entry) is None


def cached(kind: str, key: str | Callable[[], str], make: Callable[[Path], object], *, what: str) -> Path:
    """Return a folder of the cache, made now if it does not exist or is damaged.

    `make` fills a temporary folder beside it, which takes its name when it is complete and on the disk, with checksums of its
    files. They are compared at each use. So an entry is whole or made again, whatever interrupts it. Of several processes that
    need the same one, one makes it, and the others wait.

    Parameters
    ----------
    kind : str
        Folder of the cache that the entry lies in.
    key : str or callable
        Its name, from `content_key`. A callable takes it from files that may be edited at any time: it is called again when the
        entry has been made, which is thrown away if the name would be another one now.
    make : callable
        Takes the folder to fill.
    what : str
        What it is, for messages and for `tailrace cache`.

    Raises
    ------
    ToolError
        If the cache can't be written, or is one that other users can write to; if files were changed while the entry was made.
    """
    name = key if isinstance(key, str) else key()
    folder = cache_folder() / kind
    entry = folder / name
    with advised(folder):
        if _found(entry):
            return entry
        # With that, nobody else comes near to what is loaded from there.
        for place in (folder.parent, folder):
            try:
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            except FileNotFoundError as error:
                # As /proc has it.
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(place)) from error
            _refuse_strangers(place)
        with locked(folder, name, what) as alone:
            if _found(entry):
                return entry
            if entry.exists():
                say(f"{what} in the cache is damaged ({damage(entry)}): making it again ({entry})")
            for left in folder.glob(f".{name}.*{DRAFT}") if alone else ():
                # Of a process that was killed.
                shutil.rmtree(left, ignore_errors=True)

            def make_of_the_same(draft: Path) -> None:
                make(draft)
                if not isinstance(key, str) and key() != name:
                    raise ToolError(f"files that {what} is made from were changed while it was made: run it again")

            _make(entry, make_of_the_same, what)
    return entry


def _found(entry: Path) -> bool:
    """Whether there is a whole entry that is the user's own; that it is used is noted."""
    if not entry.is_dir():
        return False
    for place in (entry.parent.parent, entry.parent, entry):
        _refuse_strangers(place)
    if damage(entry) is not None:
        return False
    for path in files_of(entry):
        _refuse_strangers(path)
    with suppress(OSError):
        os.utime(entry / MANIFEST)
    return True


def _make(entry: Path, make: Callable[[Path], object], what: str) -> None:
    draft = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", suffix=DRAFT, dir=entry.parent))
    try:
        make(draft)
        seal(draft, what)
        if not _found(entry):
            # Only now: what is damaged may be better than nothing, to somebody who is offline.
            if entry.exists():
                _remove(entry)
            try:
                draft.rename(entry)
            except OSError:
                # Without locks somebody else may have been faster.
                if not _found(entry):
                    raise
        sync(entry.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if reason := damage(entry):
        raise ToolError(
            f"the disk of the cache {entry.parent} does not keep what is written to it ({reason}): set {VARIABLE} to a folder"
            " on another one"
        )


def _remove(entry: Path) -> None:
    """Remove an entry, so that nobody finds half of it."""
    doomed = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", suffix=DRAFT, dir=entry.parent))
    entry.rename(doomed / entry.name)
    shutil.rmtree(doomed, ignore_errors=True)


def _refuse_strangers(path: Path) -> None:
    """Refuse what somebody else could have put there: libraries of the cache are loaded into this process."""
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        raise ToolError(
            f"the cache {path} belongs to another user, who could put other code there: set {VARIABLE} to a folder of your own"
        )
    # In a folder like /tmp nobody can take another one's files away, and each of them is looked at.
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
        own = f"run chmod -R go-w {shlex.quote(str(path))}, or " if status.st_uid == os.geteuid() else ""
        raise ToolError(
            f"other users can write to the cache {path}, and could put other code there: {own}set {VARIABLE} to a folder of"
            " your own"
        )


@contextmanager
def advised(folder: Path) -> Iterator[None]:
    """Say of what the system refuses within the cache that it is the cache, and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL and (error.filename is None or _lies_in(error.filename, cache_folder())):
            raise ToolError(
                f"the cache {folder} can't be written ({reason}): free some space there and in {tempfile.gettempdir()}, or set"
                f" {VARIABLE} and TMPDIR to folders on another disk"
            ) from error
        if not isinstance(error, FileNotFoundError) and _lies_in(error.filename, cache_folder()):
            raise ToolError(f"the cache {folder} can't be written ({reason}): set {VARIABLE} to a folder that can") from error
        raise


def _lies_in(path: object, folder: Path) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and Path(os.fsdecode(path)).is_relative_to(folder)
