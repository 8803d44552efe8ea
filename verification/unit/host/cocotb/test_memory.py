"""The memory of a cocotb bench: stripes behind the ports of a core, byte by byte."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("cocotbext.axi")
from tailrace.cocotb.memory import DeviceMemory
from tailrace.spec.config import parse_config
from verification.unit.hdl.axi.stripes import channel_of

SIZE = 1 << 10


@pytest.fixture(params=["base", "base,channels=2", "base,bus_width=256,channels=2", "kv260"])
def memory(request: pytest.FixtureRequest, rng: np.random.Generator) -> DeviceMemory:
    memory = DeviceMemory(parse_config(request.param), SIZE)
    memory.bytes[:] = rng.integers(0, 256, SIZE)
    return memory


def sizes(memory: DeviceMemory, request: pytest.FixtureRequest) -> tuple[int, int]:
    """Bytes of a beat of one port, and ports."""
    config = parse_config(request.node.callspec.params["memory"])
    return config.bus_bytes, config.channels


def test_each_byte_lies_behind_its_port(memory: DeviceMemory, request: pytest.FixtureRequest) -> None:
    bus_bytes, channels = sizes(memory, request)
    seen = [asyncio.run(port.read(0, SIZE // channels)) for port in memory.ports]
    for address in range(SIZE):
        channel, there = channel_of(address, bus_bytes, channels)
        assert seen[channel][there] == memory.bytes[address]


def test_writes_of_some_bytes(memory: DeviceMemory, request: pytest.FixtureRequest, rng: np.random.Generator) -> None:
    bus_bytes, channels = sizes(memory, request)
    expected = memory.bytes.copy()
    for _ in range(50):
        port, first = int(rng.integers(channels)), int(rng.integers(SIZE // channels - bus_bytes))
        data = rng.integers(0, 256, int(rng.integers(1, bus_bytes + 1))).astype(np.uint8)
        asyncio.run(memory.ports[port].write(first, data.tobytes()))
        for address in range(SIZE):
            channel, there = channel_of(address, bus_bytes, channels)
            if channel == port and first <= there < first + data.size:
                expected[address] = data[there - first]
    assert np.array_equal(memory.bytes, expected)


def test_what_is_refused(memory: DeviceMemory, request: pytest.FixtureRequest) -> None:
    """Behind the end, and the parts of a beat that is named, behind every port."""
    bus_bytes, channels = sizes(memory, request)
    beat_bytes = bus_bytes * channels
    memory.refused_reads.add(3 * beat_bytes)
    memory.refused_writes.add(5 * beat_bytes)
    for port in memory.ports:
        for beat in range(8):
            for transfer, refused in ((port.read(beat * bus_bytes, bus_bytes), 3), (port.write(beat * bus_bytes, bytes(4)), 5)):
                if beat == refused:
                    with pytest.raises(ValueError, match="refused"):
                        asyncio.run(transfer)
                else:
                    asyncio.run(transfer)
        asyncio.run(port.read(SIZE // channels - 4, 4))
        with pytest.raises(ValueError, match="refused"):
            asyncio.run(port.read(SIZE // channels - 4, 5))
