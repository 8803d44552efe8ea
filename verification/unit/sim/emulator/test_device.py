"""The emulator as a driver sees it: memory, registers, interrupts, waiting, threads."""

import re
import threading
import time

import pytest

from tailrace.sim.emulator.device import EmulatedDevice
from tailrace.spec.commands import encode
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ConfigError, DeviceClosed, DeviceTimeout, ErrorCode
from tailrace.spec.isa import ISA_VERSION, Opcode
from tailrace.spec.registers import AP_DONE, AP_IDLE, AP_READY, AP_START, offset, registers_of
from tailrace.spec.transport import Transport

SIZE = 1 << 16
FENCE = encode(Opcode.FENCE)
#: Never ends: register 0 is never 0 after it was counted down.
FOR_EVER = encode(Opcode.SET, register=1, addend=0) + encode(Opcode.LOOP, register=1, target=0)


@pytest.fixture
def device():
    with EmulatedDevice(CONFIGS["base"], SIZE, threads=2) as opened:
        yield opened


def start(device: EmulatedDevice, queue: bytes, enable: int = 1) -> None:
    device.write(0, queue)
    for name, value in (("QUEUE_LENGTH", len(queue) // 64), ("GIE", enable), ("IER", enable), ("AP_CTRL", AP_START)):
        device.write_register(offset(name), value)


def test_is_a_transport(device):
    assert isinstance(device, Transport)
    assert (device.name, device.memory_size, device.simulated) == ("emulator", SIZE, False)
    device.close()
    device.close()
    with pytest.raises(DeviceClosed):
        device.read(0, 1)
    with pytest.raises(DeviceClosed):
        device.read_register(0)


@pytest.mark.parametrize(
    ("config", "size", "threads", "text"),
    [
        (CONFIGS["base"], 0, 1, "memory_size must be a positive multiple of 64, not 0"),
        (CONFIGS["base"], 100, 1, "memory_size must be a positive multiple of 64, not 100"),
        (
            Config("small", 128, address_width=32),
            1 << 33,
            1,
            "8589934592 bytes of memory need more than this build's 32 address bits",
        ),
        (CONFIGS["base"], 64, 0, "threads must be from 1 to 256, not 0"),
        (CONFIGS["base"], 64, 257, "threads must be from 1 to 256, not 257"),
    ],
)
def test_bad_parameters(config, size, threads, text):
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        EmulatedDevice(config, size, threads=threads)


@pytest.mark.parametrize(("address", "size"), [(SIZE - 1, 2), (-1, 1), (1 << 40, 1)])
def test_memory_ends(device, address, size):
    text = re.escape(f"bytes {address:#x} to {address + size:#x} are outside the device's memory of {SIZE:#x} bytes")
    with pytest.raises(ValueError, match=f"^{text}$"):
        device.read(address, size)
    with pytest.raises(ValueError, match=f"^{text}$"):
        device.write(address, bytes(size))


def test_registers(device):
    assert device.read_register(offset("ISA_VERSION")) == ISA_VERSION
    assert device.read_register(offset("AP_CTRL")) == AP_IDLE
    assert device.read_register(0xFFC) == 0
    for register in registers_of(1):
        before = device.read_register(register.offset)
        if register.access == "ro":
            device.write_register(register.offset, 0xFFFF_FFFF)
            assert device.read_register(register.offset) == before
        elif register.access == "rw":
            device.write_register(register.offset, 0xFFFF_FFFF)
            assert device.read_register(register.offset) == {"GIE": 1, "IER": 3}.get(register.name, 0xFFFF_FFFF)


def test_a_run(device):
    start(device, FENCE * 3)
    device.wait(10)
    assert device.interrupt
    assert device.read_register(offset("COMMANDS_LO")) == 3
    assert device.read_register(offset("AP_CTRL")) == AP_DONE | AP_READY | AP_IDLE
    assert device.read_register(offset("AP_CTRL")) == AP_IDLE
    device.write_register(offset("ISR"), device.read_register(offset("ISR")))
    assert not device.interrupt


def test_the_doorbell_returns_at_once_and_a_second_one_is_ignored(device):
    start(device, FOR_EVER)
    assert device.read_register(offset("AP_CTRL")) == AP_START
    device.write_register(offset("AP_CTRL"), AP_START)
    assert device.read_register(offset("AP_CTRL")) == AP_START
    # Memory can be used meanwhile; here it ends the loop.
    assert device.read(0, 64) == FOR_EVER[:64]
    device.write(64, FENCE)
    device.wait(10)
    assert device.read_register(offset("ERROR_CODE")) == ErrorCode.NONE


def test_waiting_for_nothing(device):
    with pytest.raises(DeviceTimeout, match=r"^nothing happened for 0\.2 s: no run was started, write 1 to AP_CTRL first$"):
        device.wait(0.2)


def test_waiting_goes_on_while_commands_are_carried_out(device):
    start(device, FOR_EVER)
    threading.Timer(0.5, device.write, (64, FENCE)).start()
    began = time.monotonic()
    device.wait(0.2)
    assert time.monotonic() - began > 0.4


def test_closing_ends_a_run(device):
    start(device, FOR_EVER)
    ended = []

    def wait() -> None:
        with pytest.raises(DeviceClosed):
            device.wait(60)
        ended.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.2)
    device.close()
    waiting.join(10)
    assert ended == [True]


def test_a_run_that_closing_has_ended_is_not_waited_for(device):
    start(device, FOR_EVER)
    device.close()
    with pytest.raises(DeviceClosed):
        device.wait(1)


def test_a_run_is_ended_that_has_not_begun(device, monkeypatch):
    """Closing comes between the doorbell and the first command."""
    library, closing = device._library, threading.Event()

    class Late:
        """The library, whose runs begin after closing has begun."""

        def __getattr__(self, name):
            return getattr(library, name)

        def emulator_run(self, *arguments):
            assert closing.wait(10)
            library.emulator_run(*arguments)

        def emulator_stop(self, handle):
            library.emulator_stop(handle)
            closing.set()

    monkeypatch.setattr(device, "_library", Late())
    start(device, FOR_EVER)
    device.close()
    assert closing.is_set()


def test_many_devices_at_once():
    """Each has its own threads, and leaves none behind."""
    before = threading.active_count()
    for _ in range(20):
        devices = [EmulatedDevice(CONFIGS["tiny"], SIZE, threads=3) for _ in range(3)]
        for device in devices:
            start(device, FENCE)
        for device in devices:
            device.wait(10)
            device.close()
    assert threading.active_count() == before
