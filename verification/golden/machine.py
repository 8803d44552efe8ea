"""The instruction-set simulator: runs a queue of commands on a memory image."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import BLOCK, BY_NUMBER
from tailrace.spec.isa import COMMAND_BYTES, Opcode, check, check_queue, decode
from tailrace.spec.registers import COUNTERS
from tailrace.spec.vector import unpack_vector, vector_bytes

from .cache import MatrixCache
from .dot import Vector, multiply
from .quantiser import quantise_bits
from .stream import Matrix, unpack

#: Called with the index of a GEMV, its opcode, and its float32 results, shape (rows, slots).
ResultHook = Callable[[int, Opcode, NDArray[np.float32]], None]
#: Default bound on unpacked matrices, in bytes.
CACHE_BYTES = 1 << 31


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    code : ErrorCode
    command : int
        Index of the command that failed, else 0.
    address : int
        Address of the first bus beat that failed, for bus errors, else 0.
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

    Commands take effect one after the other, and memory at once. So a program that needs a `FENCE` and lacks it runs here as
    if it had one. A command that fails changes nothing, except that it ends the run.

    Parameters
    ----------
    config : Config
    memory : ndarray of uint8
        Device memory from address 0 on. All else answers with an error. Change it through `write` only.
    cache_bytes : int
        Bound on the host memory that unpacked matrices may occupy.

    Attributes
    ----------
    counters : dict of str to int
        The performance counters of the last run, as hardware counts them in a run without errors; the machine has no clock,
        so ``CYCLES`` and the stalls are 0.
    on_result : callable or None
        Sees the results of every GEMV.
    """

    config: Config
    memory: NDArray[np.uint8]
    cache_bytes: int = CACHE_BYTES
    on_result: ResultHook | None = None
    counters: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._cache = MatrixCache(self.cache_bytes)
        self.reset()

    def reset(self) -> None:
        """Clear vector slots, result buffer and counters; memory stays."""
        shape = self.config.vector_blocks
        self._slots = [
            Vector(0, np.zeros(shape, dtype=np.uint8), np.zeros((shape, BLOCK), dtype=np.int16))
            for _ in range(self.config.right_hand_sides)
        ]
        self._results = np.zeros(self.config.result_entries, dtype=np.uint32)
        self.counters = {name: 0 for name, _ in COUNTERS}

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """Write memory that exists."""
        self.memory[address : address + data.size] = data
        self._cache.invalidate(address, address + data.size)

    def run(self, address: int, length: int) -> Outcome:
        """Run the queue of `length` commands at `address`."""
        self.counters = {name: 0 for name, _ in COUNTERS}
        code = check_queue(address, length, self.config)
        if code:
            return Outcome(code)
        for index in range(length):
            try:
                command = self._read("COMMAND_BEATS", address + index * COMMAND_BYTES, COMMAND_BYTES).tobytes()
                self._execute(index, command)
            except _Stop as stop:
                return Outcome(stop.code, index, stop.address)
        return Outcome()

    def _execute(self, index: int, command: bytes) -> None:
        code = check(command, self.config)
        decoded = decode(command)
        if code or decoded is None:
            raise _Stop(code)
        self.counters["COMMANDS"] += 1
        opcode, fields = decoded
        match opcode:
            case Opcode.FENCE:
                pass
            case Opcode.LOAD_VECTOR:
                image = self._read("VECTOR_BEATS", fields["source"], vector_bytes(fields["blocks"]))
                self._fill_slot(fields["slot"], Vector(*unpack_vector(image.tobytes(), fields["blocks"])))
            case Opcode.GEMV:
                self._gemv(index, fields)
            case Opcode.QUANTISE:
                span = slice(fields["offset"], fields["offset"] + fields["blocks"] * BLOCK * fields["stride"], fields["stride"])
                self._fill_slot(fields["slot"], quantise_bits(self._results[span]))
            case Opcode.STORE:
                entries = self._results[fields["offset"] : fields["offset"] + fields["rows"]]
                self._write_results(fields["destination"], entries)

    def _fill_slot(self, slot: int, vector: Vector) -> None:
        # Blocks beyond the vector keep what they held.
        old, blocks = self._slots[slot], len(vector.exponents)
        old.exponents[:blocks] = vector.exponents
        old.mantissas[:blocks] = vector.mantissas
        self._slots[slot] = Vector(vector.base, old.exponents, old.mantissas)

    def _gemv(self, index: int, fields: dict[str, int]) -> None:
        blocks = fields["blocks"]
        matrix = self._matrix(fields["source"], fields["rows"], blocks, fields["format"])
        vectors = [Vector(v.base, v.exponents[:blocks], v.mantissas[:blocks]) for v in self._slots[: fields["slots"]]]
        results = multiply(matrix, vectors)
        flat = results.reshape(-1)
        if fields["keep"]:
            self._results[fields["offset"] : fields["offset"] + flat.size] = flat
        else:
            self._write_results(fields["destination"], flat)
        if self.on_result is not None:
            self.on_result(index, Opcode.GEMV, results.view(np.float32))

    def _matrix(self, source: int, rows: int, blocks: int, number: int) -> Matrix:
        weights, lanes = BY_NUMBER[number], self.config.lanes
        stream = self._read("WEIGHT_BEATS", source, weights.matrix_bytes(rows, blocks, lanes))
        key = source, rows, blocks, number
        matrix = self._cache.get(key)
        if matrix is None:
            matrix = unpack(stream, weights, rows, blocks, lanes)
            self._cache.put(key, source + stream.size, matrix)
        return matrix

    def _read(self, counter: str, address: int, size: int) -> NDArray[np.uint8]:
        if address + size > self.memory.size:
            raise _Stop(ErrorCode.READ_ERROR, self._first_missing_beat(address))
        self.counters[counter] += size // self.config.bus_bytes
        return self.memory[address : address + size]

    def _write_results(self, address: int, bits: NDArray[np.uint32]) -> None:
        data = np.ascontiguousarray(bits, dtype="<u4").view(np.uint8)
        if address + data.size > self.memory.size:
            raise _Stop(ErrorCode.WRITE_ERROR, self._first_missing_beat(address))
        self.counters["WRITE_BEATS"] += -(-data.size // self.config.bus_bytes)
        self.write(address, data)

    def _first_missing_beat(self, address: int) -> int:
        bus_bytes = self.config.bus_bytes
        return max(address, self.memory.size // bus_bytes * bus_bytes)
