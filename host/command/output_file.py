"""Files and folders that a command is to write: refused before anything else is done, not after minutes of work."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name a file or folder in the errors of what is written there: a write to a full disk does not know its file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


class OutputFile(click.ParamType):  # type: ignore[type-arg]
    """A file that can be written. What is there stays as it is until the command writes."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Check the path by opening it."""
        path = Path(value)
        if path.is_dir():
            self.fail(f"{path} is a folder: name a file", param, ctx)
        existed = path.exists()
        try:
            path.open("ab").close()
        except OSError as error:
            self.fail(f"{path} can't be written: {error.strerror}", param, ctx)
        if not existed:
            path.unlink()
        return path


class OutputFolder(click.ParamType):  # type: ignore[type-arg]
    """A folder that can be made, or that can be written to."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Check the nearest folder that exists by writing to it."""
        path = Path(value)
        nearest = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
        try:
            tempfile.TemporaryFile(dir=nearest).close()
        except OSError as error:
            self.fail(f"{path} can't be written: {error.strerror}", param, ctx)
        return path
