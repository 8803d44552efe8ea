"""A process that is forked from one with hardware must not talk to it as well."""

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace.golden.device import GoldenDevice
from tailrace.sim.serial_board import SerialBoard
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import TailraceError
from tailrace.transports.serial import SerialTransport
from tailrace.transports.xdma import XdmaTransport
from verification.unit.host.transports.stand_in import Xdma

MEMORY = 1 << 16
CONFIG = CONFIGS["tiny"]


@pytest.fixture(params=["xdma", "serial"])
def transport(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[XdmaTransport | SerialTransport]:
    if request.param == "xdma":
        card = Xdma(monkeypatch, tmp_path, CONFIG, MEMORY)
        with XdmaTransport(card.prefix, MEMORY) as transport:
            yield transport
        card.close()
    else:
        pytest.importorskip("serial")
        with SerialBoard(lambda: GoldenDevice(CONFIG, MEMORY)) as board, SerialTransport(board.port) as serial:
            yield serial


def _tell(call: Callable[[], object], answers: "multiprocessing.Queue[str]") -> None:
    try:
        answers.put(f"returned {call()!r}")
    except TailraceError as error:
        answers.put(str(error))


def test_a_fork_is_refused(transport: XdmaTransport | SerialTransport) -> None:
    context = multiprocessing.get_context("fork")
    expected = transport.read(0, 64)
    calls = (lambda: transport.read(0, 64), lambda: transport.write(0, bytes(64)), lambda: transport.read_register(0))
    for call in calls:
        answers: multiprocessing.Queue[str] = context.Queue()
        process = context.Process(target=_tell, args=(call, answers))
        process.start()
        text = f"process {os.getpid()} has opened this device, and this one is a fork of it: close the device there, and open it here"
        assert re.fullmatch(re.escape(text), answers.get(timeout=30))
        process.join()
    assert transport.read(0, 64) == expected
