"""Compilers run side by side, and stop together."""

import os
import sys
import time
from pathlib import Path

import pytest

from tailrace.sim.processes import run_all
from tailrace.spec.errors import ToolError


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_all_are_run_in_the_folder(tmp_path: Path) -> None:
    run_all([python(f"open('{n}', 'w')") for n in range(7)], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(n) for n in range(7)]


def test_a_failure_is_told_with_its_errors_and_stops_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
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
