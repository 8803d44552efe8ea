"""Keys follow the sources that a process has loaded, not those that came into their place while it ran."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tailrace.sim import build, verilog
from tailrace.sim.sources import module_parts, source_parts
from tailrace.spec.config import Config
from tailrace.spec.errors import ToolError

#: Runs `core_verilog` in a process of its own, with an elaboration that writes down a number that it has loaded.
PROGRAM = """
import os, sys
from tailrace.sim import build, verilog
from tailrace.spec.config import Config
from made import number
verilog.to_verilog = lambda top, **_: f"number {number.NUMBER}"
import tailrace.hdl.top
tailrace.hdl.top.Top = lambda *_, **__: None
parts = build.module_parts
build.module_parts = lambda *names: parts("made", *names)
for _ in sys.stdin:
    print(build.core_verilog(Config("one", 128)), flush=True)
"""


def test_sources_are_known_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "b.py").write_text("b")
    (tmp_path / "x" / "a.py").write_text("a")
    (tmp_path / "x" / "a.txt").write_text("no")
    assert source_parts([tmp_path / "x"], "*.py") == ["a.py", b"a", "y/b.py", b"b"]


def test_modules_are_known_by_name_and_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "below").mkdir()
    (tmp_path / "package" / "below" / "inner.py").write_text("1")
    (tmp_path / "alone.py").write_text("2")
    make_old(tmp_path, monkeypatch)
    package = ["package", "__init__.py", b"", "below/inner.py", b"1"]
    assert module_parts("package", "alone") == [*package, "alone", "alone.py", b"2"]
    with pytest.raises(ModuleNotFoundError, match="there is no module nothing"):
        module_parts("nothing")


def make_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process had begun after the files were written."""
    last = max(path.stat().st_ctime_ns for path in folder.rglob("*"))
    monkeypatch.setattr("tailrace.sim.sources.LOADED_AT", last + 1)


def test_a_file_with_an_old_date_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that unpack a version give its files the dates that they had elsewhere."""
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "alone.py"
    path.write_text("1")
    make_old(tmp_path, monkeypatch)
    assert module_parts("alone") == ["alone", "alone.py", b"1"]
    time.sleep(0.02)
    os.utime(path, (0, 0))
    marked = module_parts("alone")
    assert marked[:3] == ["alone", "alone.py", b"1"]
    assert str(marked[3]).startswith(f"changed while process {os.getpid()} ran, which began at ")


def test_a_clock_that_was_wrong_marks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "alone.py").write_text("1")
    monkeypatch.setattr("tailrace.sim.sources.LOADED_AT", 0)
    monkeypatch.setattr("tailrace.sim.sources.time.time_ns", lambda: 1)
    assert module_parts("alone") == ["alone", "alone.py", b"1"]


def start(folder: Path) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "TAILRACE_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def ask(process: "subprocess.Popen[str]") -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_process_that_goes_on_with_old_modules(tmp_path: Path) -> None:
    """Its Verilog is kept apart; a process that begins later makes its own from what is there now, and both can be had again."""
    number = tmp_path / "made" / "number.py"
    number.parent.mkdir()
    (number.parent / "__init__.py").write_text("")
    number.write_text("NUMBER = 1\n")
    old = start(tmp_path)
    assert ask(old) == "number 1"
    number.write_text("NUMBER = 20\n")
    assert ask(old) == "number 1"
    new = start(tmp_path)
    assert ask(new) == "number 20"
    assert [ask(old), ask(new)] == ["number 1", "number 20"]
    for process in (old, new):
        process.communicate()
        assert process.returncode == 0
    # The version before, this one, and the old process's own.
    assert len(list((tmp_path / "cache" / "verilog").iterdir())) == 3


def test_files_that_change_during_elaboration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path / "cache"))
    contents = iter(["one", "two"])
    monkeypatch.setattr(build, "module_parts", lambda *_: [next(contents)])
    monkeypatch.setattr("tailrace.hdl.top.Top", lambda *_, **__: None)
    monkeypatch.setattr(verilog, "to_verilog", lambda *_, **__: "module")
    with pytest.raises(ToolError) as error:
        build.core_verilog(Config("one", 128))
    assert str(error.value) == (
        "files that the Verilog of configuration one is made from were changed while it was made: run it again"
    )
    assert list((tmp_path / "cache" / "verilog").iterdir()) == []
