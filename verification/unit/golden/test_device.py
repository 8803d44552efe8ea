"""The golden device as a driver sees it: memory, registers, interrupts, waiting."""

import numpy as np
import pytest

from tailrace.golden.device import GoldenDevice
from tailrace.spec.commands import encode
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ConfigError, DeviceTimeout, ErrorCode, TailraceError
from tailrace.spec.isa import ISA_VERSION, Opcode
from tailrace.spec.registers import AP_DONE, AP_IDLE, AP_READY, AP_START, offset, registers_of
from tailrace.spec.transport import Transport
from verification.unit.golden.image import Image
from verification.unit.golden.packing import random_weights
from verification.unit.golden.test_machine import FORMATS, config, floats

FENCE = encode(Opcode.FENCE)


@pytest.fixture
def device() -> GoldenDevice:
    return GoldenDevice(CONFIGS["base"], 1 << 16)


def start(device: GoldenDevice) -> None:
    device.write_register(offset("AP_CTRL"), AP_START)


def test_is_a_transport(device: GoldenDevice) -> None:
    assert isinstance(device, Transport)
    assert (device.name, device.memory_size, device.simulated) == ("golden", 1 << 16, False)
    device.close()
    device.close()


@pytest.mark.parametrize("size", [0, -64, 100])
def test_memory_size_must_be_whole(size: int) -> None:
    with pytest.raises(ConfigError, match=f"^memory_size must be a positive multiple of 64, not {size}$"):
        GoldenDevice(CONFIGS["base"], size)


def test_memory_must_be_addressable() -> None:
    with pytest.raises(ConfigError, match="^8589934592 bytes of memory need more than this build's 32 address bits$"):
        GoldenDevice(Config("small", 128, address_width=32), 1 << 33)


def test_memory(device: GoldenDevice) -> None:
    device.write(65530, memoryview(b"abcdef"))
    assert device.read(65528, 8) == b"\0\0abcdef"
    assert device.read(65536, 0) == b""


@pytest.mark.parametrize(("address", "size"), [(65530, 7), (-1, 1), (1 << 40, 1)])
def test_memory_ends(device: GoldenDevice, address: int, size: int) -> None:
    text = f"{size} bytes at {address:#x}: the device's memory has 65536 bytes, from 0 on$"
    with pytest.raises(TailraceError, match="^can't read " + text):
        device.read(address, size)
    with pytest.raises(TailraceError, match="^can't write " + text):
        device.write(address, bytes(size))


def test_identification() -> None:
    device = GoldenDevice(CONFIGS["wide"], 1 << 16)
    expected = {
        "MAGIC": int.from_bytes(b"TLRC", "little"),
        "ISA_VERSION": ISA_VERSION,
        "BUS_WIDTH": 512,
        "LANES": 4,
        "RIGHT_HAND_SIDES": 4,
        "CHANNELS": 1,
        "FORMATS": 0x3F_8FFF,
        "MAX_BLOCKS": 1024,
        "BUFFER_ENTRIES": 65536,
        "MAX_COMMANDS": 65535,
        "ADDRESS_WIDTH": 40,
        "READ_FIFO_BEATS": 512,
        "BURST_BEATS": 64,
        "VECTOR_WIDTH": 4,
    }
    assert {name: device.read_register(offset(name)) for name in expected} == expected


def test_every_register_reads_its_reset_value_and_what_is_read_only_stays(device: GoldenDevice) -> None:
    before = {r.name: device.read_register(r.offset) for r in registers_of(1)}
    assert {r.name: r.reset for r in registers_of(1) if r.access == "rw"}.items() <= before.items()
    for register in registers_of(1):
        if register.access == "ro":
            device.write_register(register.offset, 0xFFFF_FFFF)
    assert {r.name: device.read_register(r.offset) for r in registers_of(1)} == before


def test_writable_registers_hold_what_exists(device: GoldenDevice) -> None:
    masks = {"GIE": 1, "IER": 3}
    for register in registers_of(1):
        if register.access == "rw":
            device.write_register(register.offset, 0xDEAD_BEEF)
            assert device.read_register(register.offset) == 0xDEAD_BEEF & masks.get(register.name, 0xFFFF_FFFF)


def test_places_without_a_register(device: GoldenDevice) -> None:
    device.write_register(0x88, 1)
    assert device.read_register(0x88) == 0


@pytest.mark.parametrize("place", [2, 4096, -4])
def test_offsets_that_can_not_be(device: GoldenDevice, place: int) -> None:
    with pytest.raises(TailraceError, match=f"^register offsets are multiples of 4 below 0x1000, not {place:#x}$"):
        device.read_register(place)


def test_values_that_can_not_be(device: GoldenDevice) -> None:
    with pytest.raises(TailraceError, match="^a register holds 0 to 0xffffffff, not 0x100000000$"):
        device.write_register(offset("QUEUE_LENGTH"), 1 << 32)


def test_done_is_cleared_by_reading(device: GoldenDevice) -> None:
    assert device.read_register(0) == AP_IDLE
    start(device)
    assert device.read_register(0) == AP_IDLE | AP_DONE | AP_READY
    assert device.read_register(0) == AP_IDLE


def test_writing_zero_to_start_does_nothing(device: GoldenDevice) -> None:
    device.write_register(0, AP_DONE | AP_IDLE)
    assert device.read_register(0) == AP_IDLE


@pytest.mark.parametrize("enabled", [0, 1, 2, 3])
def test_interrupts(device: GoldenDevice, enabled: int) -> None:
    """Set while enabled, toggled by writing, out while GIE is set."""
    device.write_register(offset("IER"), enabled)
    start(device)
    assert device.read_register(offset("ISR")) == enabled
    assert not device.interrupt
    device.write_register(offset("GIE"), 1)
    assert device.interrupt == (enabled != 0)
    device.write_register(offset("ISR"), enabled)
    assert device.read_register(offset("ISR")) == 0
    assert not device.interrupt
    device.write_register(offset("ISR"), 1)
    assert device.read_register(offset("ISR")) == 1
    assert device.interrupt


def test_wait(device: GoldenDevice) -> None:
    text = "^nothing happened for 1.5 s: no run was started, write 1 to AP_CTRL first$"
    with pytest.raises(DeviceTimeout, match=text):
        device.wait(1.5)
    start(device)
    device.wait(0)
    device.read_register(0)
    with pytest.raises(DeviceTimeout, match=text):
        device.wait(1.5)
    device.write_register(offset("GIE"), 1)
    device.write_register(offset("IER"), 1)
    start(device)
    device.read_register(0)
    device.wait(0)


def test_trace_sees_every_command_after_it_was_carried_out(rng: np.random.Generator) -> None:
    image = Image(config())
    x, weights = floats(rng, 32), random_weights(rng, FORMATS[0], 3, 1, (4, 9))
    commands = [image.load(0, x), image.gemv(weights), FENCE]
    seen: list[tuple[int, Opcode, bytes, bool]] = []
    image.device.trace = lambda *step: seen.append((*step, bool(image.device.activations[:3].any())))
    image.run(*commands)
    opcodes = (Opcode.LOAD_VECTOR, Opcode.GEMV, Opcode.FENCE)
    assert seen == [(i, opcodes[i], commands[i], i > 0) for i in range(3)]
    image.device.trace = None
    image.run(FENCE)
    assert len(seen) == 3


def test_activations_are_a_copy(rng: np.random.Generator) -> None:
    image = Image(config())
    image.run(image.load(0, floats(rng, 32)), image.gemv(random_weights(rng, FORMATS[0], 3, 1, (4, 9))))
    before = image.device.activations
    assert before.shape == (1024,)
    image.device.activations[:] = 1
    assert np.array_equal(image.device.activations, before)


def test_an_interrupted_run_leaves_the_device_usable(rng: np.random.Generator) -> None:
    """Ctrl-C in the middle: nothing is done, nothing pends, and the next run works."""
    image = Image(config())
    queue = [image.load(0, floats(rng, 32)), image.gemv(random_weights(rng, FORMATS[0], 3, 1, (4, 9)))]

    def interrupt(*step: object) -> None:
        raise KeyboardInterrupt

    assert image.run(bytes(64)) == (ErrorCode.BAD_OPCODE, 0, 0)
    assert image.register("AP_CTRL") == AP_IDLE | AP_DONE | AP_READY
    image.device.trace = interrupt
    with pytest.raises(KeyboardInterrupt):
        image.run(*queue)
    assert image.register("AP_CTRL") == AP_IDLE
    assert image.register("ERROR_CODE") == 0
    image.device.trace = None
    assert image.run(*queue) == (0, 0, 0)
    assert image.register("AP_CTRL") == AP_IDLE | AP_DONE | AP_READY
