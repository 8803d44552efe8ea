"""The simulated device as a transport: parameters, memory, waveforms, life and death."""

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tailrace.sim import verilated
from tailrace.sim.build import TOP, build_library
from tailrace.sim.devices import open_device
from tailrace.sim.verilated import VerilatedDevice
from tailrace.sim.verilog import to_verilog
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ConfigError, DeviceClosed, ToolError
from tailrace.spec.transport import Transport
from verification.unit.sim import prober
from verification.unit.sim.prober import Prober

CONFIG = CONFIGS["tiny"]


@pytest.fixture(scope="module")
def library() -> Path:
    return build_library(to_verilog(Prober(CONFIG.bus_width), name=TOP), "the memory prober (128 bits)")


@pytest.fixture
def device(library: Path) -> VerilatedDevice:
    return VerilatedDevice(CONFIG, 1 << 16, library=library)


def test_is_a_transport(device: VerilatedDevice) -> None:
    assert isinstance(device, Transport)
    assert (device.name, device.simulated, device.memory_size) == ("verilator", True, 1 << 16)


def test_memory_is_written_and_read_back(device: VerilatedDevice, rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, 1000, dtype=np.uint8)
    assert device.read(0, 1 << 16) == bytes(1 << 16)
    device.write(77, data.tobytes())
    device.write(2000, memoryview(data))
    assert device.read(77, 1000) == device.read(2000, 1000) == data.tobytes()
    assert not device.memory[:77].any()
    device.write((1 << 16) - 1000, data.tobytes())


@pytest.mark.parametrize(("address", "size"), [(-1, 1), (0, (1 << 16) + 1), (1 << 16, 1), (0xFFFF, 2)])
def test_memory_has_ends(device: VerilatedDevice, address: int, size: int) -> None:
    text = re.escape(f"bytes {address:#x} to {address + size:#x} are outside the device's memory of 0x10000 bytes")
    with pytest.raises(ValueError, match=f"^{text}$"):
        device.read(address, size)
    with pytest.raises(ValueError, match=f"^{text}$"):
        device.write(address, bytes(size))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"latency": 0}, "latency must be between 1 and 1000000 cycles, not 0"),
        ({"bandwidth": 0}, "bandwidth must be above 0 and at most 1 beat per cycle, not 0"),
        ({"bandwidth": 1.5}, "bandwidth must be above 0 and at most 1 beat per cycle, not 1.5"),
        ({"bandwidth": float("nan")}, "bandwidth must be above 0 and at most 1 beat per cycle, not nan"),
        ({"bandwidth": 1e-9}, "bandwidth must be above 0 and at most 1 beat per cycle, not 1e-09"),
        ({"threads": 0}, "threads must be from 1 to 64, not 0"),
        ({"threads": 65}, "threads must be from 1 to 64, not 65"),
        ({"stall_probability": 1.0}, "stall_probability must be at least 0 and below 1, not 1.0"),
        ({"stall_probability": {"X": 0.5}}, "stall_probability knows no channel 'X': choose from AR, R, AW, W, B"),
        ({"trace_window": (0, 10)}, "trace_window needs a waveform file: give trace as well"),
        (
            {"trace": "x.vcd", "trace_window": (10, 10)},
            "trace_window must be two cycles, the first below the second, not (10, 10)",
        ),
    ],
)
def test_parameters_are_checked(library: Path, options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        VerilatedDevice(CONFIG, 1 << 16, library=library, **options)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "memory_size must be a positive multiple of 64, not 0"),
        (100, "memory_size must be a positive multiple of 64, not 100"),
        (1 << 41, f"{1 << 41} bytes of memory need more than this build's 40 address bits"),
    ],
)
def test_memory_size_is_checked(library: Path, size: int, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        VerilatedDevice(CONFIG, size, library=library)


def test_a_closed_device_says_so(device: VerilatedDevice) -> None:
    device.close()
    device.close()
    calls = {
        "read": lambda: device.read(0, 1),
        "write": lambda: device.write(0, b"1"),
        "memory": lambda: device.memory,
        "read_register": lambda: device.read_register(0),
        "write_register": lambda: device.write_register(0, 0),
        "wait": lambda: device.wait(1),
        "run": lambda: device.run(1),
        "reset": device.reset,
        "cycles": lambda: device.cycles,
        "traffic": lambda: device.traffic,
        "inject_fault": lambda: device.inject_fault(0, 64, reads=True),
        "clear_faults": device.clear_faults,
        "freeze": device.freeze,
    }
    for name, call in calls.items():
        with pytest.raises(DeviceClosed, match="^the device is closed: open it again$"):
            print(name, call())


def test_closing_beside_another_thread(device: VerilatedDevice) -> None:
    """Native code runs without Python's lock: what it works on must not be taken away meanwhile."""
    ends: list[type[BaseException]] = []
    started = threading.Event()

    def work() -> None:
        try:
            while True:
                device.run(20_000)
                started.set()
        except BaseException as error:
            ends.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert started.wait(20)
    device.close()
    for thread in threads:
        thread.join(20)
    assert ends == [DeviceClosed] * 2


def test_threads_take_turns(library: Path) -> None:
    """Two drive one simulation: nothing of either is lost, and time passes as often as both ask for it."""
    with VerilatedDevice(CONFIG, 1 << 16, library=library) as device:

        def work(place: int) -> None:
            for value in range(100):
                device.write(place, bytes([value]) * 64)
                device.run(50)
                assert device.read_register(prober.CHECKSUM) == 0
                assert device.read(place, 64) == bytes([value]) * 64

        before = device.cycles
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, (0, 64)))
        assert device.cycles - before >= 2 * 100 * 50


# In a process of its own: what an older process has free may take in the device's memory, which then neither grows nor shrinks.
CLOSING = """
import sys
from pathlib import Path
from tailrace.sim.devices import open_device
from tailrace.spec.config import CONFIGS

def resident():
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon"))

kind, size, library = sys.argv[1], int(sys.argv[2]), sys.argv[3]
device = open_device(kind, CONFIGS["tiny"], size, **({"library": Path(library)} if kind == "verilator" else {}))
before = resident()
device.write(0, bytes([1]) * size)
filled = resident()
device.close()
print(filled - before, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells what a process has")
@pytest.mark.parametrize("kind", ["emulator", "golden", "verilator"])
def test_closing_gives_memory_back(library: Path, kind: str) -> None:
    size = 1 << 27
    run = subprocess.run(
        [sys.executable, "-c", CLOSING, kind, str(size), str(library)], capture_output=True, text=True, check=True
    )
    filled, closed = map(int, run.stdout.split())
    assert filled > 0.9 * size
    assert closed < 0.1 * size


def test_two_devices_of_one_library_are_apart(library: Path) -> None:
    first, second = (VerilatedDevice(CONFIG, 1 << 16, library=library) for _ in range(2))
    first.write(0, b"\x01\x00\x00\x00")
    for device in (first, second):
        for register, value in {prober.BURSTS: 1, prober.BEATS: 1, prober.MODE: prober.READ, prober.START: 1}.items():
            device.write_register(register, value)
        device.wait(5)
    assert (first.read_register(prober.CHECKSUM), second.read_register(prober.CHECKSUM)) == (1, 0)


def test_time_stands_still_between_accesses(device: VerilatedDevice) -> None:
    before = device.cycles
    device.write(0, bytes(100))
    device.read(0, 100)
    assert device.cycles == before
    device.run(12345)
    assert device.cycles == before + 12345
    assert device.cycles_per_second > 0


def test_interrupts_are_passed_on_soon(device: VerilatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(verilated.time, "perf_counter", interrupted)
    with pytest.raises(KeyboardInterrupt):
        device.wait(60)
    monkeypatch.undo()
    device.run(10)


def test_waveforms_are_written_for_the_window(tmp_path: Path) -> None:
    library = build_library(
        to_verilog(Prober(CONFIG.bus_width), name=TOP, flatten=False), "the memory prober, traced", trace=True
    )
    path = tmp_path / "wave.vcd"
    with VerilatedDevice(CONFIG, 1 << 16, library=library, trace=path, trace_window=(100, 140)) as device:
        device.run(1000)
        assert device.cycles > 1000
    text = path.read_text()
    assert "m00_axi_araddr" in text
    times = [int(line[1:]) for line in text.splitlines() if line.startswith("#")]
    assert "$timescale 1ns $end" in text
    assert (min(times), max(times)) == (1000, 1395)


def test_a_waveform_on_a_full_disk_ends_the_run() -> None:
    library = build_library(
        to_verilog(Prober(CONFIG.bus_width), name=TOP, flatten=False), "the memory prober, traced", trace=True
    )
    text = r"^the waveform could not be written beyond cycle \d+: free some space, or choose a window of fewer cycles$"
    with (
        VerilatedDevice(CONFIG, 1 << 16, library=library, trace=Path("/dev/full")) as device,
        pytest.raises(ToolError, match=text),
    ):
        device.run(100_000)


def test_waveforms_need_a_folder(library: Path, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "wave.vcd"
    with pytest.raises(ToolError, match=f"^the waveform file {path} can't be written: {path.parent} is not a folder$"):
        VerilatedDevice(CONFIG, 1 << 16, library=library, trace=path)


def test_a_build_without_waveforms_writes_none(library: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"^the waveform file .*wave.vcd can't be written$"):
        VerilatedDevice(CONFIG, 1 << 16, library=library, trace=tmp_path / "wave.vcd")


def test_devices_are_opened_by_name(library: Path) -> None:
    assert open_device("golden", CONFIG, 1 << 16).name == "golden"
    assert open_device("verilator", CONFIG, 1 << 16, library=library).name == "verilator"
    with pytest.raises(ConfigError, match="^unknown device 'fpga': choose one of emulator, golden, verilator$"):
        open_device("fpga", CONFIG, 1 << 16)
