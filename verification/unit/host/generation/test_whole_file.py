"""Files that are written whole, or not at all."""

import os
import re
from pathlib import Path

import pytest

from tailrace.generation.whole_file import written_whole
from tailrace.spec.errors import TailraceError


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for data in (b"one", b"two"):
        with written_whole(path) as file:
            file.write(data)
            assert not path.exists() or path.read_bytes() == b"one"
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_still_leads_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "a", tmp_path / "link"
    link.symlink_to(target)
    with written_whole(link) as file:
        file.write(b"one")
    assert link.is_symlink()
    assert target.read_bytes() == b"one"


def test_what_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as file:
        file.write(b"two")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """As root, a device could be."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(TailraceError, match=f"^{re.escape(str(path))} is not a file: name one, or a new one$"):
            with written_whole(path):
                raise AssertionError("it was opened")
    assert pipe.is_fifo()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a"
    with pytest.raises(TailraceError, match=f"^{re.escape(str(path))} can't be written: No such file or directory$"):
        with written_whole(path):
            raise AssertionError("it was opened")
