"""An entry of the cache: a folder of files, with a manifest by which it is known whether they are what was made."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

#: Written last: a folder without it is not an entry. The time of its last change is that of the entry's last use.
MANIFEST = "manifest.json"
#: Bytes from which on a file is taken for unchanged if its size and times are: reading it would take too long each time. The
#: time of the last change of its entry (`st_ctime`) no program can set.
_LARGE = 16 << 20


def seal(folder: Path, what: str) -> None:
    """Make an entry of a folder: write its manifest, and have the disk keep all of it.

    Parameters
    ----------
    folder : Path
    what : str
        What it is, for people.

    Raises
    ------
    OSError
        If it can't be written.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            # Whatever the umask: compilers' files are loaded into this process.
            path.chmod(path.stat().st_mode & ~0o022)
            sync(path)
            status = path.stat()
            name = path.relative_to(folder).as_posix()
            files[name] = {
                "bytes": status.st_size,
                "changed": [status.st_mtime_ns, status.st_ctime_ns],
                "sha256": _digest(path),
            }
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"what": what, "files": files}, indent=1), encoding="utf-8")
    sync(manifest)
    for path in [*(p for p in folder.rglob("*") if p.is_dir()), folder]:
        sync(path)


def damage(folder: Path, *, thorough: bool = False) -> str | None:
    """What is wrong with an entry; None if its files are what was made.

    Parameters
    ----------
    folder : Path
    thorough : bool
        Whether large files are read, too, whose size and times are those that they were made with: what a disk has lost in
        silence is found in no other way.
    """
    try:
        files = _manifest(folder)["files"]
        for name, made in files.items():
            path = folder / name
            status = path.stat()
            if status.st_size != made["bytes"]:
                return f"{name} has {status.st_size} bytes, not {made['bytes']}"
            known = status.st_size >= _LARGE and [status.st_mtime_ns, status.st_ctime_ns] == made["changed"]
            if (thorough or not known) and _digest(path) != made["sha256"]:
                return f"{name} has other contents than were written"
    except OSError as error:
        return f"{Path(error.filename or MANIFEST).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} can't be read"
    return None


def files_of(folder: Path) -> list[Path]:
    """The files of a whole entry."""
    return [folder / name for name in _manifest(folder)["files"]]


def description(folder: Path) -> str:
    """What an entry is; empty if it does not tell."""
    try:
        return str(_manifest(folder)["what"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder that may be changing."""
    total = 0
    # Folders that vanish meanwhile os.walk, unlike Path.rglob, takes for empty.
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def sync(path: Path) -> None:
    """Have the disk keep a file, or which files a folder has."""
    place = os.open(path, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def _manifest(folder: Path) -> Any:
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
