"""Outputs are checked before anything else, and nothing is left behind by that."""

from pathlib import Path

import click
import pytest

from tailrace.command.output_file import OutputFile, OutputFolder


def test_a_file_that_can_be_written(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_text("kept")
    assert OutputFile().convert(str(new), None, None) == new
    assert OutputFile().convert(str(old), None, None) == old
    assert [f.name for f in tmp_path.iterdir()] == ["old"]
    assert old.read_text() == "kept"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", " is a folder: name a file"),
        ("none/a", "/none/a can't be written: No such file or directory"),
        ("file/a", "/file/a can't be written: Not a directory"),
    ],
)
def test_a_file_that_can_not(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(click.BadParameter) as error:
        OutputFile().convert(str(tmp_path / name), None, None)
    assert error.value.message == f"{tmp_path}{message}"


def test_a_folder_of_the_kernel() -> None:
    """Root may write anywhere, says its mode; /proc takes no files all the same."""
    with pytest.raises(click.BadParameter, match="^/proc/x.vcd can't be written: "):
        OutputFile().convert("/proc/x.vcd", None, None)
    with pytest.raises(click.BadParameter, match="^/proc/x/y can't be written: "):
        OutputFolder().convert("/proc/x/y", None, None)


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("", "a", "a/b/c"):
        assert OutputFolder().convert(str(tmp_path / name), None, None) == tmp_path / name
    for name in ("file", "file/a"):
        with pytest.raises(click.BadParameter, match="can't be written: Not a directory$"):
            OutputFolder().convert(str(tmp_path / name), None, None)
    assert [f.name for f in tmp_path.iterdir()] == ["file"]
