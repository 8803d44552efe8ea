"""The Zynq transport over files that a thread with the golden model plays the programmable logic with."""

import os
import re
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.device.driver import Device
from tailrace.device.products import upload
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import CONFIGS, parse_config
from tailrace.spec.errors import ConfigError, DeviceClosed, LinkError
from tailrace.spec.formats import BY_NAME
from tailrace.spec.registers import MAGIC, offset
from tailrace.spec.transport import Transport
from tailrace.transports.uio import UioTransport
from verification.unit.host.device.matrices import tensor
from verification.unit.host.transports.stand_in import StandIn, make_buffer, make_uio_files

MEMORY, START = 1 << 20, 0x3000_0000
CONFIG = CONFIGS["tiny"]
DEVICE_TREE = (
    'check that the device tree has a node for the core with compatible = "generic-uio", that the kernel was started with'
    " uio_pdrv_genirq.of_id=generic-uio, and that the bitstream is loaded"
)
BUFFER = "load u-dma-buf, or add its node to the device tree; ls /sys/class/u-dma-buf shows the buffers that there are"


class Kernel:
    """The interrupt of a UIO device: delivered once, and again only after it was enabled again."""

    def __init__(self) -> None:
        self.process, self.kernel = socket.socketpair()
        self.count, self.raised, self.enabled = 0, False, False
        self.lock = threading.Condition()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while command := self.kernel.recv(4):
            with self.lock:
                assert struct.unpack("=I", command) == (1,)
                self.enabled = True
                self.deliver()

    def interrupt(self) -> None:
        with self.lock:
            self.raised = True
            self.deliver()

    def deliver(self) -> None:
        if self.raised and self.enabled:
            self.count, self.raised, self.enabled = self.count + 1, False, False
            self.kernel.send(struct.pack("=I", self.count))


@pytest.fixture
def build() -> str:
    return "tiny"


@pytest.fixture
def base() -> int | None:
    """What the device's name says that the hardware adds."""
    return None


@pytest.fixture
def opened(
    build: str, base: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[UioTransport, StandIn, Kernel]]:
    device, kernel = make_uio_files(tmp_path, MEMORY, map_offset=0x100), Kernel()
    stand_in = StandIn(
        monkeypatch, parse_config(build), device, tmp_path / "dev/udmabuf0", MEMORY, kernel.interrupt, control_offset=0x100,
        memory_start=START - (base or 0),
    )  # fmt: skip
    with UioTransport(device, "udmabuf0", base=base, sysfs=tmp_path / "sys", dev=tmp_path / "dev") as transport:
        # A file can't be mapped and waited for: the other end of the interrupt is a socket.
        transport._events = kernel.process.fileno()
        yield transport, stand_in, kernel
    stand_in.close()


@pytest.mark.parametrize(
    ("build", "base"), [("tiny", None), ("tiny", START), ("tiny,channels=4", None), ("tiny,bus_width=256,channels=2", START)]
)
def test_multiplies_as_golden(
    build: str, base: int | None, opened: tuple[UioTransport, StandIn, Kernel], rng: np.random.Generator
) -> None:
    transport, stand_in, kernel = opened
    assert isinstance(transport, Transport)
    assert transport.read_register(offset("MAGIC")) == MAGIC
    assert transport.read_registers(offset("MAGIC") - 4, 2) == [0, MAGIC]
    x = rng.standard_normal((3, 96)).astype(np.float32)
    results = []
    for each in (transport, GoldenDevice(parse_config(build), MEMORY)):
        device = Device(each, timeout=20)
        matrices = [upload(device, "m", BY_NAME[name], tensor(BY_NAME[name], 37, 3).data) for name in ("Q4_1", "Q8_0")]
        results.append([matrix.multiply(x).tobytes() for matrix in matrices])
    assert results[0] == results[1]
    assert transport.statistics == {"interrupts": 2, "missed interrupts": 0}
    assert kernel.count == 2
    first, channels = START - (base or 0), parse_config(build).channels
    assert stand_in.golden.channel_bases == [first + n * MEMORY // channels for n in range(channels)]


def test_memory_at_any_address(opened: tuple[UioTransport, StandIn, Kernel], rng: np.random.Generator) -> None:
    transport, stand_in, _ = opened
    expected = np.zeros(MEMORY, np.uint8)
    for _ in range(50):
        size = int(rng.integers(0, 300))
        address = int(rng.integers(0, MEMORY - size + 1))
        data = rng.integers(0, 256, size, np.uint8)
        transport.write(address, data.tobytes())
        expected[address : address + size] = data
        assert transport.read(address, size) == data.tobytes()
    assert (stand_in.memory == expected).all()
    with pytest.raises(
        LinkError, match="^can't read 2 bytes at 0xfffff: the device's memory has 1048576 bytes, from address 0 on$"
    ):
        transport.read(MEMORY - 1, 2)


def test_no_interrupt(opened: tuple[UioTransport, StandIn, Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    transport, _, _ = opened

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", fail)
    text = (
        f"{transport.name.removeprefix('uio:')} has no interrupt (Input/output error): add the core's interrupt to its node in the"
        " device tree, or add wait=poll"
    )
    with pytest.raises(LinkError, match=f"^{re.escape(text)}$"):
        transport.wait(1.0)
    transport.close()
    transport.close()
    for call in (lambda: transport.wait(1.0), lambda: transport.read_register(0), lambda: transport.read(0, 4)):
        with pytest.raises(DeviceClosed, match="^the device is closed: open it again$"):
            call()


def test_a_device_that_another_program_uses(opened: tuple[UioTransport, StandIn, Kernel], tmp_path: Path) -> None:
    path = tmp_path / "dev/uio0"
    text = f"{path} is in use: wait until the other program that has opened it is done, or end it; fuser -v {path} names it"
    fails(LinkError, text, tmp_path)


def test_polling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = make_uio_files(tmp_path, MEMORY)
    stand_in = StandIn(monkeypatch, CONFIG, device, tmp_path / "dev/udmabuf0", MEMORY, lambda: None, memory_start=START)
    monkeypatch.setattr(select, "poll", None)
    with UioTransport(device, "udmabuf0", sysfs=tmp_path / "sys", dev=tmp_path / "dev", events=False) as transport:
        Device(transport).start(0, 0)
    stand_in.close()


def fails(error: type[Exception], text: str, folder: Path, memory: str = "udmabuf0", **options: Any) -> None:
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        UioTransport(folder / "dev/uio0", memory, sysfs=folder / "sys", dev=folder / "dev", **options)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    fails(LinkError, f"{tmp_path}/dev/uio0 does not exist: {DEVICE_TREE}", tmp_path)
    make_uio_files(tmp_path, MEMORY)
    fails(LinkError, f"{tmp_path}/dev/udmabuf1 does not exist: {BUFFER}", tmp_path, "udmabuf1")
    fails(LinkError, f"{tmp_path}/dev/mem does not exist: the kernel must have it (CONFIG_DEVMEM)", tmp_path, "0x1000+64KiB")
    size = tmp_path / "sys/class/u-dma-buf/udmabuf0/size"
    size.write_text("much\n")
    fails(LinkError, f"{size} does not hold a number: {BUFFER}", tmp_path)
    size.unlink()
    fails(LinkError, f"{size} can't be read (No such file or directory): {BUFFER}", tmp_path)


def test_two_buffers(tmp_path: Path, rng: np.random.Generator) -> None:
    """A build of several ports may have its parts in several places."""
    device = make_uio_files(tmp_path, MEMORY)
    make_buffer(tmp_path, "udmabuf1", 2 * MEMORY, start=0x8_0000_0000)
    folders = {"sysfs": tmp_path / "sys", "dev": tmp_path / "dev"}
    with UioTransport(device, "udmabuf0:udmabuf1", events=False, **folders) as transport:
        assert transport.memory_size == 3 * MEMORY
        assert transport.pieces == ((START, MEMORY), (0x8_0000_0000, 2 * MEMORY))
        expected = np.zeros(3 * MEMORY, np.uint8)
        for address, size in (
            (MEMORY - 100, 300),
            (0, 3),
            (MEMORY, 64),
            (MEMORY - 64, 128),
            (3 * MEMORY - 5, 5),
            (7, 3 * MEMORY - 9),
        ):
            expected[address : address + size] = rng.integers(0, 256, size, np.uint8)
            transport.write(address, expected[address : address + size].tobytes())
            assert transport.read(address, size) == expected[address : address + size].tobytes()
        assert transport.read(0, 3 * MEMORY) == expected.tobytes()
    assert (tmp_path / "dev/udmabuf0").read_bytes() + (tmp_path / "dev/udmabuf1").read_bytes() == expected.tobytes()
    text = "the hardware adds one base, and udmabuf0:udmabuf1 is in 2 places: leave base away, or give one memory"
    fails(ConfigError, text, tmp_path, "udmabuf0:udmabuf1", base=START)


@pytest.mark.parametrize("other", ["udmabuf0", "{dev}/udmabuf0", "udmabuf1"])
def test_memories_that_overlap(other: str, tmp_path: Path) -> None:
    """Parts that share bytes would be written over each other: the same buffer by either of its names, or another one's end."""
    make_uio_files(tmp_path, MEMORY)
    make_buffer(tmp_path, "udmabuf1", MEMORY, start=START - MEMORY + 4096)
    memory = f"udmabuf0:{other.format(dev=tmp_path / 'dev')}"
    text = f"{memory} names the memory at 0x30000000 twice: give memories that do not overlap"
    fails(ConfigError, text, tmp_path, memory)


def test_a_buffer_whose_name_has_a_colon(tmp_path: Path) -> None:
    """As the kernel calls one on a bus that has no name of its own in the device tree."""
    device = make_uio_files(tmp_path, MEMORY)
    make_buffer(tmp_path, "amba:udmabuf", MEMORY, start=START)
    with UioTransport(device, "amba:udmabuf", events=False, sysfs=tmp_path / "sys", dev=tmp_path / "dev") as transport:
        assert transport.pieces == ((START, MEMORY),)


def test_a_buffer_that_the_core_can_not_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = make_uio_files(tmp_path, MEMORY, start=0xFFFF_F000)
    stand_in = StandIn(
        monkeypatch, parse_config("tiny,address_width=32"), device, tmp_path / "dev/udmabuf0", MEMORY, lambda: None
    )
    transport = UioTransport(device, "udmabuf0", sysfs=tmp_path / "sys", dev=tmp_path / "dev", events=False)
    text = (
        f"the memory of uio:{device} ends at 0x1000ff000 on the device's memory bus, and this build drives 32 address bits: place"
        " the buffer lower, or build with address_width=33"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        Device(transport)
    stand_in.close()


def test_another_device(tmp_path: Path) -> None:
    device = make_uio_files(tmp_path, MEMORY)
    (tmp_path / "sys/class/uio/uio0/maps/map0/size").write_text("0x100\n")
    text = (
        f"{device} is not a Tailrace device: its first map has 0x100 bytes, and the registers take 0x1000. Check reg in its node"
        " of the device tree"
    )
    fails(LinkError, text, tmp_path)


@pytest.mark.parametrize("mode", [0, 4])
def test_a_cache_in_between(tmp_path: Path, mode: int) -> None:
    make_uio_files(tmp_path, MEMORY, sync_mode=mode)
    folder = tmp_path / "sys/class/u-dma-buf/udmabuf0"
    text = (
        f"the processor's cache stands between udmabuf0 and the device (sync_mode {mode}): as root, write 2 to"
        f" {folder}/sync_mode, or add sync-mode = <2> to its node in the device tree"
    )
    fails(LinkError, text, tmp_path)
    (folder / "dma_coherent").write_text("1\n")
    UioTransport(tmp_path / "dev/uio0", "udmabuf0", sysfs=tmp_path / "sys", dev=tmp_path / "dev").close()


def test_where_the_memory_must_be(tmp_path: Path) -> None:
    make_uio_files(tmp_path, MEMORY)
    text = (
        "the memory udmabuf0 begins at 0x30000000, but the hardware adds 0x20000000 to the device's addresses: place the buffer"
        " there (reserved-memory in the device tree), or build the hardware for the other address"
    )
    fails(ConfigError, text, tmp_path, base=0x2000_0000)
    fails(ConfigError, "'0x1000+' is not a range of physical memory: write it like 0x30000000+256MiB", tmp_path, "0x1000+")
    (tmp_path / "dev/mem").write_bytes(bytes(1 << 16))
    text = (
        "the memory 0x1010+4KiB has 4096 bytes from 0x1010 on: it must begin at a page and have a positive multiple of 64 bytes"
    )
    fails(ConfigError, text, tmp_path, "0x1010+4KiB")
    text = (
        f"1048576 bytes of {tmp_path}/dev/mem can't be mapped: mmap length is greater than file size. Reserve the memory in the"
        " device tree (reserved-memory, no-map), or use u-dma-buf"
    )
    fails(LinkError, text, tmp_path, "0x1000+1MiB")
    with UioTransport(
        tmp_path / "dev/uio0", "0x1000+8KiB", base=0x1000, sysfs=tmp_path / "sys", dev=tmp_path / "dev"
    ) as transport:
        transport.write(5, b"abc")
        assert transport.memory_size == 8192
    assert (tmp_path / "dev/mem").read_bytes()[0x1000:0x1010] == bytes(5) + b"abc" + bytes(8)
