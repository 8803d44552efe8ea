"""The instruction-set simulator: runs a queue of commands on a memory image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from tailrace.spec.commands import check, check_queue, decode, reach, resolve
from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import BY_NUMBER, LANE_BYTES, Format, ScaleKind
from tailrace.spec.isa import ADDRESS_UNIT, ARGUMENTS, BUFFER_UNIT, COMMAND_BYTES, Opcode, Target
from tailrace.spec.registers import COUNTERS
from tailrace.spec.vector import unpack_vector, vector_bytes

from .append import appended
from .buffer import ActivationBuffer
from .cache import MatrixCache
from .dot import Vector, multiply
from .elementwise import elementwise, rotate, stream_elements, stream_units
from .quantiser import Blocks
from .registers import ProgramRegisters
from .slots import Slots
from .stream import Matrix, unpack

#: Called with the index of a command, its opcode, and the command as it was carried out, modifiers applied.
Trace = Callable[[int, Opcode, bytes], None]
#: Default bound on unpacked matrices, in bytes.
CACHE_BYTES = 1 << 31
#: Bound on decoded commands that are kept.
_DECODED = 1 << 16
#: Bits of a masked result.
_MINUS_INFINITY = 0xFF80_0000


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    code : ErrorCode
    command : int
        Index of the command that failed, else 0.
    address : int
        Address, from ``BASE`` on, of the first bus beat that failed, for bus errors, else 0.
    """

    code: ErrorCode = ErrorCode.NONE
    command: int = 0
    address: int = 0


class _Stop(Exception):
    """A command can't go on."""

    def __init__(self, code: ErrorCode, address: int = 0) -> None:
        super().__init__(code, address)
        self.code, self.address = code, address


@dataclass
class Machine:
    """The device's state, and what commands do to it.

    Commands take effect one after the other, and memory at once. So ``pending`` has no effect, and a program that needs a
    `FENCE` and lacks it runs here as if it had one. A command that fails changes nothing, except that it ends the run.

    Parameters
    ----------
    config : Config
    memory : ndarray of uint8
        Device memory from address 0 on. All else answers with an error. Change it through `write` only.
    cache_bytes : int
        Bound on the host memory that unpacked matrices may occupy.

    Attributes
    ----------
    buffer : ActivationBuffer
    slots : Slots
        What stays from run to run.
    counters : dict of str to int
        The performance counters of the last run, as hardware counts them in a run without errors; the machine has no clock,
        so what counts cycles is 0.
    trace : callable or None
        Told of every command after it was carried out.
    """

    config: Config
    memory: NDArray[np.uint8]
    cache_bytes: int = CACHE_BYTES
    trace: Trace | None = None
    counters: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._cache = MatrixCache(self.cache_bytes, self.memory.size)
        self._decoded: dict[bytes, tuple[ErrorCode, Opcode, dict[str, int]]] = {}
        # Where the memory of the program begins, and its bytes that exist.
        self._base, self._end = 0, self.memory.size
        self.reset()

    def reset(self) -> None:
        """Clear vector slots, activation buffer and counters; memory stays."""
        self.slots = Slots(self.config)
        self.buffer = ActivationBuffer(self.config.buffer_entries)
        self.counters = {name: 0 for name, _ in COUNTERS}

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """Write memory that exists, as the host does."""
        self.memory[address : address + data.size] = data
        self._cache.written_by_host(address, address + data.size)

    def run(
        self, address: int, length: int, arguments: Sequence[int] = (0,) * ARGUMENTS, *, base: int = 0, limit: int = 0
    ) -> Outcome:
        """Run the queue of `length` commands at `address`.

        Parameters
        ----------
        address, length : int
        arguments : sequence of int
            Values of the control registers ``ARGUMENT_n``, all of them.
        base, limit : int
            Values of the control registers ``BASE``, for every channel, and ``LIMIT``.
        """
        self.counters = {name: 0 for name, _ in COUNTERS}
        code = check_queue(address, length, self.config, base, limit)
        if code:
            return Outcome(code)
        self._base = base * self.config.channels
        self._end = max(0, min(reach(base, limit, self.config), self.memory.size - self._base))
        registers = ProgramRegisters(arguments)
        index = 0
        # Infinities are results like others.
        with np.errstate(all="ignore"):
            while index < length:
                try:
                    command = self._read("COMMAND_BEATS", address + index * COMMAND_BYTES, COMMAND_BYTES).tobytes()
                    index = self._step(index, command, registers)
                except _Stop as stop:
                    return Outcome(stop.code, index, stop.address)
        return Outcome()

    def _step(self, index: int, command: bytes, registers: ProgramRegisters) -> int:
        """Carry out a command; returns the index of the next one."""
        if any(command[-4:]):
            command = resolve(command, registers.values)
        code, opcode, fields = self._decode(command)
        if not code and opcode is Opcode.LOOP and fields["target"] > index:
            code = ErrorCode.BAD_FIELD
        if code:
            raise _Stop(code)
        following = index + 1
        match opcode:
            case Opcode.SET:
                registers.set(fields)
            case Opcode.LOOP:
                following = fields["target"] if registers.count_down(fields["register"]) else following
            case Opcode.READ:
                registers.assign(fields["register"], int(self.buffer.bits[fields["a"]]))
            case _:
                self._execute(opcode, fields)
        self.counters["COMMANDS"] += 1
        if self.trace is not None:
            self.trace(index, opcode, command)
        return following

    def _decode(self, command: bytes) -> tuple[ErrorCode, Opcode, dict[str, int]]:
        known = self._decoded.get(command)
        if known is None:
            opcode, fields = decode(command) or (Opcode.FENCE, {})
            known = check(command, self.config), opcode, fields
            if len(self._decoded) >= _DECODED:
                self._decoded.clear()
            self._decoded[command] = known
        return known

    def _execute(self, opcode: Opcode, fields: dict[str, int]) -> None:
        match opcode:
            case Opcode.LOAD_VECTOR:
                image = self._read("VECTOR_BEATS", fields["source"] * ADDRESS_UNIT, vector_bytes(fields["blocks"]))
                base, exponents, mantissas = unpack_vector(image.tobytes(), fields["blocks"])
                blocks = Blocks(base, exponents.astype(np.int32) + base, mantissas)
                self.slots.write(fields["slot"], fields["set"], fields["first_block"], blocks)
            case Opcode.GEMV:
                self._gemv(fields)
            case Opcode.ELEMENTWISE:
                self._elementwise(fields)
            case Opcode.ROTATE:
                rotate(self.buffer, fields)
            case Opcode.STORE:
                self._store(fields)
            case Opcode.APPEND:
                self._append(fields)

    def _gemv(self, fields: dict[str, int]) -> None:
        matrix = self._matrix(fields)
        vectors = self.slots.read(fields["slots"], fields["set"], fields["first_block"], fields["blocks"])
        exponent = fields["exponent"]
        results = multiply(matrix, [Vector(v.base + exponent, v.exponents, v.mantissas) for v in vectors])
        for slot in range(fields["slots"]):
            hidden = fields["masked"] - slot % (fields["masked"] + 1)
            results[max(fields["rows"] - hidden, 0) :, slot] = _MINUS_INFINITY
        self.buffer.write(fields["offset"], fields["slot_stride"], results.T)
        if fields["keep_maxima"]:
            maxima = results.view(np.float32).max(axis=0, keepdims=True).view(np.uint32)
            self.buffer.write(fields["maxima"], BUFFER_UNIT, maxima.T)

    def _elementwise(self, fields: dict[str, int]) -> None:
        units = stream_units(fields)
        stream = None
        if units:
            stream = stream_elements(self._read("VECTOR_BEATS", fields["source"] * ADDRESS_UNIT, units * ADDRESS_UNIT), fields)
        v = elementwise(self.buffer, fields, stream)
        if fields["target"] == Target.SLOT:
            self.slots.quantise(v, fields)

    def _matrix(self, fields: dict[str, int]) -> Matrix:
        rows, blocks, weights = fields["rows"], fields["blocks"], BY_NUMBER[fields["format"]]
        source, lanes = fields["source"] * ADDRESS_UNIT, self.config.lanes
        if weights.scale_kind is ScaleKind.UNIT:
            # Cached values change with every token: there is nothing to keep.
            return unpack(self._value_stream(source, weights, fields), weights, rows, blocks, lanes)
        stream = self._read("WEIGHT_BEATS", source, weights.matrix_bytes(rows, blocks, lanes))
        source += self._base
        key = source, rows, blocks, weights.number
        matrix = self._cache.get(key)
        if matrix is None:
            matrix = unpack(stream, weights, rows, blocks, lanes)
            self._cache.put(key, source + stream.size, matrix)
        return matrix

    def _value_stream(self, source: int, weights: Format, fields: dict[str, int]) -> NDArray[np.uint8]:
        lanes = self.config.lanes
        groups = -(-fields["rows"] // lanes)
        size = weights.stream_beats(fields["blocks"]) * lanes * LANE_BYTES
        stride = fields["stride"] * ADDRESS_UNIT
        if not stride:
            return self._read("WEIGHT_BEATS", source, groups * size)
        if source + (groups - 1) * stride + size <= self._end:
            self.counters["WEIGHT_BEATS"] += groups * size // self.config.beat_bytes
            return as_strided(self.memory[self._base + source :], (groups, size), (stride, 1)).reshape(-1)
        return np.concatenate([self._read("WEIGHT_BEATS", source + group * stride, size) for group in range(groups)])

    def _read(self, counter: str, address: int, size: int) -> NDArray[np.uint8]:
        address %= 1 << self.config.address_width
        if address + size > self._end:
            raise _Stop(ErrorCode.READ_ERROR, self._first_missing_beat(address))
        beat_bytes = self.config.beat_bytes
        self.counters[counter] += -(-(address % beat_bytes + size) // beat_bytes)
        return self.memory[self._base + address :][:size]

    def _store(self, fields: dict[str, int]) -> None:
        address = fields["destination"] * ADDRESS_UNIT
        bits = self.buffer.read_bits(fields["a"], 0, 1, fields["count"])
        data = np.ascontiguousarray(bits[0], dtype="<u4").view(np.uint8)
        if address + data.size > self._end:
            raise _Stop(ErrorCode.WRITE_ERROR, self._first_missing_beat(address))
        self.counters["WRITE_BEATS"] += -(-data.size // self.config.unit_bytes)
        address += self._base
        self.memory[address : address + data.size] = data
        self._cache.written_by_device(np.arange(address, address + data.size, ADDRESS_UNIT))

    def _append(self, fields: dict[str, int]) -> None:
        written = appended(self.buffer, fields, self.config.lanes)
        places = written.addresses & ((1 << min(self.config.address_width, 63)) - 1)
        missing = places >= self._end
        if missing.any():
            address = int(places[missing.argmax()])
            raise _Stop(ErrorCode.WRITE_ERROR, address - address % self.config.beat_bytes)
        places += self._base
        self.memory[places] = written.data
        self._cache.written_by_device(places)
        self.counters["WRITE_BEATS"] += written.beats

    def _first_missing_beat(self, address: int) -> int:
        beat_bytes = self.config.beat_bytes
        return max(address, self._end) // beat_bytes * beat_bytes
