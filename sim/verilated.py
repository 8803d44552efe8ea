"""The Verilated device: the co-processor's gateware, compiled to native code, with a memory whose timing is modelled."""

import ctypes
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.config import Config
from tailrace.spec.errors import ConfigError, DeviceClosed, DeviceTimeout, TailraceError, ToolError
from tailrace.spec.transport import RegisterByRegister

from .build import build_device
from .device_memory import device_memory
from .memory_models import Dram, dram_of
from .timeline import USES, Timeline

#: The channels of the memory port that can be stalled, in the order of the C++ side.
CHANNELS = ("AR", "R", "AW", "W", "B")
#: Verilator's threads wait for each other without sleeping: more of them than processors are slower than one.
_MOST_THREADS = 64
#: Seconds of wall-clock time between two chances for Ctrl-C and time-outs.
_SLICE = 0.1
_CYCLES_PASSED, _INTERRUPTED, _RULE_BROKEN, _CONTROL_SILENT, _CONTROL_REFUSED, _NO_TRACE = range(6)


class SimulationError(TailraceError):
    """The simulated core did what no core may do: it is the gateware that must be mended."""


@dataclass(frozen=True)
class Traffic:
    """What went over a memory port, or over all of them, since the device was opened."""

    read_bursts: int
    read_beats: int
    write_bursts: int
    write_beats: int


#: Words of ``DramParameters`` in ``cpp/dram.h``.
_DRAM_PARAMETERS = 25


#: `Event` and `Bucket` of ``cpp/recorder.h``.
_EVENT = np.dtype([("cycle", "<u8"), ("kind", "<u4"), ("index", "<u4")])
_BUCKET = np.dtype([("uses", "<u4", (len(USES),)), ("cycles", "<u4"), ("padding", "<u4"), ("level", "<u8")])


class _Options(ctypes.Structure):
    _fields_ = [
        ("latency", ctypes.c_uint64),
        ("bandwidth_numerator", ctypes.c_uint64),
        ("bandwidth_denominator", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("stall_thresholds", ctypes.c_uint64 * len(CHANNELS)),
        ("control_threshold", ctypes.c_uint64),
        ("threads", ctypes.c_uint64),
        ("one_memory", ctypes.c_uint64),
        ("dram", ctypes.c_uint64 * _DRAM_PARAMETERS),
    ]


class VerilatedDevice(RegisterByRegister):
    """A simulated co-processor. Implements `tailrace.spec.transport.Transport`.

    The clock runs only during register accesses and `wait`; in between, time stands still. Everything is deterministic: the
    same accesses with the same parameters take the same cycles. Threads take turns, and `close` may come from any of them.

    Parameters
    ----------
    config : Config
        The build.
    memory_size : int
        Bytes of device memory; a page that is never touched takes no memory of the host.
    memory : str
        ``ideal``: `latency` and `bandwidth` are fixed; or a DRAM of `tailrace.sim.memory_models`, which ignores them.
    latency : int
        Cycles from the acceptance of a read to its first beat, and from the last beat of a write to its response; at least 1.
    bandwidth : float or Fraction
        Beats per cycle that the memory can carry in each direction; above 0, at most 1.
    stall_seed : int, optional
        Seed of random stalls; None for no stalls.
    stall_probability : float or mapping from channel name to float
        Probability that a channel is stalled in a cycle, for all channels or for each of `CHANNELS`; below 1.
    trace : Path, optional
        Waveform file (VCD) to write; needs a build of its own.
    trace_window : tuple of int, optional
        First cycle to write, and the cycle before which to stop; None for all.
    timeline : int
        Cycles in a bucket of the timeline that is recorded; 0 for none. Needs a build of its own.
    timeline_window : tuple of int, optional
        First cycle to record, and the cycle before which to stop; None for all.
    threads : int
        Threads that evaluate the core.
    one_memory : bool
        Whether all ports reach all of the memory, each at the addresses that it drives, as on a board with one memory; if not,
        each reaches its stripe. Each has a timing of its own either way.
    library : Path, optional
        A shared object from `tailrace.sim.build.build_library` to open in place of the one for `config`.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    ToolError
        If the simulation can't be built.
    """

    name = "verilator"
    simulated = True

    def __init__(
        self,
        config: Config,
        memory_size: int,
        *,
        memory: str = "ideal",
        latency: int = 100,
        bandwidth: float | Fraction = 1.0,
        stall_seed: int | None = None,
        stall_probability: float | Mapping[str, float] = 0.2,
        trace: Path | str | None = None,
        trace_window: tuple[int, int] | None = None,
        timeline: int = 0,
        timeline_window: tuple[int, int] | None = None,
        threads: int = 1,
        one_memory: bool = False,
        library: Path | None = None,
    ) -> None:
        self._handle: int | None = None
        # The simulation is native code that knows no threads, and runs without Python's own lock.
        self._lock = threading.RLock()
        config.check_memory_size(memory_size)
        options = _options(latency, bandwidth, stall_seed, stall_probability, threads, one_memory, dram_of(memory))
        self.striped = not one_memory
        first, last = _check_window(trace, trace_window)
        self.config, self._size = config, memory_size
        if timeline < 0:
            raise ConfigError(f"timeline must be a number of cycles, or 0 for none, not {timeline}")
        self._library = _load(library or build_device(config, trace=trace is not None, probe=timeline > 0, threads=threads))
        self._memory: NDArray[np.uint8] = device_memory(memory_size)
        self._handle = self._library.device_open(self._memory.ctypes.data, memory_size, ctypes.byref(options))
        self._timeline = timeline
        self._timeline_start = timeline_window[0] if timeline_window else 0
        if timeline:
            window = timeline_window or (0, 2**64 - 1)
            self._library.device_record(self._handle, *window, timeline)
        self._seconds = 0.0
        self._run_cycles = 0
        self._chunk = 2000
        if trace is not None and self._library.device_trace(self._handle, os.fsencode(trace), first, last):
            self.close()
            raise ToolError(f"the waveform file {trace} can't be written")

    @property
    def memory_size(self) -> int:
        """Bytes of device memory."""
        return self._size

    @property
    def memory(self) -> NDArray[np.uint8]:
        """Device memory itself, shape (memory_size,)."""
        with self._opened():
            return self._memory

    @property
    def cycles(self) -> int:
        """Clock cycles since the device was opened."""
        with self._opened() as handle:
            return int(self._library.device_cycles(handle))

    @property
    def cycles_per_second(self) -> float:
        """Speed of the simulation while waiting, in cycles per second of wall-clock time; 0 before the first wait."""
        return self._run_cycles / self._seconds if self._seconds else 0.0

    @property
    def traffic(self) -> Traffic:
        """What went over the memory ports, all together."""
        return Traffic(*(sum(counts) for counts in zip(*map(astuple, self.port_traffic), strict=True)))

    @property
    def port_traffic(self) -> tuple[Traffic, ...]:
        """What went over each memory port."""
        counts = (ctypes.c_uint64 * 4)()
        found = []
        with self._opened() as handle:
            for port in range(self.config.channels):
                self._library.device_traffic(handle, port, counts)
                found.append(Traffic(*counts))
        return tuple(found)

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        span = self._span(address, size)
        with self._opened():
            return self._memory[span].tobytes()

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory."""
        array = np.frombuffer(data, dtype=np.uint8)
        span = self._span(address, array.size)
        with self._opened():
            self._memory[span] = array

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset."""
        value = ctypes.c_uint32()
        with self._opened() as handle:
            self._check(self._library.device_read_register(handle, offset, ctypes.byref(value)), offset)
        return value.value

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        with self._opened() as handle:
            self._check(self._library.device_write_register(handle, offset, value), offset)

    def wait(self, timeout: float) -> None:
        """Run until the interrupt is raised.

        Parameters
        ----------
        timeout : float
            Seconds of wall-clock time without a beat on the memory port after which to give up.

        Raises
        ------
        DeviceTimeout
            If nothing was transferred for `timeout` seconds.
        SimulationError
            If the core breaks a rule of AXI.
        """
        moved, since = self.traffic, time.monotonic()
        while True:
            start = time.monotonic()
            status, passed = self._advance(self._chunk, until_interrupt=True)
            if status == _INTERRUPTED:
                return
            now, traffic = time.monotonic(), self.traffic
            # A call can't be interrupted: keep each short.
            self._chunk = max(1000, min(int(passed * _SLICE / max(now - start, 1e-6)), 10 * self._chunk))
            if traffic != moved:
                moved, since = traffic, now
            elif now - since >= timeout:
                raise DeviceTimeout(
                    f"no interrupt and no transfer on the memory port for {timeout:g} s, up to cycle {self.cycles};"
                    " start the device and enable its interrupt before waiting"
                )

    def run(self, cycles: int) -> None:
        """Let `cycles` clock cycles pass, whatever the interrupt does."""
        while cycles > 0:
            cycles -= self._advance(min(cycles, self._chunk), until_interrupt=False)[1]

    def reset(self, cycles: int = 16) -> None:
        """Hold the core in reset for `cycles` cycles. Transfers on their way are lost; the memory keeps what it holds."""
        with self._opened() as handle:
            self._library.device_reset(handle, cycles)

    def record(self) -> None:
        """Forget what has been recorded, and record a timeline from now on.

        Raises
        ------
        ConfigError
            If the device was opened without ``timeline``.
        """
        self._require_timeline()
        with self._opened() as handle:
            self._timeline_start = self.cycles
            self._library.device_record(handle, self._timeline_start, 2**64 - 1, self._timeline)

    def _require_timeline(self) -> None:
        if not self._timeline:
            raise ConfigError("nothing can be recorded: open the device with timeline=N, cycles in a bucket")

    def timeline(self) -> Timeline:
        """What has been recorded so far.

        Raises
        ------
        ConfigError
            If the device was opened without ``timeline``.
        """
        self._require_timeline()
        place = ctypes.c_void_p()
        with self._opened() as handle:
            count = self._library.device_events(handle, ctypes.byref(place))
            events = _copy(place, count, _EVENT)
            count = self._library.device_buckets(handle, ctypes.byref(place))
            buckets = _copy(place, count, _BUCKET)
        cycles = np.maximum(buckets["cycles"], 1)
        return Timeline(
            self._timeline_start,
            self._timeline,
            events,
            buckets["uses"].astype(np.int64),
            buckets["level"] / cycles,
        )

    def inject_fault(self, address: int, size: int, *, reads: bool = False, writes: bool = False) -> None:
        """Let every beat that touches a range of memory fail with SLVERR, for reads, writes or both, until `clear_faults`."""
        with self._opened() as handle:
            for write, wanted in ((0, reads), (1, writes)):
                if wanted:
                    self._library.device_add_fault(handle, write, address, address + size - 1)

    def clear_faults(self) -> None:
        """Forget all injected faults."""
        with self._opened() as handle:
            self._library.device_clear_faults(handle)

    def freeze(self, frozen: bool = True, port: int | None = None) -> None:
        """Stop the memory, or what of it is behind one port: it accepts and answers nothing until it is thawed."""
        with self._opened() as handle:
            ports = range(self.config.channels)
            for number in ports if port is None else (ports[port],):
                self._library.device_freeze(handle, number, frozen)

    def close(self) -> None:
        """Release the device and its memory, and finish its waveform file. Closing twice is harmless.

        What another thread is waiting for ends with `DeviceClosed`.
        """
        with self._lock:
            handle, self._handle = self._handle, None
            if handle is not None:
                self._library.device_close(handle)
                self._memory = np.empty(0, dtype=np.uint8)

    def __enter__(self) -> "VerilatedDevice":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _advance(self, cycles: int, *, until_interrupt: bool) -> tuple[int, int]:
        with self._opened() as handle:
            before, start = self.cycles, time.perf_counter()
            status = self._library.device_run(handle, cycles, until_interrupt)
            self._seconds += time.perf_counter() - start
            passed = self.cycles - before
            self._run_cycles += passed
            if status in (_RULE_BROKEN, _NO_TRACE):
                self._check(status, 0)
            return status, passed

    def _check(self, status: int, offset: int) -> None:
        if status == _RULE_BROKEN:
            rule = self._library.device_violation(self._handle).decode()
            raise SimulationError(f"the gateware broke a rule of AXI in cycle {self.cycles}: {rule}")
        if status == _CONTROL_SILENT:
            raise SimulationError(f"the gateware does not answer on s_axi_control at offset {offset:#x} (cycle {self.cycles})")
        if status == _CONTROL_REFUSED:
            raise SimulationError(f"the gateware refused an access to s_axi_control at offset {offset:#x}")
        if status == _NO_TRACE:
            raise ToolError(
                f"the waveform could not be written beyond cycle {self.cycles}:"
                " free some space, or choose a window of fewer cycles"
            )

    def _span(self, address: int, size: int) -> slice:
        if address < 0 or size < 0 or address + size > self._size:
            raise ValueError(
                f"bytes {address:#x} to {address + size:#x} are outside the device's memory of {self._size:#x} bytes"
            )
        return slice(address, address + size)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The simulation's handle, for this thread alone."""
        with self._lock:
            if self._handle is None:
                raise DeviceClosed
            yield self._handle


def _options(
    latency: int,
    bandwidth: float | Fraction,
    seed: int | None,
    probability: float | Mapping[str, float],
    threads: int,
    one_memory: bool,
    dram: Dram | None,
) -> _Options:
    if not 1 <= latency <= 1_000_000:
        raise ConfigError(f"latency must be between 1 and 1000000 cycles, not {latency}")
    # The first comparison is false of what is no number, and no fraction.
    if not 0 < bandwidth <= 1 or not (rate := Fraction(bandwidth).limit_denominator(10_000)):
        raise ConfigError(f"bandwidth must be above 0 and at most 1 beat per cycle, not {bandwidth}")
    if not 1 <= threads <= _MOST_THREADS:
        raise ConfigError(f"threads must be from 1 to {_MOST_THREADS}, not {threads}")
    by_channel = dict(probability) if isinstance(probability, Mapping) else dict.fromkeys(CHANNELS, probability)
    for channel, value in by_channel.items():
        if channel not in CHANNELS:
            raise ConfigError(f"stall_probability knows no channel {channel!r}: choose from {', '.join(CHANNELS)}")
        if not 0 <= value < 1:
            raise ConfigError(f"stall_probability must be at least 0 and below 1, not {value}")
    stalled = [0 if seed is None else int(by_channel.get(channel, 0.0) * 2**32) for channel in CHANNELS]
    return _Options(
        latency=latency,
        bandwidth_numerator=rate.numerator,
        bandwidth_denominator=rate.denominator,
        seed=(seed or 0) & (2**64 - 1),
        stall_thresholds=(ctypes.c_uint64 * len(CHANNELS))(*stalled),
        control_threshold=max(stalled),
        threads=threads,
        one_memory=one_memory,
        dram=(ctypes.c_uint64 * _DRAM_PARAMETERS)(*(dram.parameters() if dram else ())),
    )


def _check_window(trace: Path | str | None, window: tuple[int, int] | None) -> tuple[int, int]:
    if trace is None:
        if window is not None:
            raise ConfigError("trace_window needs a waveform file: give trace as well")
        return 0, 0
    folder = Path(trace).absolute().parent
    if not folder.is_dir():
        raise ToolError(f"the waveform file {trace} can't be written: {folder} is not a folder")
    first, last = window if window is not None else (0, 2**64 - 1)
    if not 0 <= first < last:
        raise ConfigError(f"trace_window must be two cycles, the first below the second, not {window}")
    return first, last


def _copy(place: ctypes.c_void_p, count: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """A copy of an array that the simulation holds."""
    if not count:
        return np.empty(0, dtype=dtype)
    assert place.value is not None
    return np.frombuffer(ctypes.string_at(place.value, count * dtype.itemsize), dtype=dtype).copy()


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path.absolute()))
    word, handle = ctypes.c_uint64, ctypes.c_void_p
    signatures: dict[str, tuple[object, list[object]]] = {
        "device_open": (handle, [handle, word, ctypes.POINTER(_Options)]),
        "device_close": (None, [handle]),
        "device_reset": (None, [handle, word]),
        "device_run": (ctypes.c_int, [handle, word, ctypes.c_int]),
        "device_read_register": (ctypes.c_int, [handle, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32)]),
        "device_write_register": (ctypes.c_int, [handle, ctypes.c_uint32, ctypes.c_uint32]),
        "device_trace": (ctypes.c_int, [handle, ctypes.c_char_p, word, word]),
        "device_cycles": (word, [handle]),
        "device_traffic": (None, [handle, word, ctypes.POINTER(word)]),
        "device_violation": (ctypes.c_char_p, [handle]),
        "device_add_fault": (None, [handle, ctypes.c_int, word, word]),
        "device_clear_faults": (None, [handle]),
        "device_freeze": (None, [handle, word, ctypes.c_int]),
        "device_record": (None, [handle, word, word, word]),
        "device_events": (word, [handle, ctypes.POINTER(handle)]),
        "device_buckets": (word, [handle, ctypes.POINTER(handle)]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
