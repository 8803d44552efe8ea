"""The golden model as a device that a driver can open."""

import threading

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.commands import one_base
from tailrace.spec.config import Config
from tailrace.spec.errors import DeviceClosed, DeviceTimeout, HostMemoryError, TailraceError
from tailrace.spec.identification import identification
from tailrace.spec.isa import ARGUMENTS
from tailrace.spec.registers import (
    ADDRESS_BITS,
    AP_DONE,
    AP_IDLE,
    AP_READY,
    AP_START,
    COUNTERS,
    base_registers,
    registers_of,
)
from tailrace.spec.transport import RegisterByRegister

from .machine import CACHE_BYTES, Machine, Outcome, Trace

_WORD = (1 << 32) - 1
_DONE_INTERRUPT, _READY_INTERRUPT = 1, 2
_ARGUMENTS = tuple(f"ARGUMENT_{i}" for i in range(ARGUMENTS))
#: Writable registers of which only some bits exist.
_NARROW = {"GIE": 1, "IER": _DONE_INTERRUPT | _READY_INTERRUPT}


class GoldenDevice(RegisterByRegister):
    """A `tailrace.spec.transport.Transport` over the golden model.

    The doorbell runs the whole queue before it returns. An exception out of a run, such as Ctrl-C, leaves the device idle
    and ready for the next one. A doorbell of another thread waits for that; memory and registers can be read meanwhile.

    Parameters
    ----------
    config : Config
    memory_size : int
        Bytes of device memory, a positive multiple of 64.
    cache_bytes : int
        Bound on the host memory that unpacked matrices may occupy.

    Raises
    ------
    ConfigError
        If the memory size is no positive multiple of 64 or exceeds the configuration's address width.
    """

    def __init__(self, config: Config, memory_size: int, *, cache_bytes: int = CACHE_BYTES) -> None:
        config.check_memory_size(memory_size)
        self.config = config
        self._size = memory_size
        try:
            memory = np.zeros(memory_size, dtype=np.uint8)
        except (MemoryError, ValueError):
            raise HostMemoryError(memory_size) from None
        self._machine: Machine | None = Machine(config, memory, cache_bytes)
        self._doorbell = threading.Lock()
        registers = registers_of(config.channels)
        self._names = {r.offset: r.name for r in registers}
        self._plain = {r.name: r.reset for r in registers if r.access == "rw"}
        self._pending = 0
        self._done = 0
        self._outcome = Outcome()

    @property
    def name(self) -> str:
        """``golden``."""
        return "golden"

    @property
    def memory_size(self) -> int:
        """Bytes of device memory."""
        return self._size

    @property
    def simulated(self) -> bool:
        """False: the golden model has no clock, and its cycle counter stays 0."""
        return False

    @property
    def striped(self) -> bool:
        """True: the golden model has one memory, whatever the build."""
        return True

    @property
    def trace(self) -> Trace | None:
        """Called with (command index, opcode, command with its modifiers applied) after every command."""
        return self._open().trace

    @trace.setter
    def trace(self, hook: Trace | None) -> None:
        self._open().trace = hook

    @property
    def activations(self) -> NDArray[np.float32]:
        """The activation buffer as it is now, shape (buffer_entries,); a copy."""
        return self._open().buffer.bits.view(np.float32).copy()

    @property
    def interrupt(self) -> bool:
        """Level of the interrupt output."""
        return bool(self._plain["GIE"] and self._pending)

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        self._check_range("read", address, size)
        return self._open().memory[address : address + size].tobytes()

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory."""
        raw = np.frombuffer(data, dtype=np.uint8)
        self._check_range("write", address, raw.size)
        self._open().write(address, raw)

    def _check_range(self, what: str, address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > self.memory_size:
            raise TailraceError(
                f"can't {what} {size} bytes at {address:#x}: the device's memory has {self.memory_size} bytes, from 0 on"
            )

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset; 0 where there is none."""
        self._open()
        name = self._register(offset)
        if name == "AP_CTRL":
            done, self._done = self._done, 0
            return done | AP_IDLE
        if name == "ISR":
            return self._pending
        if name in self._plain:
            return self._plain[name]
        return self._read_only().get(name, 0)

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset. Registers that are read-only or do not exist ignore it."""
        if not 0 <= value <= _WORD:
            raise TailraceError(f"a register holds 0 to {_WORD:#x}, not {value:#x}")
        self._open()
        name = self._register(offset)
        if name == "AP_CTRL" and value & AP_START:
            self._run()
        elif name == "ISR":
            self._pending ^= value & (_DONE_INTERRUPT | _READY_INTERRUPT)
        elif name in self._plain:
            self._plain[name] = value & _NARROW.get(name, _WORD)

    def wait(self, timeout: float) -> None:
        """Return if the interrupt is raised or a run is done; nothing else can happen, so there is nothing to wait for.

        Raises
        ------
        DeviceTimeout
            If neither is so: no run was started since the last one was seen to be done.
        """
        self._open()
        if not self.interrupt and not self._done:
            raise DeviceTimeout(f"nothing happened for {timeout:g} s: no run was started, write 1 to AP_CTRL first")

    def close(self) -> None:
        """Release the device and its memory. Closing twice is harmless; a run of another thread ends first."""
        self._machine = None

    def _open(self) -> Machine:
        if self._machine is None:
            raise DeviceClosed
        return self._machine

    def _register(self, offset: int) -> str:
        if offset % 4 or not 0 <= offset < 1 << ADDRESS_BITS:
            raise TailraceError(f"register offsets are multiples of 4 below {1 << ADDRESS_BITS:#x}, not {offset:#x}")
        return self._names.get(offset, "")

    def _run(self) -> None:
        with self._doorbell:
            self._done = 0
            self._outcome = Outcome()
            address, limit, *bases = (
                self._plain[f"{name}_HI"] << 32 | self._plain[f"{name}_LO"]
                for name in ("QUEUE_ADDRESS", "LIMIT", *base_registers(self.config.channels))
            )
            base = one_base(bases)
            arguments = [self._plain[name] for name in _ARGUMENTS]
            self._outcome = self._open().run(address, self._plain["QUEUE_LENGTH"], arguments, base=base, limit=limit)
            self._done = AP_DONE | AP_READY
            self._pending |= self._plain["IER"]

    def _read_only(self) -> dict[str, int]:
        values = {
            **identification(self.config),
            "ERROR_CODE": int(self._outcome.code),
            "ERROR_COMMAND": self._outcome.command,
            "ERROR_ADDRESS_LO": self._outcome.address & _WORD,
            "ERROR_ADDRESS_HI": self._outcome.address >> 32,
        }
        for name, _ in COUNTERS:
            count = self._open().counters[name]
            values |= {f"{name}_LO": count & _WORD, f"{name}_HI": count >> 32}
        return values
