"""The driver over the golden device: memory, errors, interruptions, threads, and what comes after them."""

import re
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tailrace.device
from tailrace.device.driver import Device
from tailrace.device.products import Matrix, upload
from tailrace.golden.device import GoldenDevice
from tailrace.spec.commands import encode
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import DeviceClosed, DeviceError, DeviceTimeout, ErrorCode, TailraceError
from tailrace.spec.isa import ADDRESS_UNIT, Opcode
from tailrace.spec.registers import base_registers, offset
from verification.unit.host.device.matrices import MIB, Q8_0, Faulty, Late, matrix_on, open_golden, tensor


def test_error_and_the_call_after_it() -> None:
    x = np.ones((1, 96), dtype=np.float32)
    with open_golden() as device:
        matrix = matrix_on(device)
        expected = matrix.multiply(x)
        bad = [encode(Opcode.FENCE), encode(Opcode.LOAD_VECTOR, blocks=1 << 20)]
        with pytest.raises(DeviceError, match="^the device stopped at command 1 with OUT_OF_RANGE: ") as caught:
            device.run(bad, MIB // 2)
        assert (caught.value.code, caught.value.command) == (ErrorCode.OUT_OF_RANGE, 1)
        outside = [encode(Opcode.LOAD_VECTOR, source=(1 << 30) // ADDRESS_UNIT, blocks=1)]
        with pytest.raises(DeviceError, match="^the device stopped at command 0 with READ_ERROR at address 0x40000000: "):
            device.run(outside, MIB // 2)
        assert np.array_equal(matrix.multiply(x), expected)


def test_the_limit_that_the_golden_device_itself_checks_is_the_drivers() -> None:
    """What the driver refuses to upload, the device would refuse to run: both know the same limit."""
    with open_golden("tiny,vector_blocks=64") as device:
        with pytest.raises(DeviceError, match="OUT_OF_RANGE"):
            device.run([encode(Opcode.LOAD_VECTOR, source=0, blocks=65)], MIB // 2)


@pytest.mark.parametrize("error", [DeviceTimeout("no interrupt"), KeyboardInterrupt()])
def test_giving_up_leaves_the_device_usable(error: BaseException) -> None:
    x = np.ones((1, 96), dtype=np.float32)
    transport = Faulty()
    with Device(transport) as device:
        matrix = matrix_on(device)
        expected = matrix.multiply(x)
        transport.wait_error = error
        with pytest.raises(type(error)):
            matrix.multiply(x)
        assert np.array_equal(matrix.multiply(x), expected)
    device.close()


def test_what_is_not_our_device() -> None:
    transport = Faulty()
    transport.replaced[offset("MAGIC")] = 0xDEADBEEF
    text = (
        "golden is not a Tailrace device: its MAGIC register reads 0xdeadbeef, not 0x43524c54."
        " Check the base address of its registers, its clock and its reset."
    )
    with pytest.raises(TailraceError, match=f"^{re.escape(text)}$"):
        Device(transport)
    transport = Faulty()
    transport.replaced[offset("ISA_VERSION")] = 1 << 16 | 5
    text = (
        "golden has instruction set 1.5, and this driver speaks 3.x:"
        " rebuild the device, or install the release of tailrace that matches it."
    )
    with pytest.raises(TailraceError, match=f"^{re.escape(text)}$"):
        Device(transport)


def test_watchdog_is_set_when_asked() -> None:
    with open_golden(watchdog_cycles=1234) as device:
        assert device.transport.read_register(offset("WATCHDOG_CYCLES")) == 1234


def interrupted(device: Device, transport: Late, matrix: Matrix) -> None:
    """Leave a product at work: it will write its results when it is waited for."""
    transport.wait_error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        matrix.multiply(np.ones((4, matrix.columns), dtype=np.float32))
    assert transport.busy


def test_an_interrupted_run_ends_before_other_vectors_are_written(rng: np.random.Generator) -> None:
    x = rng.standard_normal((8, 64)).astype(np.float32)
    results = []
    for transport in (GoldenDevice(CONFIGS["tiny"], MIB), Late()):
        with Device(transport) as device:
            first, second = matrix_on(device, rows=200), matrix_on(device, rows=5, per_row=2)
            if isinstance(transport, Late):
                interrupted(device, transport, first)
            results.append(second.multiply(x).tobytes())
    assert results[0] == results[1]


def test_an_interrupted_run_ends_before_memory_is_written_or_read() -> None:
    transport = Late()
    with Device(transport) as device:
        matrix = matrix_on(device, rows=200)
        interrupted(device, transport, matrix)
        expected = tensor(Q8_0, 300, 2)
        assert np.array_equal(upload(device, "other", Q8_0, expected.data).download(), expected.data)
        # Here the vectors of a run lie, and what it reads must stay as it was.
        interrupted(device, transport, matrix)
        place = device.free_address
        device.write(place, bytes(1 << 16))
        assert device.read(place, 1 << 16) == bytes(1 << 16)
        assert not transport.busy


def test_a_device_that_is_opened_anew_ends_the_run_of_the_last_one() -> None:
    transport = Late()
    old = Device(transport)
    interrupted(old, transport, matrix_on(old, rows=200))
    with Device(transport) as device:
        assert not transport.busy
        expected = tensor(Q8_0, 300, 2)
        assert np.array_equal(upload(device, "m", Q8_0, expected.data).download(), expected.data)
        with pytest.raises(DeviceClosed, match="^the device is closed: open it again$"):
            old.read(0, 64)
        old.close()
        assert device.read(0, 64) == transport.read(0, 64)


class Stuck(Late):
    """A device whose run never ends."""

    def wait(self, timeout: float) -> None:
        raise DeviceTimeout("no interrupt")


def test_a_run_that_never_ends() -> None:
    transport = Stuck()
    text = (
        "golden is still at work on an earlier run, and nothing moved for 0.5 s, so nothing was written to it. Check that its"
        " memory answers; if that does not help, reset the device or load its bitstream again, and open it again"
    )
    device = Device(transport, timeout=0.5)
    matrix = matrix_on(device)
    with pytest.raises(DeviceTimeout, match="^no interrupt$"):
        matrix.multiply(np.ones((1, 96), dtype=np.float32))
    before = transport.read(0, MIB)
    for what in (lambda: matrix.multiply(np.ones((1, 96), dtype=np.float32)), lambda: matrix_on(device), device.settle):
        with pytest.raises(DeviceTimeout, match=f"^{re.escape(text)}$"):
            what()
    assert transport.read(0, MIB) == before
    with pytest.raises(DeviceTimeout, match=f"^{re.escape(text)}$"):
        Device(transport, timeout=0.5)


def test_a_device_that_cant_be_opened_is_closed() -> None:
    transport = Faulty()
    transport.replaced[offset("MAGIC")] = 0
    with pytest.raises(TailraceError, match="^golden is not a Tailrace device"):
        Device(transport)
    with pytest.raises(DeviceClosed):
        transport.read(0, 64)


def test_threads_share_a_device(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    interval = sys.getswitchinterval()
    x = rng.standard_normal((3, 96)).astype(np.float32)
    found: dict[int, list[bytes]] = {}
    try:
        sys.setswitchinterval(1e-5)
        with open_golden() as device:
            matrices = [matrix_on(device, rows=rows) for rows in (50, 70, 90)]
            expected = [matrix.multiply(x).tobytes() for matrix in matrices]

            def work(n: int) -> None:
                found[n] = [matrices[n].multiply(x).tobytes() for _ in range(6)]

            threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert device.counters.runs == 3 + 18 == device.counters["COMMANDS"] // 9
    finally:
        sys.setswitchinterval(interval)
    assert found == {n: [expected[n]] * 6 for n in range(3)}


def test_others_wait_for_what_is_exclusive() -> None:
    order = []
    with open_golden() as device:
        matrix = matrix_on(device)
        thread = threading.Thread(
            target=lambda: order.append(("other", matrix.multiply(np.ones((1, 96), dtype=np.float32)).size))
        )
        with device.exclusive():
            thread.start()
            thread.join(0.1)
            order.append(("this", 0))
        thread.join()
    assert order == [("this", 0), ("other", 9)]


def test_closing_beside_a_run() -> None:
    errors: list[BaseException] = []
    device = open_golden()
    matrix = matrix_on(device)
    started = threading.Event()

    def work() -> None:
        try:
            while True:
                matrix.multiply(np.ones((1, 96), dtype=np.float32))
                started.set()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(20)
    device.close()
    thread.join(20)
    assert [type(error) for error in errors] == [DeviceClosed]


def test_nothing_works_after_closing() -> None:
    device = open_golden()
    matrix = matrix_on(device)
    device.close()
    device.close()
    calls = {
        "settle": device.settle,
        "read": lambda: device.read(0, 64),
        "write": lambda: device.write(0, bytes(64)),
        "run": lambda: device.run([], 0),
        "start": lambda: device.start(0, 0),
        "reserve": lambda: device.reserve(64, "more").__enter__(),
        "temporary": lambda: device.temporary().__enter__(),
        "exclusive": lambda: device.exclusive().__enter__(),
        "upload": lambda: matrix_on(device),
        "download": matrix.download,
        "multiply": lambda: matrix.multiply(np.ones((1, 96), dtype=np.float32)),
    }
    for name, call in calls.items():
        with pytest.raises(DeviceClosed, match="^the device is closed: open it again$"):
            print(name, call())


def test_memory_is_given_back() -> None:
    with open_golden() as device:
        before = device.free_memory
        with pytest.raises(KeyboardInterrupt), device.reserve(64, "something"):
            raise KeyboardInterrupt
        assert device.free_memory == before
        with device.temporary():
            matrix_on(device)
            assert device.free_memory < before
        assert device.free_memory == before
        with device.reserve(100, "something") as address:
            assert address == 0
        assert device.free_memory == before - 128


def test_nothing_else_writes_to_a_transport() -> None:
    """What does not go by way of `Device.write` does not wait for earlier runs. A transport over a transport is one itself."""
    device = Path(str(tailrace.device.__file__)).parent
    rooms = [path for path in device.parent.iterdir() if path.is_dir() and not path.is_symlink()]
    sources = [path for room in rooms for path in room.rglob("*.py")]
    assert device / "driver.py" in sources
    writers = [path for path in sources if re.search(r"transport\.(write|wait)\(", path.read_text(encoding="utf-8"))]
    assert set(writers) == {device / "driver.py", device / "striped_transport.py"}


@pytest.mark.parametrize(("memory", "limit"), [(1 << 20, 1 << 20), ((1 << 20) + 64, (1 << 20) + 4096), (1 << 12, 1 << 12)])
def test_a_device_is_opened_with_its_memory_as_the_limit(memory: int, limit: int) -> None:
    """Whatever another program left in the registers."""
    transport = GoldenDevice(CONFIGS["tiny"], memory)
    for name in ("BASE_LO", "BASE_HI", "LIMIT_LO", "LIMIT_HI"):
        transport.write_register(offset(name), 0xFFFF_FFFF)
    with Device(transport):
        found = [transport.read_register(offset(name)) for name in ("BASE_LO", "BASE_HI", "LIMIT_LO", "LIMIT_HI")]
    assert found == [0, 0, limit, 0]


@pytest.mark.parametrize("channels", [2, 4])
def test_the_limit_is_of_whole_pages_of_all_channels(channels: int) -> None:
    transport = GoldenDevice(replace(CONFIGS["tiny"], channels=channels), (1 << 20) + 64)
    names = base_registers(channels)
    for name in names:
        transport.write_register(offset(f"{name}_HI"), 5)
    with Device(transport):
        assert [transport.read_register(offset(f"{name}_HI")) for name in names] == [0] * channels
        assert transport.read_register(offset("LIMIT_LO")) == (1 << 20) + 4096 * channels


def test_all_of_the_address_space_is_a_limit() -> None:
    """Memory as large as addresses reach, to the last page."""

    class Large(GoldenDevice):
        @property
        def memory_size(self) -> int:
            return 1 << 40

    transport = Large(CONFIGS["tiny"], MIB)
    with Device(transport):
        assert [transport.read_register(offset(f"LIMIT_{half}")) for half in ("LO", "HI")] == [0, 1 << 8]
