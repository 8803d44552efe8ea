"""`tailrace serve` as a user starts and ends it."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("uvicorn")

from tailrace.command.cli import main
from verification.unit.host.tiny_models import write_model


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(tmp_path: Path, ending: signal.Signals) -> None:
    model, keys = write_model(tmp_path / "tiny.gguf", layers=1), tmp_path / "keys"
    keys.write_text("one\n\ntwo\n")
    arguments = ["--port", "0", "--alias", "small", "--api-key-file", str(keys), "-np", "2", "-c", "32"]
    with subprocess.Popen(
        [sys.executable, "-m", "tailrace", "serve", str(model), *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            lines = iter(process.stderr.readline, "")
            line = next(line for line in lines if line.startswith("small on emulator"))
            found = re.fullmatch(r"small on emulator, at (http://127\.0\.0\.1:\d+/v1); Ctrl-C ends the server\n", line)
            assert found is not None
            request = urllib.request.Request(found[1] + "/models", headers={"authorization": "Bearer two"})
            with urllib.request.urlopen(request, timeout=20) as response:
                assert [one["id"] for one in json.load(response)["data"]] == ["small"]
            process.send_signal(ending)
            assert process.wait(20) == (0 if ending == signal.SIGINT else 128 + ending)
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    import socket

    model = write_model(tmp_path / "tiny.gguf", layers=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["serve", str(model), "--port", str(port), "-np", "1"])
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"tailrace: 127.0.0.1:{port} can't be listened at (")
    assert last.endswith("): choose another with --host and --port")


def test_a_file_without_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("\n")
    result = CliRunner().invoke(main, ["serve", "none.gguf", "--api-key-file", str(keys)])
    assert (result.exit_code, result.stderr) == (1, f"tailrace: {keys} has no key: write one in each line\n")
