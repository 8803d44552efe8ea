"""A folder that is written as a whole, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailrace.spec.errors import TailraceError

from ..command.output_file import writing


@contextmanager
def whole_folder(target: Path, mark: str, replace: bool, option: str = " with -o") -> Iterator[Path]:
    """Write a folder beside its place, and move it there when all went well.

    Parameters
    ----------
    target : Path
    mark : str
        File that every such folder has: nothing else is ever replaced.
    replace : bool
        Whether an earlier one may be replaced.
    option : str
        How another folder is chosen, for errors.

    Yields
    ------
    Path
        An empty folder to fill.

    Raises
    ------
    TailraceError
        If there is something at `target` that must stay.
    OSError
        If nothing can be written there.
    """
    target = Path(os.path.abspath(target))
    _check(target, mark, replace, option)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (target.with_name(f".{target.name}.{kind}-{os.getpid()}") for kind in ("new", "old"))
    fresh.mkdir()
    try:
        with writing(target):
            yield fresh
        _check(target, mark, replace, option)
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def _check(target: Path, mark: str, replace: bool, option: str) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise TailraceError(f"{target} is not a folder: choose another one{option}")
    if not target.exists() or not any(target.iterdir()):
        return
    if not (target / mark).is_file():
        raise TailraceError(f"{target} is not empty, and not an earlier export: choose another folder{option}")
    if not replace:
        raise TailraceError(f"{target} holds an earlier export: replace it with --force, or choose another folder{option}")
