"""Entries of the cache are whole or absent."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tailrace.sim.cache import cache_folder, cached, content_key, is_cached, source_parts
from tailrace.spec.errors import ToolError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "kind").iterdir())


def test_the_variable_names_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == folder
    monkeypatch.setenv("TAILRACE_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("TAILRACE_CACHE")
    assert cache_folder().name == "tailrace"


def test_keys_depend_on_parts_their_order_and_their_ends() -> None:
    keys = [content_key(parts) for parts in (["a", "b"], ["b", "a"], ["ab"], ["ab", ""], ["a", b"b"])]
    assert len(set(keys)) == 4
    assert keys[0] == keys[4]


def test_sources_are_known_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "b.py").write_text("b")
    (tmp_path / "x" / "a.py").write_text("a")
    (tmp_path / "x" / "a.txt").write_text("no")
    assert source_parts([tmp_path / "x"], "*.py") == ["a.py", b"a", "y/b.py", b"b"]


def test_an_entry_is_made_once(folder: Path) -> None:
    made = []

    def make(draft: Path) -> None:
        made.append(draft)
        (draft / "file").write_text("content")

    assert not is_cached("kind", "key")
    assert cached("kind", "key", make) == cached("kind", "key", make) == folder / "kind" / "key"
    assert is_cached("kind", "key")
    assert len(made) == 1
    assert (folder / "kind" / "key" / "file").read_text() == "content"
    assert entries(folder) == ["key"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, ToolError])
def test_an_interrupted_entry_leaves_nothing(folder: Path, error: type[BaseException]) -> None:
    def make(draft: Path) -> None:
        (draft / "half").write_text("written")
        raise error("stop")

    with pytest.raises(error):
        cached("kind", "key", make)
    assert entries(folder) == []


def test_the_first_of_two_wins(folder: Path) -> None:
    def make(draft: Path) -> None:
        cached("kind", "key", lambda other: (other / "file").write_text("first"))
        (draft / "file").write_text("second")

    assert (cached("kind", "key", make) / "file").read_text() == "first"
    assert entries(folder) == ["key"]


def _make_slowly(number: int, results: "multiprocessing.Queue[str]") -> None:
    def make(draft: Path) -> None:
        for name in ("a", "b"):
            (draft / name).write_text(str(number))
            time.sleep(0.05)

    entry = cached("kind", "key", make)
    results.put((entry / "a").read_text() + (entry / "b").read_text())


def test_processes_at_the_same_time_do_no_harm(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=_make_slowly, args=(number, results)) for number in range(4)]
    for process in processes:
        process.start()
    seen = {results.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert len(seen) == 1
    assert len(set(seen.pop())) == 1
    assert entries(folder) == ["key"]


def test_ctrl_c_in_the_middle_of_a_compilation_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    program = (
        "import signal, sys, pathlib\n"
        # A shell that starts the tests in the background makes them, and what they start, ignore Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tailrace.sim.cache import cached\n"
        "from tailrace.sim.processes import run_all\n"
        "slow = [sys.executable, '-c', 'import time; print(1); open(\"begun\", \"w\"); time.sleep(60)']\n"
        "cached('kind', 'key', lambda draft: run_all([slow, slow], draft))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env=os.environ, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(folder.glob("kind/.*/begun")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert entries(folder) == []


def test_a_cache_that_cannot_be_written_says_so(folder: Path) -> None:
    folder.write_text("a file, not a folder")
    with pytest.raises(
        ToolError,
        match=rf"^the cache {re.escape(str(folder))}/kind can't be written \(.*\): set TAILRACE_CACHE to a folder that can$",
    ):
        cached("kind", "key", lambda draft: None)
