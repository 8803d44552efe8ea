"""Files that are written whole: what was there before stays until the new one is complete."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tailrace.spec.errors import TailraceError


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of `path` at the end; if anything fails, nothing has changed.

    Who may read it is up to the umask, as for any new file; what replaces a file has the rights of that one.

    Parameters
    ----------
    path : Path
        Of a link, the file that it leads to is replaced.

    Raises
    ------
    TailraceError
        If it can't be written, or is no file: a device or a folder is not replaced.
    """
    try:
        target = path.resolve()
        is_other = target.exists() and not target.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        # A name that is too long or has a NUL, a link that leads to itself.
        raise TailraceError(f"{path} can't be written: {getattr(error, 'strerror', None) or error}") from error
    if is_other:
        raise TailraceError(f"{path} is not a file: name one, or a new one")
    try:
        # Not a temporary file of Python's: those are for their owner alone. The name stays short enough for any disk.
        draft = target.with_name(f".{secrets.token_hex(8)}.tailrace")
        with draft.open("xb") as file:
            try:
                if target.exists():
                    os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
                yield file
                file.flush()
                os.fsync(file.fileno())
                draft.replace(target)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise TailraceError(f"{path} can't be written: {error.strerror}") from error
