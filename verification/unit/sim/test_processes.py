"""Compilers run side by side, and stop together."""

import os
import sys
import time
from pathlib import Path

import pytest

from tailrace.sim import processes
from tailrace.sim.processes import run_all, usable_processors
from tailrace.spec.errors import ToolError


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_all_are_run_in_the_folder(tmp_path: Path) -> None:
    run_all([python(f"open('{n}', 'w')") for n in range(7)], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(n) for n in range(7)]


def test_a_failure_is_told_with_its_errors_and_stops_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "usable_processors", lambda: 2)
    failing = python("print('x.cpp:1: error: no such thing'); print('noise'); raise SystemExit(1)")
    start = time.monotonic()
    with pytest.raises(ToolError) as error:
        run_all([python("import time; time.sleep(60)"), failing, python("open('never', 'w')")], tmp_path)
    assert time.monotonic() - start < 30
    assert str(error.value) == f"{Path(sys.executable).name} failed: x.cpp:1: error: no such thing"
    assert not list(tmp_path.iterdir())


def test_a_failure_without_errors_shows_the_end(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="failed: seven\n  eight\n  nine\n  ten\n  eleven$"):
        run_all([python("print(*'five six seven eight nine ten eleven'.split(), sep='\\n'); raise SystemExit(3)")], tmp_path)


def test_a_silent_failure_shows_its_code(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="failed: exit code 3$"):
        run_all([python("raise SystemExit(3)")], tmp_path)


def test_a_killed_compiler_suggests_why(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"failed \(killed: is there enough memory\?\): exit code -9$"):
        run_all([python("import os; os.kill(os.getpid(), 9)")], tmp_path)


def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ToolError) as caught:
        run_all([python("print('fatal error: error writing to x.s: No space left on device'); raise SystemExit(1)")], tmp_path)
    assert str(caught.value) == (
        f"{Path(sys.executable).name} failed (the disk is full: free some space, or set TAILRACE_CACHE and TMPDIR to folders on"
        " another one): fatal error: error writing to x.s: No space left on device"
    )


def test_a_tool_that_is_a_program_in_a_folder_with_an_umlaut(tmp_path: Path) -> None:
    """Tools speak English, so that their errors are found, and know names beyond ASCII."""
    code = "import locale, os, sys; print(os.environ['LC_ALL'], locale.getpreferredencoding(), 'jörg'.encode(), flush=True); sys.exit(2)"
    with pytest.raises(ToolError, match="C.UTF-8 UTF-8 b'j"):
        run_all([python(code)], tmp_path)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not on this system")
def test_only_processors_that_may_be_used_are(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_processors() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    for quota, count in {"150000 100000": 2, "50000 100000": 1, "max 100000": 64}.items():
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64))
        monkeypatch.setattr(Path, "read_text", lambda path, encoding, quota=quota: quota)
        assert usable_processors() == count
