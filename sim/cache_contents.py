"""What the cache holds, and how it is made smaller."""

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .cache import DRAFT, advised, cache_folder
from .cache_entry import MANIFEST, damage, description, size_of
from .cache_lock import is_locked

_DAY = 86_400.0


@dataclass(frozen=True)
class Stored:
    """A folder of the cache.

    Attributes
    ----------
    path : Path
    what : str
        What it is, for people.
    size : int
        Bytes of its files.
    age, unused : float
        Days since it was made and since it was last used.
    state : str
        ``whole``; ``damaged``: made again when it is needed; ``being made``; or ``left behind`` by a process that was
        killed.
    """

    path: Path
    what: str
    size: int
    age: float
    unused: float
    state: str


def contents() -> list[Stored]:
    """All that lies in the cache, the largest first."""
    with advised(cache_folder()):
        return sorted(_stored(), key=lambda stored: -stored.size)


def sweep(days: float) -> list[Stored]:
    """Remove what is of no use: what is damaged or was left behind, and what was not used for so many days.

    Returns
    -------
    list of Stored
        What was removed.
    """
    return _removed(s for s in contents() if s.state in ("damaged", "left behind") or s.state == "whole" and s.unused >= days)


def check() -> list[Stored]:
    """Read all that lies in the cache, and compare it with the sums of what was made.

    Returns
    -------
    list of Stored
        What is damaged. It stays: it is made again when it is needed.
    """
    return [stored for stored in contents() if stored.state == "whole" and damage(stored.path, thorough=True)] + [
        stored for stored in contents() if stored.state == "damaged"
    ]


def make_room(kind: str, size: int, limit: int) -> list[Stored]:
    """Remove entries of a kind, those first that were not used for the longest time, until another one has room.

    Whoever has a file of them mapped keeps it.

    Parameters
    ----------
    kind : str
        Folder of the cache.
    size : int
        Bytes of the new entry.
    limit : int
        Bytes that all entries of the kind may take together.

    Returns
    -------
    list of Stored
        What was removed.
    """
    oldest = sorted((s for s in contents() if s.path.parent.name == kind and s.state == "whole"), key=lambda s: -s.unused)
    excess, doomed = sum(stored.size for stored in oldest) + size - limit, []
    for stored in oldest:
        if excess > 0:
            doomed.append(stored)
            excess -= stored.size
    return _removed(doomed)


def clear() -> list[Stored]:
    """Remove all but what is being made.

    Returns
    -------
    list of Stored
        What was removed.
    """
    return _removed(stored for stored in contents() if stored.state != "being made")


def _stored() -> Iterator[Stored]:
    folder = cache_folder()
    kinds = [kind for kind in folder.iterdir() if kind.is_dir()] if folder.is_dir() else []
    for path in (path for kind in kinds for path in kind.iterdir() if path.is_dir()):
        try:
            made = path.stat().st_mtime
        except FileNotFoundError:
            # It has become an entry, or somebody removes it as well.
            continue
        try:
            used = (path / MANIFEST).stat().st_mtime
        except FileNotFoundError:
            used = made
        now, what = time.time(), description(path) or path.parent.name
        yield Stored(path, what, size_of(path), (now - made) / _DAY, (now - used) / _DAY, _state(path))


def _state(path: Path) -> str:
    if not path.name.endswith(DRAFT):
        return "damaged" if damage(path) else "whole"
    key = path.name[1:].partition(".")[0]
    return "being made" if is_locked(path.parent, key) else "left behind"


def _removed(useless: Iterable[Stored]) -> list[Stored]:
    with advised(cache_folder()):
        for stored in (found := list(useless)):
            # Half of an entry must not be found.
            (stored.path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(stored.path, ignore_errors=True)
    return [stored for stored in found if not stored.path.exists()]
