"""The files that something in the cache is made from, as parts of its key.

Python loads a module once. A process that still runs when its sources are edited, or another version is checked out, goes on
with what it has loaded: what it makes must not be found under a name that was taken from the new files.
"""

import os
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from tailrace.spec import LOADED_AT


def source_parts(folders: Iterable[Path], pattern: str) -> list[str | bytes]:
    """Names and contents of all files below `folders` that match `pattern`, in a fixed order, for `content_key`."""
    parts: list[str | bytes] = []
    for folder in folders:
        for path in sorted(folder.rglob(pattern)):
            parts += [path.relative_to(folder).as_posix(), path.read_bytes()]
    return parts


def module_parts(*names: str) -> list[str | bytes]:
    """Names and contents of Python modules, as this process runs them, for `content_key`.

    Parameters
    ----------
    *names : str
        Modules, or packages with all that is below them, e.g. ``tailrace.hdl``.

    Returns
    -------
    list of str or bytes
        With a part of this process's own if one of the files has changed since it began: then nobody knows which of them have
        been loaded before, and what is made of them is for this process alone.
    """
    parts: list[str | bytes] = []
    changed = False
    for name in names:
        folder, paths = _files(name)
        parts.append(name)
        for path in paths:
            parts += [path.relative_to(folder).as_posix(), path.read_bytes()]
            changed |= _is_new(path)
    if changed:
        parts.append(f"changed while process {os.getpid()} ran, which began at {LOADED_AT}")
    return parts


def _files(name: str) -> tuple[Path, list[Path]]:
    """A module's folder, and its files there."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"there is no module {name}")
    path = Path(spec.origin)
    return path.parent, sorted(path.parent.rglob("*.py")) if spec.submodule_search_locations else [path]


def _is_new(path: Path) -> bool:
    # Not the time of the contents (st_mtime): tools that check out or unpack a version set that one back. What was written
    # after now was written by a clock that was wrong.
    return LOADED_AT <= path.stat().st_ctime_ns <= time.time_ns()
