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


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_new_file_has_the_rights_that_any_new_file_has(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with written_whole(tmp_path / "a") as file:
            file.write(b"one")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_a_file_that_is_replaced_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    path.chmod(0o640)
    with written_whole(path) as file:
        file.write(b"two")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o640)


def test_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 255)
    with written_whole(path) as file:
        file.write(b"one")
    assert path.read_bytes() == b"one"


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
