"""A cache of things that take long to make, named after what they are made from."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import platformdirs

from tailrace.spec.errors import ToolError

#: Environment variable that names another place for the cache.
VARIABLE = "TAILRACE_CACHE"


def cache_folder() -> Path:
    """The folder of the cache: what ``TAILRACE_CACHE`` says, or ``tailrace`` among the user's caches."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser().absolute() if named else Path(platformdirs.user_cache_dir("tailrace"))


def content_key(parts: Iterable[str | bytes]) -> str:
    """A name for what is made from `parts`: equal parts in equal order give equal names."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def source_parts(folders: Iterable[Path], pattern: str) -> list[str | bytes]:
    """Names and contents of all files below `folders` that match `pattern`, in a fixed order, for `content_key`."""
    parts: list[str | bytes] = []
    for folder in folders:
        for path in sorted(folder.rglob(pattern)):
            parts += [path.relative_to(folder).as_posix(), path.read_bytes()]
    return parts


def is_cached(kind: str, key: str) -> bool:
    """Whether `cached` would find this entry."""
    return (cache_folder() / kind / key).is_dir()


def cached(kind: str, key: str, make: Callable[[Path], object]) -> Path:
    """Return a folder of the cache, made now if it does not exist.

    `make` fills a temporary folder beside it, which takes its name only when it is complete. So an entry is whole or absent,
    whatever interrupts it, and two processes that make the same one do no harm: the first to finish wins.

    Parameters
    ----------
    kind : str
        Folder of the cache that the entry lies in.
    key : str
        Its name, from `content_key`.
    make : callable
        Takes the folder to fill.

    Raises
    ------
    ToolError
        If the cache can't be written.
    """
    folder = cache_folder() / kind
    entry = folder / key
    if entry.is_dir():
        return entry
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{key[:8]}-", dir=folder))
    except OSError as error:
        raise ToolError(
            f"the cache {folder} can't be written ({error.strerror}): set {VARIABLE} to a folder that can"
        ) from error
    try:
        make(draft)
        draft.chmod(0o755)
        try:
            draft.rename(entry)
        except OSError:
            if not entry.is_dir():
                raise
        return entry
    finally:
        shutil.rmtree(draft, ignore_errors=True)
