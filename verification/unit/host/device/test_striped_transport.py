"""Several memory ports over one memory: where each byte goes, byte by byte, and that a driver gets golden's results from it."""

import re

import numpy as np
import pytest

from tailrace.device import striped_transport
from tailrace.device.driver import Device
from tailrace.device.products import upload
from tailrace.device.striped_transport import Part, StripedTransport, deal_out
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ConfigError, DeviceClosed, LinkError
from tailrace.spec.formats import BY_NAME
from tailrace.spec.registers import base_registers, offset
from tailrace.spec.transport import MapsFiles, Piece, Striped, Transport
from tailrace.transports.facts import statistics_of
from verification.unit.hdl.axi.stripes import channel_of
from verification.unit.host.device.matrices import tensor
from verification.unit.host.device.one_memory import OneMemoryDevice

MEMORY = 1 << 19
BUILDS = ["tiny,channels=2", "tiny,channels=4", "tiny,bus_width=256,channels=8", "tiny,bus_width=512,channels=2"]


def parts_of(channels: int) -> tuple[Part, ...]:
    return deal_out([Piece(0, MEMORY)], channels, "it")


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("portion", [4096, 8 << 20])
def test_each_byte_is_where_its_port_looks(
    build: str, portion: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(striped_transport, "_PORTION", portion)
    config = parse_config(build)
    below = OneMemoryDevice(config, MEMORY + 100)
    parts = deal_out([Piece(0, MEMORY + 100)], config.channels, "it")
    striped = StripedTransport(below, parts, config.bus_bytes)
    assert isinstance(striped, Transport)
    assert isinstance(striped, Striped)
    assert not isinstance(striped, MapsFiles)
    assert striped.memory_size == MEMORY
    expected = rng.integers(0, 256, MEMORY, np.uint8)
    striped.write(0, expected.tobytes())
    for _ in range(100):
        size = int(rng.integers(0, 20_000)) if rng.random() < 0.5 else int(rng.integers(0, 200))
        address = int(rng.integers(0, MEMORY - size + 1))
        data = rng.integers(0, 256, size, np.uint8)
        striped.write(address, memoryview(data))
        expected[address : address + size] = data
        address = int(rng.integers(0, MEMORY - size + 1))
        assert striped.read(address, size) == expected[address : address + size].tobytes()
    for address in rng.integers(0, MEMORY, 2000):
        channel, there = channel_of(int(address), config.bus_bytes, config.channels)
        assert below.memory[parts[channel].address + there] == expected[address]
    # What lies behind the parts is nobody's.
    assert not below.memory[MEMORY:].any()


def test_an_access_is_one_for_each_channel_that_has_bytes_of_it() -> None:
    accesses = []

    class Recorder(OneMemoryDevice):
        def write(self, address: int, data: bytes | memoryview) -> None:
            accesses.append((address, len(data)))

        def read(self, address: int, size: int) -> bytes:
            accesses.append((address, -size))
            return bytes(size)

    striped = StripedTransport(Recorder(parse_config("tiny,channels=4"), MEMORY), parts_of(4), 16)
    part = MEMORY // 4
    striped.write(64 + 16 + 4, bytes(4))
    striped.write(8, bytes(3 * 64))
    striped.read(0, 1 << 16)
    striped.read(5, 0)
    assert accesses == [
        (part + 16 + 4, 4),
        (8, 48), (part, 48), (2 * part, 48), (3 * part, 48),
        *((n * part, -(1 << 14)) for n in range(4)),
    ]  # fmt: skip


def test_outside_of_memory() -> None:
    striped = StripedTransport(OneMemoryDevice(parse_config("tiny,channels=2"), MEMORY), parts_of(2), 16)
    text = "can't write 2 bytes at 0x7ffff: the device's memory has 524288 bytes, from address 0 on"
    with pytest.raises(LinkError, match=f"^{re.escape(text)}$"):
        striped.write(MEMORY - 1, bytes(2))


def test_what_the_transport_tells_of_itself() -> None:
    class Counting(OneMemoryDevice):
        statistics = {"interrupts": 3}

    striped = StripedTransport(Counting(parse_config("tiny,channels=2"), MEMORY), parts_of(2), 16)
    assert (striped.name, striped.simulated, statistics_of(striped)) == ("one memory", False, {"interrupts": 3})


def test_too_little_memory() -> None:
    text = "it has 2 memory ports, and 8191 bytes of memory for them: give 4096 or more for each"
    for pieces in ([8191], [4096, 4095]):
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
            deal_out([Piece(0, size) for size in pieces], 2, "it")


@pytest.mark.parametrize(
    ("pieces", "channels", "size", "starts"),
    [
        # Two equal ones, as a Zynq UltraScale+ has its 4 GiB.
        (
            [(0x4000_0000, 1 << 30), (0x8_0000_0000, 1 << 30)],
            4,
            1 << 29,
            [0x4000_0000, 0x6000_0000, 0x8_0000_0000, 0x8_2000_0000],
        ),
        # Three parts in the larger one.
        ([(0, 3 << 20), (1 << 30, 1 << 20)], 4, 1 << 20, [0, 1 << 20, 2 << 20, 1 << 30]),
        # More is lost in the larger one if the smaller one is used.
        ([(0, 1 << 30), (1 << 40, 1 << 20)], 2, 1 << 29, [0, 1 << 29]),
        ([(0, (1 << 20) + 4097)], 2, 1 << 19, [0, 1 << 19]),
        ([(4096, 5 * 4096), (1 << 30, 2 * 4096)], 4, 4096, [4096, 8192, 12288, 16384]),
        ([(4096, 6 * 4096), (1 << 30, 2 * 4096)], 4, 8192, [4096, 12288, 20480, 1 << 30]),
    ],
)
def test_parts_lie_within_pieces(pieces: list[tuple[int, int]], channels: int, size: int, starts: list[int]) -> None:
    parts = deal_out([Piece(*piece) for piece in pieces], channels, "it")
    assert [part.size for part in parts] == [size] * channels
    assert [part.bus_address for part in parts] == starts
    # What the transport calls an address, in the order of the pieces.
    first, places = 0, {}
    for start, length in pieces:
        places |= {start: first}
        first += length
    for part in parts:
        piece = max(start for start in places if start <= part.bus_address)
        assert part.address == places[piece] + part.bus_address - piece


@pytest.mark.parametrize("build", BUILDS)
def test_the_driver_makes_parts_and_gets_golden_s_results(build: str, rng: np.random.Generator) -> None:
    config = parse_config(build)
    below = OneMemoryDevice(config, MEMORY, start=0x4000_0000)
    below.pieces = (Piece(0x4000_0000, MEMORY),)  # type: ignore[attr-defined]
    x = rng.standard_normal((3, 96)).astype(np.float32)
    results = []
    for each in (below, GoldenDevice(config, MEMORY)):
        device = Device(each)
        matrices = [upload(device, "m", BY_NAME[name], tensor(BY_NAME[name], 37, 3).data) for name in ("Q4_1", "Q8_0")]
        results.append([matrix.multiply(x).tobytes() for matrix in matrices])
        assert device.memory_size == MEMORY
    assert results[0] == results[1]
    assert below.channel_bases == [0x4000_0000 + n * MEMORY // config.channels for n in range(config.channels)]
    assert below.read_register(offset("LIMIT_LO")) == MEMORY


def test_a_second_driver_on_the_transport_of_the_first() -> None:
    """It makes the same parts of the memory, and closes the first one, as over any transport."""
    below = OneMemoryDevice(parse_config("tiny,channels=4"), MEMORY, start=0x4000_0000)
    below.pieces = (Piece(0x4000_0000, MEMORY),)  # type: ignore[attr-defined]
    first = Device(below)
    second = Device(first.transport)
    assert below.channel_bases == [0x4000_0000 + n * MEMORY // 4 for n in range(4)]
    second.write(0, bytes(range(64)))
    assert [below.memory[n * MEMORY // 4] for n in range(4)] == [0, 16, 32, 48]
    with pytest.raises(DeviceClosed):
        first.read(0, 1)


def test_the_parts_of_an_odd_memory() -> None:
    """What is left over behind the parts is not used, and no program can reach it."""
    config = parse_config("tiny,channels=4")
    below = OneMemoryDevice(config, MEMORY + 3 * 4096 + 64)
    with Device(below) as device:
        assert device.memory_size == MEMORY
        assert below.read_register(offset("LIMIT_LO")) == MEMORY
        part = MEMORY // 4
        assert [below.read_register(offset(f"{name}_LO")) for name in base_registers(4)] == [n * part for n in range(4)]


def test_memory_that_the_build_has_no_addresses_for() -> None:
    """It is not used, as with one port: a part that began there would begin elsewhere, or stop every run."""
    below = OneMemoryDevice(parse_config("tiny,channels=4,address_width=32"), MEMORY)
    below.memory_size = 8 << 30
    with Device(below) as device:
        assert below.channel_bases == [n << 30 for n in range(4)]
        assert device.memory_size == 1 << 32


def test_one_port_needs_one_piece() -> None:
    below = OneMemoryDevice(parse_config("tiny"), MEMORY)
    below.pieces = (Piece(0, MEMORY // 2), Piece(1 << 30, MEMORY // 2))  # type: ignore[attr-defined]
    text = (
        "the memory of one memory is in 2 pieces, and this build has one memory port, which needs it in one: give one of them, or"
        " use a build of several ports"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        Device(below)
