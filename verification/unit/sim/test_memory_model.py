"""The simulated memory, measured from the core's side of the bus."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tailrace.sim.build import TOP, build_library
from tailrace.sim.verilated import SimulationError, VerilatedDevice
from tailrace.sim.verilog import to_verilog
from tailrace.spec.config import Config
from tailrace.spec.errors import DeviceTimeout
from verification.unit.sim import prober
from verification.unit.sim.prober import Prober

SIZE = 1 << 20
Open = Callable[..., VerilatedDevice]


@pytest.fixture(scope="module", params=[128, 512])
def library(request: pytest.FixtureRequest) -> tuple[int, Path]:
    verilog = to_verilog(Prober(request.param), name=TOP)
    return request.param, build_library(verilog, f"the memory prober ({request.param} bits)")


@pytest.fixture
def open_prober(library: tuple[int, Path]) -> Iterator[Open]:
    devices = []

    def open_one(**options: object) -> VerilatedDevice:
        devices.append(VerilatedDevice(Config("prober", library[0]), SIZE, library=library[1], **options))
        return devices[-1]

    yield open_one
    for device in devices:
        device.close()


def probe(device: VerilatedDevice, mode: int, *, address: int = 0, bursts: int = 1, beats: int = 1, wait: bool = True) -> None:
    values = {prober.ADDRESS: address, prober.BURSTS: bursts, prober.BEATS: beats, prober.MODE: mode, prober.START: 1}
    for register, value in values.items():
        device.write_register(register, value)
    if wait:
        device.wait(5)


def bus_bytes(device: VerilatedDevice) -> int:
    return device.config.bus_bytes


def fill(device: VerilatedDevice, rng: np.random.Generator) -> None:
    device.memory[:] = rng.integers(0, 256, SIZE, dtype=np.uint8)


def checksum(device: VerilatedDevice, address: int, size: int) -> int:
    return int(np.bitwise_xor.reduce(np.frombuffer(device.read(address, size), dtype="<u4")))


@pytest.mark.parametrize("latency", [1, 2, 37, 500])
def test_first_beat_comes_after_the_latency(open_prober: Open, latency: int) -> None:
    device = open_prober(latency=latency)
    probe(device, prober.READ, bursts=3, beats=4)
    assert device.read_register(prober.FIRST) == latency


@pytest.mark.parametrize("latency", [1, 2, 37])
def test_write_response_comes_after_the_latency(open_prober: Open, latency: int) -> None:
    device = open_prober(latency=latency)
    probe(device, prober.WRITE, beats=4)
    assert device.read_register(prober.RESPONSE_DELAY) == latency


@pytest.mark.parametrize("mode", [prober.READ, prober.WRITE])
@pytest.mark.parametrize("bandwidth", [Fraction(1), Fraction(3, 4), Fraction(2, 3), Fraction(9, 10), Fraction(1, 7)])
def test_bandwidth_is_exact(open_prober: Open, mode: int, bandwidth: Fraction) -> None:
    device = open_prober(latency=20, bandwidth=bandwidth)
    probe(device, mode, bursts=100, beats=8)
    beats, span = device.read_register(prober.RECEIVED), device.read_register(prober.SPAN)
    assert beats == 800
    # The first and the last beat are at the ends of the span; where the pattern of the others starts is free.
    assert abs((beats - 1) / bandwidth - (span - 1)) <= 1 / bandwidth


def test_idle_time_is_not_saved_up(open_prober: Open) -> None:
    device = open_prober(latency=20, bandwidth=Fraction(1, 2))
    device.run(10_000)
    probe(device, prober.READ, bursts=10, beats=8)
    assert device.read_register(prober.SPAN) == 159


@pytest.mark.parametrize("options", [{}, {"bandwidth": 0.7, "stall_seed": 3, "stall_probability": 0.4}])
def test_reads_what_is_in_memory(open_prober: Open, rng: np.random.Generator, options: dict[str, object]) -> None:
    device = open_prober(latency=9, **options)
    fill(device, rng)
    size = bus_bytes(device)
    probe(device, prober.READ, address=4096, bursts=50, beats=64)
    assert device.read_register(prober.CHECKSUM) == checksum(device, 4096, 50 * 64 * size)
    assert device.read_register(prober.RECEIVED) == 50 * 64
    assert (device.traffic.read_bursts, device.traffic.read_beats, device.traffic.write_beats) == (50, 3200, 0)


@pytest.mark.parametrize("options", [{}, {"bandwidth": 0.7, "stall_seed": 3, "stall_probability": 0.4}])
def test_writes_arrive_in_memory_and_nowhere_else(
    open_prober: Open, rng: np.random.Generator, options: dict[str, object]
) -> None:
    device = open_prober(latency=9, **options)
    fill(device, rng)
    expected, size = device.memory.copy(), bus_bytes(device)
    probe(device, prober.WRITE, address=8192, bursts=12, beats=16)
    expected[8192 : 8192 + 192 * size] = np.repeat(np.arange(192, dtype=np.uint8), size)
    assert np.array_equal(device.memory, expected)
    assert device.read_register(prober.RESPONSES) == 0
    assert (device.traffic.write_bursts, device.traffic.write_beats, device.traffic.read_beats) == (12, 192, 0)


def test_reads_past_the_end_are_decode_errors_beat_by_beat(open_prober: Open) -> None:
    device = open_prober()
    size = bus_bytes(device)
    probe(device, prober.READ, address=SIZE - 64 * size, bursts=2, beats=64)
    assert device.read_register(prober.RECEIVED) == 128
    assert device.read_register(prober.DECODE_ERRORS) == 64
    assert device.read_register(prober.SLAVE_ERRORS) == 0


def test_writes_past_the_end_are_decode_errors(open_prober: Open) -> None:
    device = open_prober()
    before = device.memory.copy()
    probe(device, prober.WRITE, address=SIZE, beats=4)
    assert device.read_register(prober.RESPONSES) == 3
    assert np.array_equal(device.memory, before)


@pytest.mark.parametrize("options", [{}, {"stall_seed": 1}])
def test_injected_faults_hit_the_beats_that_touch_them(open_prober: Open, options: dict[str, object]) -> None:
    device = open_prober(**options)
    size = bus_bytes(device)
    device.inject_fault(10 * size + 3, size, reads=True)
    probe(device, prober.READ, bursts=2, beats=8)
    assert device.read_register(prober.SLAVE_ERRORS) == 2
    assert device.read_register(prober.RECEIVED) == 16
    device.clear_faults()
    probe(device, prober.READ, bursts=2, beats=8)
    assert device.read_register(prober.SLAVE_ERRORS) == 0


def test_faults_of_writes_are_apart_from_those_of_reads(open_prober: Open) -> None:
    device = open_prober()
    size = bus_bytes(device)
    device.inject_fault(2 * size, 1, writes=True)
    probe(device, prober.READ, beats=8)
    assert device.read_register(prober.SLAVE_ERRORS) == 0
    probe(device, prober.WRITE, beats=8)
    assert device.read_register(prober.RESPONSES) == 2
    written = device.memory[: 8 * size].reshape(8, size)[:, 0]
    assert written.tolist() == [0, 1, 0, 3, 4, 5, 6, 7]


def test_stalls_depend_on_the_seed_alone(open_prober: Open) -> None:
    def cycles(**options: object) -> int:
        device = open_prober(**options)
        probe(device, prober.READ, bursts=40, beats=16)
        probe(device, prober.WRITE, bursts=40, beats=16)
        return device.cycles

    plain = cycles()
    first = cycles(stall_seed=1, stall_probability=0.3)
    assert cycles(stall_seed=1, stall_probability=0.3) == first
    assert cycles(stall_seed=2, stall_probability=0.3) != first
    assert first > plain
    assert cycles(stall_seed=1, stall_probability=0.0) == plain


@pytest.mark.parametrize(("channel", "mode"), [("AR", 0), ("R", 0), ("AW", 1), ("W", 1), ("B", 1)])
def test_each_channel_is_stalled_by_itself(open_prober: Open, channel: str, mode: int) -> None:
    def cycles(mode: int, **options: object) -> int:
        device = open_prober(latency=1, **options)
        before = device.cycles
        probe(device, mode, bursts=200, beats=1, wait=False)
        device.wait(5)
        return device.cycles - before

    stalled = {"stall_seed": 5, "stall_probability": {channel: 0.9}}
    # The control port is slowed as well: by a few cycles in each of its accesses.
    assert cycles(mode, **stalled) > cycles(mode) + 1000
    assert cycles(1 - mode, **stalled) < cycles(1 - mode) + 100


def test_frozen_memory_times_out_and_goes_on_when_thawed(open_prober: Open) -> None:
    device = open_prober()
    device.freeze()
    probe(device, prober.READ, bursts=3, beats=4, wait=False)
    with pytest.raises(
        DeviceTimeout, match=r"^no interrupt and no transfer on the memory port for 0\.2 s, up to cycle \d+; start the"
    ):
        device.wait(0.2)
    device.freeze(False)
    device.wait(5)
    assert device.read_register(prober.RECEIVED) == 12


def test_reset_in_the_middle_forgets_what_was_on_its_way(open_prober: Open, rng: np.random.Generator) -> None:
    device = open_prober(latency=300)
    fill(device, rng)
    probe(device, prober.READ, bursts=100, beats=16, wait=False)
    device.run(350)
    assert 0 < device.read_register(prober.RECEIVED) < 1600
    device.reset()
    assert device.read_register(prober.RECEIVED) == 0
    probe(device, prober.READ, bursts=10, beats=16)
    assert device.read_register(prober.CHECKSUM) == checksum(device, 0, 160 * bus_bytes(device))


def test_a_burst_across_4_kib_is_reported(open_prober: Open) -> None:
    device = open_prober()
    size = bus_bytes(device)
    with pytest.raises(
        SimulationError,
        match=rf"^the gateware broke a rule of AXI in cycle \d+: AR burst of 2 beats at {4096 - size:#x} crosses a 4 KiB boundary$",
    ):
        probe(device, prober.READ, address=4096 - size, beats=2)


def test_an_unaligned_burst_is_reported(open_prober: Open) -> None:
    device = open_prober()
    with pytest.raises(SimulationError, match="AW address 0x8 is not aligned to the bus$"):
        probe(device, prober.WRITE, address=8, beats=1)


def test_a_request_that_is_withdrawn_is_reported(open_prober: Open) -> None:
    device = open_prober(stall_seed=1, stall_probability={"AR": 0.5})
    with pytest.raises(SimulationError, match="ARVALID fell before ARREADY$"):
        probe(device, prober.WITHDRAW, bursts=50)


def test_a_refused_register_access_is_reported(open_prober: Open) -> None:
    device = open_prober()
    with pytest.raises(SimulationError, match=r"^the gateware refused an access to s_axi_control at offset 0x7fc$"):
        device.write_register(0x7FC, 1)
