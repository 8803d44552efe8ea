"""The emulator as a device that a driver can open."""

import ctypes
import mmap
import os
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.commands import one_base
from tailrace.spec.config import Config
from tailrace.spec.errors import ConfigError, DeviceClosed, DeviceTimeout
from tailrace.spec.identification import identification
from tailrace.spec.isa import ARGUMENTS
from tailrace.spec.registers import AP_DONE, AP_IDLE, AP_READY, AP_START, COUNTERS, base_registers, registers_of
from tailrace.spec.transport import RegisterByRegister

from ..device_memory import device_memory
from ..processes import usable_processors
from .build import build_emulator
from .contract import build_values

_WORD = (1 << 32) - 1
#: Writable registers that have fewer than 32 bits.
_NARROW = {"GIE": 1, "IER": 3}
_MOST_THREADS = 256
#: Seconds between two chances for Ctrl-C.
_SLICE = 0.05


class _Run(ctypes.Structure):
    _fields_ = [
        ("queue", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("arguments", ctypes.c_uint32 * ARGUMENTS),
    ]


class _Outcome(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint64), ("command", ctypes.c_uint64), ("address", ctypes.c_uint64)]


class EmulatedDevice(RegisterByRegister):
    """The instruction set in native code. Implements `tailrace.spec.transport.Transport`.

    A run goes on in a thread of its own, as on hardware: the doorbell returns at once, and is ignored while a run lasts.
    Results have the contract's bits; there are no cycles. Any thread may use the device.

    Parameters
    ----------
    config : Config
        The build that is emulated: what it refuses is refused, and the layout of matrices is that of its lanes.
    memory_size : int
        Bytes of device memory; a page that is never touched takes no memory of the host.
    threads : int or None
        Threads that share the rows of a matrix; None: as many as there are processors for this process.
    library : Path, optional
        A shared object from `build_emulator` to use in place of the one for this processor.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    ToolError
        If the emulator can't be compiled.
    """

    name = "emulator"
    simulated = False
    striped = True
    #: Of a device that is closed. Here, as a program may end before its devices are closed, and numpy before them.
    _no_memory: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)

    def __init__(self, config: Config, memory_size: int, *, threads: int | None = None, library: Path | None = None) -> None:
        self._handle: int | None = None
        config.check_memory_size(memory_size)
        if threads is not None and not 1 <= threads <= _MOST_THREADS:
            raise ConfigError(f"threads must be from 1 to {_MOST_THREADS}, not {threads}")
        self.config, self._size = config, memory_size
        self._library = _load(library or build_emulator())
        self._memory: NDArray[np.uint8] = device_memory(memory_size)
        values = build_values(config)
        self._handle = self._library.emulator_open(
            (ctypes.c_uint64 * len(values))(*values),
            self._memory.ctypes.data,
            memory_size,
            threads or usable_processors(),
        )
        registers = registers_of(config.channels)
        self._names = {register.offset: register.name for register in registers}
        self._values = {register.name: register.reset for register in registers if register.access == "rw"}
        self._pending = self._done = 0
        self._outcome = _Outcome()
        self._counters = [0] * len(COUNTERS)
        # Guards all of the above; notified at the end of a run.
        self._state = threading.Condition()
        self._runner: threading.Thread | None = None

    @property
    def memory_size(self) -> int:
        """Bytes of device memory."""
        return self._size

    @property
    def memory(self) -> NDArray[np.uint8]:
        """Device memory itself, shape (memory_size,)."""
        self._opened()
        return self._memory

    @property
    def activations(self) -> NDArray[np.float32]:
        """The activation buffer as it is now, shape (buffer_entries,); a copy."""
        place = self._library.emulator_activations(self._opened())
        return np.ctypeslib.as_array(place, (self.config.buffer_entries,)).view(np.float32).copy()

    @property
    def interrupt(self) -> bool:
        """Level of the interrupt output."""
        return bool(self._values["GIE"] and self._pending)

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        self._check_span(address, size)
        return self._memory[address : address + size].tobytes()

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory."""
        array = np.frombuffer(data, dtype=np.uint8)
        self._check_span(address, array.size)
        self._memory[address : address + array.size] = array

    def map_file(self, address: int, path: str) -> None:
        """Have device memory from an address on show a file; see `tailrace.spec.transport.MapsFiles`."""
        size = os.stat(path).st_size
        self._check_span(address, size)
        if address % mmap.PAGESIZE:
            raise ValueError(f"a file is mapped to a multiple of {mmap.PAGESIZE} bytes, not to {address:#x}")
        with self._state:
            error = self._library.emulator_map(self._opened(), address, os.fsencode(path), size)
        if error:
            raise OSError(error, os.strerror(error), path)

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset; 0 where there is none."""
        with self._state:
            self._opened()
            name = self._names.get(offset, "")
            if name == "AP_CTRL":
                done, self._done = self._done, 0
                return done | (AP_START if self._runner else AP_IDLE)
            if name == "ISR":
                return self._pending
            return self._values[name] if name in self._values else self._read_only(name)

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset. Registers that are read-only or do not exist ignore it."""
        with self._state:
            self._opened()
            name = self._names.get(offset, "")
            if name == "AP_CTRL":
                if value & AP_START and not self._runner:
                    self._start()
            elif name == "ISR":
                self._pending ^= value & _NARROW["IER"]
            elif name in self._values:
                self._values[name] = value & _NARROW.get(name, _WORD)

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is raised, or a run that was started has ended.

        Raises
        ------
        DeviceTimeout
            If no command was carried out for `timeout` seconds.
        """
        progress, since = -1, time.monotonic()
        with self._state:
            # A run that ends because the device was closed is none that has ended.
            while (handle := self._opened()) and not self.interrupt and not self._done:
                now, before = self._library.emulator_progress(handle), time.monotonic()
                if now != progress:
                    progress, since = now, before
                elif before - since >= timeout:
                    advice = "a command takes longer" if self._runner else "no run was started, write 1 to AP_CTRL first"
                    raise DeviceTimeout(f"nothing happened for {timeout:g} s: {advice}")
                self._state.wait(min(_SLICE, timeout))

    def close(self) -> None:
        """Release the device and its memory, and end a run at its next command. Closing twice is harmless."""
        if self._handle is None:
            return
        with self._state:
            handle, self._handle = self._handle, None
            runner = self._runner
            if handle is not None:
                self._library.emulator_stop(handle)
            self._state.notify_all()
        if runner:
            runner.join()
        if handle is not None:
            self._library.emulator_close(handle)
            self._memory = self._no_memory

    def __enter__(self) -> "EmulatedDevice":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _start(self) -> None:
        values = self._values
        queue, limit, *bases = (
            values[f"{name}_HI"] << 32 | values[f"{name}_LO"]
            for name in ("QUEUE_ADDRESS", "LIMIT", *base_registers(self.config.channels))
        )
        base = one_base(bases)
        arguments = (ctypes.c_uint32 * ARGUMENTS)(*(values[f"ARGUMENT_{n}"] for n in range(ARGUMENTS)))
        self._done, self._outcome = 0, _Outcome()
        run = _Run(queue, values["QUEUE_LENGTH"], base, limit, arguments)
        self._runner = threading.Thread(target=self._run, args=(self._opened(), run), name="tailrace-emulator", daemon=True)
        self._runner.start()

    def _run(self, handle: int, run: _Run) -> None:
        outcome = _Outcome()
        self._library.emulator_run(handle, ctypes.byref(run), ctypes.byref(outcome))
        with self._state:
            self._counters = self._library.emulator_counters(handle)[: len(COUNTERS)]
            self._outcome, self._done, self._runner = outcome, AP_DONE | AP_READY, None
            self._pending |= self._values["IER"]
            self._state.notify_all()

    def _read_only(self, name: str) -> int:
        outcome = self._outcome
        values = {
            **identification(self.config),
            "ERROR_CODE": outcome.code,
            "ERROR_COMMAND": outcome.command,
            "ERROR_ADDRESS_LO": outcome.address & _WORD,
            "ERROR_ADDRESS_HI": outcome.address >> 32,
        }
        for (counter, _), count in zip(COUNTERS, self._counters, strict=True):
            values |= {f"{counter}_LO": count & _WORD, f"{counter}_HI": count >> 32}
        return values.get(name, 0)

    def _check_span(self, address: int, size: int) -> None:
        self._opened()
        if address < 0 or size < 0 or address + size > self._size:
            raise ValueError(
                f"bytes {address:#x} to {address + size:#x} are outside the device's memory of {self._size:#x} bytes"
            )

    def _opened(self) -> int:
        if self._handle is None:
            raise DeviceClosed
        return self._handle


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path.absolute()))
    handle, word = ctypes.c_void_p, ctypes.c_uint64
    signatures: dict[str, tuple[object, list[object]]] = {
        "emulator_open": (handle, [ctypes.POINTER(word), handle, word, ctypes.c_int]),
        "emulator_close": (None, [handle]),
        "emulator_run": (None, [handle, ctypes.POINTER(_Run), ctypes.POINTER(_Outcome)]),
        "emulator_map": (ctypes.c_int, [handle, word, ctypes.c_char_p, word]),
        "emulator_stop": (None, [handle]),
        "emulator_progress": (word, [handle]),
        "emulator_counters": (ctypes.POINTER(word), [handle]),
        "emulator_activations": (ctypes.POINTER(ctypes.c_uint32), [handle]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
