"""A LiteX design in LiteX's own simulation decodes tokens: bus, LiteDRAM, bridge and server are LiteX's, the driver is ours."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tailrace.device.counters import Counters
from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.models.fetch import resolve_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.transports.open import open_transport
from verification.unit.host.tiny_models import write_model

ROOT = Path(__file__).resolve().parents[2]
CONTEXT, TOKENS = 16, (18, 47)
#: Headers of the libraries that LiteX's simulator is compiled with (Debian: libevent-dev, libjson-c-dev).
HEADERS = ("event2/event.h", "json-c/json.h")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        subprocess.run(
            ["cc", "-E", "-x", "c", "-"], input="".join(f"#include <{h}>\n" for h in HEADERS), capture_output=True, text=True,
            check=False,
        ).returncode if shutil.which("cc") else True,
        reason="LiteX's simulator needs a C compiler, libevent-dev and libjson-c-dev",
    ),
]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def started(command: list[str], folder: Path, log: Path, port: int, seconds: float) -> subprocess.Popen[bytes]:
    """Start a program, and wait until it listens."""
    process = subprocess.Popen(command, cwd=folder, stdout=log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True)
    end = time.monotonic() + seconds
    while f":{port:04X} 00000000:0000 0A" not in Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(f"{command} does not listen:\n{log.read_text()[-4000:]}")
        time.sleep(0.2)
    return process


@pytest.fixture(scope="module", params=["base", "tiny,channels=2"])
def build(request: pytest.FixtureRequest) -> str:
    """What the core is built with; of two memory ports each has a port of LiteDRAM's crossbar."""
    return str(request.param)


@pytest.fixture(scope="module")
def csr(build: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """The design runs, and LiteX's server with it: its csr.csv, and the server's port."""
    folder = tmp_path_factory.mktemp("litex")
    bridge, server = free_port(), free_port()
    example = [sys.executable, str(ROOT / "examples/litex_sim.py"), "--with-tailrace", "--tailrace-config", build]
    compiled = [*example, "--output-dir", str(folder / "build"), "--uart-tcp-port", str(bridge), "--opt-level", "O2"]
    simulation = started(compiled, folder, folder / "simulation.log", bridge, 7200)
    try:
        uart = ["--uart", "--uart-port", f"socket://localhost:{bridge}"]
        command = [sys.executable, "-m", "litex.tools.litex_server", *uart, "--bind-port", str(server)]
        bone = started(command, folder, folder / "server.log", server, 60)
        try:
            yield folder / "build" / "csr.csv", server
        finally:
            bone.kill()
    finally:
        os.killpg(simulation.pid, 9)


def test_tokens_and_logits_are_golden_s(csr: tuple[Path, int], build: str, tmp_path: Path) -> None:
    path, port = csr
    # All of a model goes over the bridge, which is slow.
    model = resolve_model("shakespeare") if build == "base" else write_model(tmp_path / "tiny.gguf", layers=1)
    imported = import_model(open_model(model), CONTEXT)
    steps: list[Counters] = []
    begin = time.monotonic()
    ours = Decoder(
        Device(open_transport(f"litex:{path},port={port},patience=120"), timeout=600), imported, on_step=steps.append
    )
    loaded = time.monotonic() - begin
    golden = Decoder(Device(open_device("golden", parse_config(build), 1 << 26)), imported)
    with ours.device:
        for token in TOKENS:
            logits = ours.step(token)
            assert np.array_equal(logits.view(np.uint32), golden.step(token).view(np.uint32))
        assert ours.run(TOKENS[-1]) == golden.run(TOKENS[-1])
        statistics = ours.device.transport.statistics  # type: ignore[attr-defined]
        # Each run's end was seen as the event of LiteX's event manager.
        assert (statistics["interrupts"], statistics["missed interrupts"]) == (len(steps), 0)
    cycles = [step.values["CYCLES"] for step in steps]
    print(f"loaded in {loaded:.0f} s; cycles of each step: {cycles}; {time.monotonic() - begin:.0f} s in all; {statistics}")
