"""Tools as processes."""

import sys
import time
from pathlib import Path

import pytest

from tailrace.sim.run_tool import run_tool


def test_lines_of_both_streams_are_heard(tmp_path: Path) -> None:
    script = "import sys; print('one', flush=True); print('two', file=sys.stderr, flush=True); sys.exit(3)"
    heard: list[str] = []
    assert run_tool([sys.executable, "-c", script], tmp_path, heard.append) == (3, ["one", "two"])
    assert heard == ["one", "two"]


def test_a_tool_ends_with_whoever_listens(tmp_path: Path) -> None:
    def listen(line: str) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_tool([sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"], tmp_path, listen)
    assert time.monotonic() - start < 30
