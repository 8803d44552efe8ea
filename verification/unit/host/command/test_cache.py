"""`tailrace cache`: what is there, and what is removed."""

import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tailrace.command.cli import main
from tailrace.sim.cache import cached
from tailrace.sim.cache_lock import locked


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path / "ü x"))
    return tmp_path / "ü x"


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["cache", *arguments])
    assert result.exit_code == 0, result.output
    return result


def make(key: str, size: int, days: float = 0.0) -> Path:
    """An entry that was last used so many days ago."""
    entry = cached("kind", key, lambda draft: (draft / "file").write_bytes(bytes(size)), what=f"thing [/{key}]")
    then = time.time() - 86400 * days - 60
    os.utime(entry / "manifest.json", (then, then))
    os.utime(entry, (then, then))
    return entry


def test_an_empty_cache(folder: Path) -> None:
    assert invoke().output == f"0 entries in {folder}, 0.0 MB; TAILRACE_CACHE names another place\n"
    assert invoke("--path").output == f"{folder}\n"
    assert invoke("--clear").output == f"0 entries removed from {folder}, 0.0 MB\n"


def test_entries_are_listed_the_largest_first(folder: Path) -> None:
    make("small", 200_000, days=1)
    make("large", 3_000_000)
    os.truncate(make("broken", 1_000_000) / "file", 900_000)
    *_, first, second, third, _, total = invoke().output.splitlines()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in (first, second, third)]
    assert rows == [
        ["thing [/large]", "3.0", "today", "today", ""],
        ["thing [/broken]", "0.9", "today", "today", "damaged"],
        ["thing [/small]", "0.2", "1 day ago", "1 day ago", ""],
    ]
    assert total == f"3 entries in {folder}, 4.1 MB; TAILRACE_CACHE names another place"


def test_sweeping_removes_what_is_of_no_use(folder: Path) -> None:
    kept, old = make("kept", 100, days=29), make("old", 1_000_000, days=31)
    broken = make("broken", 100)
    (broken / "file").unlink()
    left = folder / "kind" / ".other.abcd1234.draft"
    left.mkdir()
    (left / "half").write_bytes(bytes(1_000_000))
    busy = folder / "kind" / ".busy.abcd1234.draft"
    busy.mkdir()
    with locked(folder / "kind", "busy", "something"):
        assert invoke("--sweep").output == f"3 entries removed from {folder}, 2.0 MB\n"
        assert [path.exists() for path in (kept, busy, old, broken, left)] == [True, True, False, False, False]
        assert invoke("--clear").output.startswith("1 entry removed")
        assert [path.exists() for path in (kept, busy)] == [False, True]
    assert invoke("--sweep", "--days", "0").output.startswith("1 entry removed")
    assert not busy.exists()


def test_using_an_entry_keeps_it() -> None:
    entry = make("key", 100, days=40)
    cached("kind", "key", lambda draft: pytest.fail("it is there"), what="thing")
    assert invoke("--sweep").output.startswith("0 entries removed")
    assert entry.exists()


def test_one_thing_at_a_time() -> None:
    result = CliRunner().invoke(main, ["cache", "--sweep", "--clear"])
    assert result.exit_code == 2
    assert "--path, --sweep, --check and --clear are for one at a time" in result.output


def test_check_names_what_is_damaged(folder: Path) -> None:
    make("whole", 1000)
    assert invoke("--check").output.splitlines()[-1] == f"0 entries damaged in {folder}"
    (make("broken", 1000) / "file").write_bytes(bytes(999) + b"x")
    result = CliRunner().invoke(main, ["cache", "--check"])
    assert result.exit_code == 1
    place = folder / "kind" / "broken"
    assert f"damaged: thing [/broken] ({place}); it is made again when it is needed\n" in result.output
    assert result.output.endswith(f"1 entry damaged in {folder}\n")
