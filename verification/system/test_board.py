"""A whole board in simulation: its serial link, its memory controller and LiteDRAM's model of its memory, with the driver on it."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIG_DFL, SIGINT, signal
from subprocess import PIPE, STDOUT, Popen
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailrace.device.counters import Counters
from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import ImportedModel, import_model
from tailrace.gguf.file import open_model
from tailrace.image.geometry import Geometry
from tailrace.sim.board import CLOCKS_PER_BIT, SimulatedBoard
from tailrace.sim.board_build import build_board
from tailrace.sim.devices import open_device
from tailrace.sim.serial_board import FaultRates
from tailrace.spec.commands import encode
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import DeviceError, ErrorCode, LinkError
from tailrace.spec.isa import ADDRESS_UNIT, Opcode
from tailrace.spec.registers import offset
from tailrace.transports.open import open_transport
from tailrace.transports.serial import SerialTransport
from verification.unit.host.tiny_models import write_model

CONFIG = CONFIGS["tiny"]
MODELS: dict[str, dict[str, Any]] = {
    "small": {},
    "smallest": {"hidden": 32, "heads": 1, "feed_forward": 32, "layers": 1},
}
CONTEXT, PROMPT = 32, [1, 70, 71, 72]
#: Seconds: the simulation needs some for a frame, and more while the machine does other things.
PATIENCE = 10.0
#: Of the kinds of faults together, per byte: about every other long frame is damaged.
FAULT_RATE, SEED = 5e-4, 11


@dataclass
class Pair:
    """The same decoder on the board and on golden."""

    board: Decoder
    golden: Decoder
    steps: list[Counters]

    def step(self, token: int) -> NDArray[np.float32]:
        """Take a token; both must give the same bits."""
        ours, golden = self.board.step(token), self.golden.step(token)
        assert np.array_equal(ours.view(np.uint32), golden.view(np.uint32))
        return golden

    def run(self, token: int) -> int:
        """Take a token; both must choose the same next one."""
        ours, golden = self.board.run(token), self.golden.run(token)
        assert ours == golden
        return int(golden[0])  # type: ignore[arg-type]


def pair(board: SimulatedBoard, imported: ImportedModel, patience: float = PATIENCE) -> Pair:
    """Open the board, load a model, and take the prompt."""
    transport = SerialTransport(board.port, patience=patience)
    steps: list[Counters] = []
    ours = Decoder(Device(transport), imported, on_step=steps.append)
    golden = Decoder(Device(open_device("golden", CONFIG, transport.memory_size)), imported)
    for decoder in (ours, golden):
        decoder.prefill(PROMPT)
    steps.clear()
    return Pair(ours, golden, steps)


@pytest.fixture(scope="module")
def library() -> Path:
    return build_board(CONFIG, CLOCKS_PER_BIT)


@pytest.fixture(scope="module")
def board(library: Path) -> Iterator[SimulatedBoard]:
    with SimulatedBoard(CONFIG, library=library) as board:
        yield board


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ImportedModel]:
    folder = tmp_path_factory.mktemp("models")

    def make(name: str) -> ImportedModel:
        return import_model(open_model(write_model(folder / f"{name}.gguf", **MODELS[name])), CONTEXT)

    return make


@pytest.fixture(scope="module")
def twins(board: SimulatedBoard, models: Callable[[str], ImportedModel]) -> Pair:
    return pair(board, models("small"))


def decode(twins: Pair, board: SimulatedBoard) -> float:
    """Decode some tokens; return the bytes that the memory carried in a cycle."""
    twins.steps.clear()
    token = 80
    for _ in range(2):
        token = int(np.argmax(twins.step(token)))
    for _ in range(3):
        token = twins.run(token)
    total = sum(twins.steps, Counters())
    beats = sum(total.values[name] for name in ("COMMAND_BEATS", "VECTOR_BEATS", "WEIGHT_BEATS", "WRITE_BEATS"))
    per_cycle = beats * CONFIG.beat_bytes / total.values["CYCLES"]
    print(
        f"{total.values['CYCLES'] // 5} cycles a token, {per_cycle:.2f} bytes a cycle, {board.cycles_per_second:.0f} cycles/s"
    )
    return per_cycle


def test_tokens_and_logits_are_those_of_golden(twins: Pair, board: SimulatedBoard) -> None:
    # The memory carries 2 bytes a cycle, and refreshes, turns of its bus and dependencies between layers take their part.
    assert 1.6 < decode(twins, board) <= 2


def test_tokens_and_logits_with_a_ddr3_are_those_of_golden(models: Callable[[str], ImportedModel]) -> None:
    """Its reads are wrong until they are aligned: after it is switched on, and after a reset."""
    with SimulatedBoard(CONFIG, board="ecpix5") as board:
        before = pair(board, models("small"))
        # It carries 8 bytes a cycle.
        assert 6 < decode(before, board) <= 8
        board.reset()
        before.board.device.close()
        assert decode(pair(board, models("small")), board) > 6


@pytest.mark.parametrize("with_limit", [True, False])
def test_what_lies_behind_the_end_of_memory_is_an_error(twins: Pair, with_limit: bool) -> None:
    """Its addresses would begin anew there, and a store would go into the model: with the driver's limit and without one."""
    device = twins.board.device
    size = device.transport.memory_size
    with device.reserve(256, "the test") as place:
        pass
    limits = (offset("LIMIT_LO"), offset("LIMIT_HI"))
    kept = [device.transport.read_register(register) for register in limits]
    assert kept == [size, 0]
    device.write(place + 64, bytes(range(64)))
    try:
        if not with_limit:
            for register in limits:
                device.transport.write_register(register, 0)
        with pytest.raises(DeviceError) as error:
            device.run([encode(Opcode.STORE, count=4, destination=(size + place + 64) // ADDRESS_UNIT)], place)
        assert (error.value.code, error.value.command) == (ErrorCode.WRITE_ERROR, 0)
        assert error.value.address == size + place + 64
        assert device.read(place + 64, 64) == bytes(range(64))
        device.run([encode(Opcode.STORE, count=4, destination=(place + 64) // ADDRESS_UNIT)], place)
        assert device.read(place + 64, 64) != bytes(range(64))
    finally:
        for register, value in zip(limits, kept, strict=True):
            device.transport.write_register(register, value)


def test_a_noisy_line_costs_time_and_nothing_else(twins: Pair, board: SimulatedBoard) -> None:
    link: Any = twins.board.device.transport.link  # type: ignore[attr-defined]
    before = link.counters.retried
    # Each damaged frame costs this many seconds; one that is only late is sent again for nothing.
    quiet, link._patience = link._patience, 0.5
    board.inject(FaultRates.all_kinds(FAULT_RATE), SEED)
    try:
        token, steps = 90, 0
        # What is damaged depends on how often the host asks whether the token is done, and so on the machine.
        while steps < 2 or link.counters.damaged == 0 and steps < 12:
            token, steps = int(np.argmax(twins.step(token))), steps + 1
    finally:
        board.inject(FaultRates())
        link._patience = quiet
    assert link.counters.damaged > 0, f"seed {SEED}"
    assert link.counters.retried > before, f"seed {SEED}"


def interrupted(twins: Pair, event: Callable[[], None]) -> str:
    """What the driver says when something happens to the board in the middle of a token."""
    transport = twins.board.device.transport
    wait = transport.wait

    def happen(timeout: float) -> None:
        event()
        wait(timeout)

    transport.wait = happen  # type: ignore[method-assign]
    with pytest.raises(LinkError) as caught:
        twins.board.run(100)
    transport.wait = wait  # type: ignore[method-assign]
    # And it stays: nothing that the board's memory held can be taken for kept.
    with pytest.raises(LinkError, match="load the model again"):
        twins.board.run(100)
    twins.board.device.close()
    return str(caught.value)


def test_a_reset_and_a_pulled_cable_in_the_middle_of_a_token(library: Path, models: Callable[[str], ImportedModel]) -> None:
    with SimulatedBoard(CONFIG, library=library) as board:
        first = pair(board, models("smallest"))
        first.run(100)
        assert "was reset" in interrupted(first, board.reset)
        again = pair(board, models("smallest"))
        again.step(100)
        assert "is gone: check its cable" in interrupted(again, board.unplug)
        board.plug()
        # The board has gone on without its cable: what was in its memory still is.
        with SerialTransport(board.port, patience=PATIENCE) as transport:
            place = again.golden.image.base
            assert transport.read(place, 1024) == again.golden.device.transport.read(place, 1024)


def test_the_command_serves_a_board_until_it_is_interrupted(library: Path) -> None:
    command = [sys.executable, "-u", "-m", "tailrace.sim.board", "--config", CONFIG.name]

    def hear_interrupts() -> None:
        # A shell that starts the tests in the background makes them, and what they start, ignore Ctrl-C.
        signal(SIGINT, SIG_DFL)

    with Popen(command, stdout=PIPE, stderr=STDOUT, text=True, start_new_session=True, preexec_fn=hear_interrupts) as process:
        assert process.stdout is not None
        try:
            text = ""
            while "doctor" not in text:
                line = process.stdout.readline()
                assert line, text
                text += line
            name = re.search(r"tailrace doctor --device (serial:\S+)", text)
            assert name is not None, text
            with Device(open_transport(name[1])) as device:
                assert device.geometry == Geometry.of_config(CONFIG)
        finally:
            process.send_signal(SIGINT)
        assert re.search(r"^[\d,]+ cycles, [\d,]+ per second$", process.stdout.read(), re.MULTILINE)
    assert process.returncode == 0
