"""A device behind files: what a kernel driver would make of one, with the golden model in a thread behind it."""

import os
import queue
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tailrace.spec.config import Config
from tailrace.spec.registers import AP_IDLE, AP_START, offset, registers_of
from tailrace.transports.mapped_registers import MappedRegisters
from verification.unit.host.device.one_memory import OneMemoryDevice

CONTROL_BYTES = 4096


class StandIn:
    """Plays a device whose registers and memory are files.

    Shared memory alone can't tell that a register is read, or that it is written with what it holds. So the transport's writes
    are told to the thread as well; it checks that they are in the file.

    Parameters
    ----------
    config : Config
    registers, memory : Path
        Files; `control_offset` and `memory_offset` are where the device's begin in them.
    memory_start : int
        Address on the device's memory bus at which its memory begins.
    interrupt : callable
        Called when the interrupt is raised.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        config: Config,
        registers: Path,
        memory: Path,
        memory_size: int,
        interrupt: Callable[[], None],
        *,
        control_offset: int = 0,
        memory_offset: int = 0,
        memory_start: int = 0,
    ) -> None:
        self.golden = OneMemoryDevice(config, memory_size, memory_start)
        self.memory = np.memmap(memory, np.uint8, "r+", memory_offset, (memory_size,))
        self.words = np.memmap(registers, "<u4", "r+", control_offset, (CONTROL_BYTES // 4,))
        self.interrupt, self.hangs, self.failure = interrupt, False, ""
        self.writes: queue.Queue[tuple[int, int] | None] = queue.Queue()
        self.show()
        own = MappedRegisters.write

        def write(registers: MappedRegisters, place: int, value: int) -> None:
            own(registers, place, value)
            self.writes.put((place, value))
            if (place, value) != (offset("AP_CTRL"), AP_START):
                self.writes.join()

        monkeypatch.setattr(MappedRegisters, "write", write)
        self.thread = threading.Thread(target=self.play, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.writes.put(None)
        self.thread.join(10)
        assert self.failure == ""

    def show(self) -> None:
        for register in registers_of(self.golden.config.channels):
            if register.name != "AP_CTRL":
                self.words[register.offset // 4] = self.golden.read_register(register.offset)
        self.words[0] = AP_IDLE

    def play(self) -> None:
        while (item := self.writes.get()) is not None:
            place, value = item
            try:
                if self.words[place // 4] != value:
                    self.failure = f"register {place:#x} holds {self.words[place // 4]:#x}, not {value:#x}"
                if (place, value) == (offset("AP_CTRL"), AP_START):
                    if not self.hangs:
                        self.run(place, value)
                else:
                    self.golden.write_register(place, value)
                    self.show()
            finally:
                self.writes.task_done()

    def run(self, place: int, value: int) -> None:
        self.golden.memory[:] = self.memory
        self.golden.write_register(place, value)
        self.memory[:] = self.golden.memory
        self.show()
        self.interrupt()


class Xdma:
    """The files of the XDMA driver: memory is one file under two names, interrupts come through a pipe with a name."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        folder: Path,
        config: Config,
        memory_size: int,
        *,
        control_offset: int = 0,
        memory_offset: int = 0,
    ) -> None:
        self.prefix = folder / "xdma0"
        self.user, h2c, c2h, events = (folder / f"xdma0_{part}" for part in ("user", "h2c_0", "c2h_0", "events_0"))
        self.user.write_bytes(bytes(control_offset + CONTROL_BYTES))
        h2c.write_bytes(b"")
        os.truncate(h2c, memory_offset + memory_size)
        os.link(h2c, c2h)
        os.mkfifo(events)
        self.events = os.open(events, os.O_RDWR)
        self.stand_in = StandIn(
            monkeypatch,
            config,
            self.user,
            h2c,
            memory_size,
            lambda: os.write(self.events, struct.pack("=I", 1)) and None,
            control_offset=control_offset,
            memory_offset=memory_offset,
        )

    def close(self) -> None:
        self.stand_in.close()
        os.close(self.events)


def make_uio_files(folder: Path, memory_size: int, *, start: int = 0x3000_0000, map_offset: int = 0, **buffer: int) -> Path:
    """Files of a UIO device and of a u-dma-buf, and what the kernel tells about them; returns the device's."""
    dev, uio = folder / "dev", folder / "sys/class/uio/uio0/maps/map0"
    for path in (dev, uio):
        path.mkdir(parents=True)
    (uio / "size").write_text("0x0000000000001000\n")
    (uio / "offset").write_text(f"{map_offset:#x}\n")
    (uio.parents[1] / "name").write_text("tailrace\n")
    (dev / "uio0").write_bytes(bytes(2 * CONTROL_BYTES))
    make_buffer(folder, "udmabuf0", memory_size, start=start, **buffer)
    return dev / "uio0"


def make_buffer(folder: Path, name: str, size: int, *, start: int, **more: int) -> None:
    """The file of a u-dma-buf, and what the kernel tells about it."""
    about = folder / "sys/class/u-dma-buf" / name
    about.mkdir(parents=True)
    for what, text in {"size": f"{size}\n", "phys_addr": f"0x{start:016x}\n"}.items():
        (about / what).write_text(text)
    for what, value in {"sync_mode": 2, "dma_coherent": 0, **more}.items():
        (about / what).write_text(f"{value}\n")
    (folder / "dev" / name).write_bytes(bytes(size))
