"""The LiteX transport over LiteX's own server, behind which the golden model is on the bus."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litex.tools.litex_server import RemoteServer

from tailrace.device.driver import Device
from tailrace.device.products import upload
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ConfigError, DeviceClosed, DeviceTimeout, LinkError, TailraceError
from tailrace.spec.formats import BY_NAME
from tailrace.spec.registers import ADDRESS_BITS, AP_START, MAGIC, offset
from tailrace.spec.transport import Transport
from tailrace.transports.litex import LitexTransport
from verification.unit.host.device.matrices import tensor

# The server's thread ends with its socket, which it does not expect.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
MEMORY, CONFIG = 1 << 18, CONFIGS["tiny"]
CONTROL, BASE, EVENT = 0x9000_0000, 0x4001_0000, 0x1804
CSR = f"""#--------
# LiteX
csr_base,tailrace,0x00001800,,
csr_register,tailrace_ev_status,0x00001800,1,ro
csr_register,tailrace_ev_pending,{EVENT:#010x},1,rw
constant,config_csr_data_width,32,,
constant,config_bus_address_width,32,,
constant,tailrace_memory_base,{BASE},,
constant,tailrace_memory_size,{MEMORY},,
memory_region,main_ram,0x40000000,67108864,cached
memory_region,tailrace,{CONTROL:#010x},4096,io
"""


class CommUART:
    """A bridge into a bus with a golden device; the server knows bridges by the names of their classes."""

    def __init__(self) -> None:
        self.golden = GoldenDevice(CONFIG, MEMORY)
        #: Words that are damaged on their way, and whether nothing answers, or no interrupt comes.
        self.damaged, self.silent, self.deaf = 0, False, False
        self.interrupted: list[int] = []

    def open(self) -> None: ...

    def close(self) -> None: ...

    def read(self, address: int, length: int | None = None, burst: str = "incr") -> list[int]:
        assert burst == "incr"
        while self.silent:
            time.sleep(0.01)
        return [self.word(address + 4 * n) for n in range(length or 1)]

    def word(self, address: int) -> int:
        if address == EVENT:
            return int(not self.deaf and self.golden.read_register(offset("ISR")) > 0)
        if CONTROL <= address < CONTROL + (1 << ADDRESS_BITS):
            return self.golden.read_register(address - CONTROL)
        return int.from_bytes(self.golden.read(address - BASE, 4), "little")

    def write(self, address: int, data: list[int], burst: str = "incr") -> None:
        for n, word in enumerate(data):
            place = address + 4 * n
            if CONTROL <= place < CONTROL + (1 << ADDRESS_BITS):
                self.golden.write_register(place - CONTROL, word)
                continue
            if self.damaged:
                self.damaged, word = self.damaged - 1, word ^ 1
            self.golden.write(place - BASE, word.to_bytes(4, "little"))


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    path = tmp_path / "csr.csv"
    path.write_text(CSR)
    return path


@pytest.fixture
def bridge() -> CommUART:
    return CommUART()


@pytest.fixture
def port(bridge: CommUART) -> Iterator[int]:
    server = RemoteServer(bridge, "localhost", 0)
    server.open()
    server.start(1)
    yield server.socket.getsockname()[1]
    server.socket.shutdown(2)
    server.close()


@pytest.fixture
def transport(csr: Path, port: int) -> Iterator[LitexTransport]:
    with LitexTransport(csr, port=port) as transport:
        yield transport


def test_a_device(transport: LitexTransport, csr: Path) -> None:
    assert isinstance(transport, Transport)
    assert (transport.name, transport.memory_size, transport.simulated) == (f"litex:{csr}", MEMORY, False)
    assert transport.read_register(offset("MAGIC")) == MAGIC
    # More than a packet, as the driver asks for them after a run.
    assert transport.read_registers(offset("MAGIC"), 130)[0] == MAGIC


@pytest.mark.parametrize(("address", "size"), [(0, 4), (0, 1), (3, 1), (1, 2), (2, 4), (3, 1030), (4, 1024), (1000, 0)])
def test_memory(transport: LitexTransport, bridge: CommUART, rng: np.random.Generator, address: int, size: int) -> None:
    before = rng.bytes(4096)
    bridge.golden.write(0, before)
    data = rng.bytes(size)
    transport.write(address, data)
    assert bridge.golden.read(0, 4096) == before[:address] + data + before[address + size :]
    assert transport.read(address, size) == data


def test_products_are_golden_s(transport: LitexTransport, rng: np.random.Generator) -> None:
    """The driver on it: registers, memory, doorbell, interrupt."""
    matrix, vector = tensor(BY_NAME["Q4_0"], 40, 3), rng.standard_normal((1, 96)).astype(np.float32)
    devices = Device(transport), Device(GoldenDevice(CONFIG, MEMORY))
    results = [upload(device, "m", BY_NAME["Q4_0"], matrix.data).multiply(vector) for device in devices]
    assert np.array_equal(results[0].view(np.uint32), results[1].view(np.uint32))
    assert transport.statistics == {"interrupts": 1, "missed interrupts": 0, "rewritten packets": 0}


def test_a_lost_interrupt_is_counted(transport: LitexTransport, bridge: CommUART) -> None:
    bridge.deaf = True
    for name in ("GIE", "IER"):
        transport.write_register(offset(name), 1)
    transport.write_register(offset("AP_CTRL"), AP_START)
    transport.wait(1)
    assert transport.statistics["missed interrupts"] == 1


def test_nothing_happens(transport: LitexTransport) -> None:
    with pytest.raises(DeviceTimeout, match="no interrupt and no progress for 0.2 s"):
        transport.wait(0.2)


def test_what_is_damaged_is_written_again(transport: LitexTransport, bridge: CommUART, rng: np.random.Generator) -> None:
    data = rng.bytes(1000)
    bridge.damaged = 3
    transport.write(0, data)
    assert bridge.golden.read(0, 1000) == data
    assert transport.statistics["rewritten packets"] == 1
    bridge.damaged = 1 << 20
    message = (
        "512 bytes at 0x40 came out wrong 3 times: check the line to the bridge and its rate, and whether the design's SDRAM was"
        " initialised (by LiteX's BIOS, or litex_term)"
    )
    with pytest.raises(LinkError, match=f"^{re.escape(message)}$"):
        transport.write(64, data)


def test_silence_is_no_zero(csr: Path, port: int, bridge: CommUART) -> None:
    with LitexTransport(csr, port=port, patience=0.3) as transport:
        bridge.silent = True
        message = (
            f"the bridge behind litex_server at localhost:{port} does not answer (no answer within 0.3 s): check the board and the"
            " server, and open the device again; patience=SECONDS waits longer"
        )
        with pytest.raises(LinkError, match=f"^{re.escape(message)}$"):
            transport.read_register(offset("MAGIC"))
        bridge.silent = False
        with pytest.raises(DeviceClosed):
            transport.read_register(offset("MAGIC"))


def test_what_is_refused(transport: LitexTransport) -> None:
    with pytest.raises(LinkError, match="can't read 8 bytes at"):
        transport.read(MEMORY - 4, 8)
    with pytest.raises(LinkError, match="can't write 8 bytes at"):
        transport.write(MEMORY - 4, bytes(8))
    with pytest.raises(TailraceError, match="a register holds 0 to 0xffffffff, not -0x1"):
        transport.write_register(0x10, -1)
    transport.close()
    transport.close()
    with pytest.raises(DeviceClosed):
        transport.read(0, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "can't be read (No such file or directory): name the csr.csv of the design"),
        ("model\n", "is not a csr.csv that LiteX's builder has written"),
        (CSR.replace("tailrace_memory_size", "x"), "has no tailrace_memory_size: it must be the csr.csv of a design with a core named 'tailrace', made with tailrace.litex.add_tailrace"),
        (CSR.replace("tailrace_ev_pending", "x"), "has no tailrace_ev_pending: it must be the csr.csv of a design with a core named 'tailrace', made with tailrace.litex.add_tailrace"),
    ],
)  # fmt: skip
def test_other_files(csr: Path, text: str | None, message: str) -> None:
    csr.unlink() if text is None else csr.write_text(text)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{csr} {message}')}$"):
        LitexTransport(csr)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 0}, "port must be 1 to 65535, not 0"),
        ({"patience": 0}, "patience must be a positive number of seconds, not 0"),
    ],
)
def test_other_numbers(csr: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        LitexTransport(csr, **options)


def test_no_server(csr: Path) -> None:
    message = "no litex_server answers at localhost:9 (Connection refused): start it, as in litex_server --uart --uart-port /dev/ttyUSB1"
    with pytest.raises(LinkError, match=f"^{re.escape(message)}$"):
        LitexTransport(csr, port=9)
