import errno
from pathlib import Path

import pytest

from tailrace.export.folder import whole_folder
from tailrace.spec.errors import TailraceError

MARK = "tailrace.core"


def export(target: Path, text: str, replace: bool = False) -> None:
    with whole_folder(target, MARK, replace) as folder:
        (folder / MARK).write_text(text)
        assert not (target / MARK).exists() or (target / MARK).read_text() != text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("present", [False, True])
def test_a_new_or_an_empty_folder_is_written(tmp_path: Path, present: bool) -> None:
    target = tmp_path / "deeper" / "core"
    if present:
        target.mkdir(parents=True)
    export(target, "one")
    assert (target / MARK).read_text() == "one"
    assert names(tmp_path / "deeper") == ["core"]


def test_an_earlier_export_is_replaced_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "core"
    export(target, "one")
    (target / "old").write_text("left over")
    message = f"{target} holds an earlier export: replace it with --force, or choose another folder with -o"
    with pytest.raises(TailraceError) as error:
        export(target, "two")
    assert str(error.value) == message
    assert (target / MARK).read_text() == "one"
    export(target, "two", replace=True)
    assert (target / MARK).read_text() == "two"
    assert names(target) == [MARK]
    assert names(tmp_path) == ["core"]


@pytest.mark.parametrize("replace", [False, True])
def test_other_folders_and_files_are_never_replaced(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(TailraceError) as error:
        export(tmp_path, "one", replace)
    assert str(error.value) == f"{tmp_path} is not empty, and not an earlier export: choose another folder with -o"
    for target in (tmp_path / "mine", tmp_path / "link"):
        if target.name == "link":
            target.symlink_to(tmp_path / "nowhere")
        with pytest.raises(TailraceError) as error:
            export(target, "one", replace)
        assert str(error.value) == f"{target} is not a folder: choose another one with -o"
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_is_left(tmp_path: Path, problem: BaseException) -> None:
    target = tmp_path / "core"
    export(target, "one")
    with pytest.raises(type(problem)), whole_folder(target, MARK, True) as folder:
        (folder / MARK).write_text("two")
        raise problem
    assert (target / MARK).read_text() == "one"
    assert names(tmp_path) == ["core"]


def test_the_earlier_export_stays_if_the_new_one_cannot_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, rename = tmp_path / "core", Path.rename
    export(target, "one")

    def fails(path: Path, new: Path) -> Path:
        if ".new-" in path.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, new)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="Input/output error"):
        export(target, "two", replace=True)
    assert (target / MARK).read_text() == "one"
    assert names(tmp_path) == ["core"]


def test_a_full_disk_is_told_with_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, whole_folder(tmp_path / "core", MARK, False):
        # What a write raises.
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "core")
    assert names(tmp_path) == []
