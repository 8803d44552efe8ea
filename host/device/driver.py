"""The driver: a device that multiplies matrices with vectors, whatever it is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.linear import products, products_length, result_bytes, rows_of_parts
from tailrace.firmware.placement import MatrixPart, MatrixPlace
from tailrace.spec.errors import LimitError, ModelError, TailraceError
from tailrace.spec.formats import BLOCK, Format
from tailrace.spec.isa import COMMAND_BYTES
from tailrace.spec.numerics import quantise
from tailrace.spec.registers import AP_IDLE, AP_START, offset
from tailrace.spec.transport import Transport
from tailrace.spec.vector import pack_vector, vector_bytes

from ..image.allocator import Allocator, align
from ..image.blocks import Bytes
from ..image.weight_stream import blocks_of_stream, matrix_exponent, stream_of_blocks
from .counters import Counters
from .geometry import Geometry
from .outcome import read_outcome

Floats = NDArray[np.float32]


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""
        ...


@dataclass(frozen=True)
class Matrix:
    """A matrix in the device's memory, as `Device.upload` returns it.

    Attributes
    ----------
    name : str
    format : Format
    rows, columns : int
    place : MatrixPlace
        The matrix as commands name it, with the parts that it was split into.
    stream_bytes : int
        Bytes of its streams, padding included.
    """

    name: str
    format: Format
    rows: int
    columns: int
    place: MatrixPlace
    stream_bytes: int

    @property
    def blocks(self) -> int:
        """Blocks in a row."""
        return self.columns // BLOCK

    @property
    def weight_bytes(self) -> int:
        """Bytes that the matrix has in the GGUF file."""
        return self.rows * self.format.row_bytes(self.columns)


class Device:
    """A device, opened. Its geometry comes from its registers, so one driver serves every build.

    Parameters
    ----------
    transport : Transport
        Closed together with the device.
    timeout : float
        Seconds without progress after which a run is given up.
    watchdog_cycles : int or None
        Cycles without a transfer on the memory bus after which the device stops itself; 0: never; None: as the device is.

    Attributes
    ----------
    geometry : Geometry
    counters : Counters
        Sums over all runs so far.
    results_digest : Digest or None
        If set, fed with every result vector in order: equal digests of two devices mean equal bits.

    Raises
    ------
    TailraceError
        If it is not a Tailrace device, or one for another instruction set.
    """

    def __init__(self, transport: Transport, *, timeout: float = 60.0, watchdog_cycles: int | None = None) -> None:
        self.transport = transport
        self.geometry = Geometry.of_device(transport)
        self.timeout = timeout
        self.counters = Counters()
        self.results_digest: Digest | None = None
        self._memory = Allocator(min(transport.memory_size, 1 << self.geometry.address_width))
        for name in ("GIE", "IER"):
            transport.write_register(offset(name), 1)
        if watchdog_cycles is not None:
            transport.write_register(offset("WATCHDOG_CYCLES"), watchdog_cycles)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the device. Closing twice is harmless."""
        self.transport.close()

    @property
    def free_memory(self) -> int:
        """Bytes of device memory that nothing uses."""
        return self._memory.free

    @property
    def free_address(self) -> int:
        """Address from which on device memory is free."""
        return self._memory.top

    def reserve(self, size: int, purpose: str) -> int:
        """Address of `size` bytes of device memory for good, a multiple of 64.

        Raises
        ------
        LimitError
            If they do not fit; the message begins with `purpose`.
        """
        return self._memory.allocate(size, purpose)

    def upload(self, name: str, fmt: Format, blocks: Bytes) -> Matrix:
        """Lay a matrix out for this device and write it to its memory.

        Parameters
        ----------
        name : str
            For messages.
        fmt : Format
        blocks : ndarray of uint8, shape (rows, bytes of a row)
            The matrix as a GGUF file holds it.

        Raises
        ------
        ModelError
            If the device does not read this format, or not these exponents of MXFP4.
        LimitError
            If a row is too long, or the memory is full.
        """
        geometry = self.geometry
        rows, columns = blocks.shape[0], blocks.shape[1] // fmt.file_bytes * fmt.file_elements
        if reason := refusal(geometry, fmt, rows, columns):
            raise (ModelError if not geometry.reads(fmt.number) else LimitError)(f"{name}: {reason}")
        try:
            exponent = matrix_exponent(fmt, blocks)
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from None
        per_row = columns // BLOCK
        self._memory.check(stream_bytes(geometry, fmt, rows, columns), name)
        parts = []
        for part in rows_of_parts(rows, geometry.right_hand_sides, geometry.buffer_entries):
            stream = stream_of_blocks(fmt, blocks[part.start : part.stop], geometry.lanes, exponent)
            address = self._memory.allocate(stream.size, name)
            self.transport.write(address, stream.data)
            parts.append(MatrixPart(address, part.start, len(part)))
        place = MatrixPlace(fmt.number, exponent, rows, per_row, tuple(parts))
        return Matrix(name, fmt, rows, columns, place, stream_bytes(geometry, fmt, rows, columns))

    def download(self, matrix: Matrix) -> Bytes:
        """Read a matrix back.

        Returns
        -------
        ndarray of uint8, shape (rows, bytes of a row)
            The bytes that were uploaded (but see `layout.blocks_of_stream` on zeros in MXFP4).
        """
        lanes = self.geometry.lanes
        parts = []
        for part in matrix.place.parts:
            size = matrix.format.matrix_bytes(part.rows, matrix.blocks, lanes)
            stream = np.frombuffer(self.transport.read(part.address, size), dtype=np.uint8)
            parts.append(blocks_of_stream(matrix.format, stream, part.rows, matrix.blocks, lanes, matrix.place.exponent))
        return np.concatenate(parts)

    def multiply(self, matrix: Matrix, x: Floats) -> Floats:
        """Multiply a matrix with vectors: ``x @ matrix.T``.

        Parameters
        ----------
        matrix : Matrix
        x : ndarray of float32, shape (n, columns)
            Any number of vectors; as many as the device has right-hand sides share a pass over the weights.

        Returns
        -------
        ndarray of float32, shape (n, rows)

        Raises
        ------
        TailraceError
            If an activation is not finite.
        LimitError
            If vectors and results do not fit the memory that is left.
        DeviceError, DeviceTimeout
            If the device stopped or stopped answering. The next call works.
        """
        return self.multiply_all([matrix], x)[0]

    def multiply_all(self, matrices: Sequence[Matrix], x: Floats) -> list[Floats]:
        """Multiply several matrices with the same vectors, with one doorbell where the memory allows it; see `multiply`."""
        columns = matrices[0].columns
        if x.ndim != 2 or any(m.columns != columns for m in matrices) or x.shape[1] != columns:
            shapes = ", ".join(f"{m.name} {m.rows} x {m.columns}" for m in matrices)
            raise ValueError(f"vectors of shape {x.shape} do not fit {shapes}")
        finite = np.isfinite(x)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise TailraceError(
                f"the input of {matrices[0].name} is not finite (vector {row}, element {column} is {x[row, column]}):"
                " the device has no infinities and NaNs. Check the model's weights, or its prompt."
            )
        results = [np.empty((len(x), m.rows), dtype=np.float32) for m in matrices]
        first = 0
        while first < len(x):
            count = self._vectors_that_fit(matrices, len(x) - first)
            for result, part in zip(results, self._run_products(matrices, x[first : first + count]), strict=True):
                result[first : first + count] = part
            first += count
        return results

    def run(self, commands: Sequence[bytes], queue: int, weight_bytes: int = 0) -> Counters:
        """Run a command list and wait until it is done.

        Parameters
        ----------
        commands : sequence of bytes
        queue : int
            Address to write them to, a multiple of 64.
        weight_bytes : int
            Bytes of the model that the commands use, for the counters.

        Returns
        -------
        Counters
            Those of this run, also added to `counters`.

        Raises
        ------
        DeviceError, DeviceTimeout
        """
        self._finish_earlier()
        self.transport.write(queue, b"".join(commands))
        return self.start(queue, len(commands), weight_bytes=weight_bytes)

    def start(self, queue: int, length: int, *, arguments: Sequence[int] = (), weight_bytes: int = 0) -> Counters:
        """Run commands that are in the device's memory, and wait until they are done.

        Parameters
        ----------
        queue : int
            Address of the first command, a multiple of 64.
        length : int
            Commands to run.
        arguments : sequence of int
            What the first of the program's arguments are set to (``ARGUMENT_0`` and following); the others stay as they are.
        weight_bytes : int
            Bytes of the model that the commands use, for the counters.

        Returns
        -------
        Counters
            Those of this run, also added to `counters`.

        Raises
        ------
        DeviceError, DeviceTimeout
        """
        transport = self.transport
        self._finish_earlier()
        self._acknowledge()
        for index, value in enumerate(arguments):
            transport.write_register(offset(f"ARGUMENT_{index}"), value)
        transport.write_register(offset("QUEUE_ADDRESS_LO"), queue & 0xFFFF_FFFF)
        transport.write_register(offset("QUEUE_ADDRESS_HI"), queue >> 32)
        transport.write_register(offset("QUEUE_LENGTH"), length)
        transport.write_register(offset("AP_CTRL"), AP_START)
        transport.wait(self.timeout)
        self._acknowledge()
        counters, error = read_outcome(transport, weight_bytes)
        self.counters += counters
        if error is not None:
            raise error
        return counters

    def _finish_earlier(self) -> None:
        """Wait for a run that was given up or interrupted: its end must not be taken for the end of the next one."""
        if not self.transport.read_register(offset("AP_CTRL")) & AP_IDLE:
            self.transport.wait(self.timeout)

    def _acknowledge(self) -> None:
        """Clear the interrupt if it is pending (writing toggles it). Done needs no clearing: the next start does it."""
        pending = self.transport.read_register(offset("ISR"))
        if pending:
            self.transport.write_register(offset("ISR"), pending)

    def _vectors_that_fit(self, matrices: Sequence[Matrix], wanted: int) -> int:
        """How many of `wanted` vectors one run can take: all, or a multiple of the right-hand sides."""
        slots = self.geometry.right_hand_sides

        def needed(vectors: int) -> int:
            return workspace_bytes(self.geometry, [m.rows for m in matrices], matrices[0].columns, vectors)

        commands = products_length(slots, [m.place for m in matrices])
        groups = min(self.free_memory // needed(slots), self.geometry.max_commands // commands)
        least = needed(min(wanted, slots))
        if groups == 0 and least > self.free_memory:
            raise LimitError(
                f"{matrices[0].name}: commands, vectors and results need {least} bytes of device memory, but only"
                f" {self.free_memory} of {self._memory.end} are free: use a device with more memory or a smaller model"
            )
        return min(wanted, max(groups, 1) * slots)

    def _run_products(self, matrices: Sequence[Matrix], x: Floats) -> list[Floats]:
        slots, blocks = self.geometry.right_hand_sides, matrices[0].blocks
        groups = [range(first, min(first + slots, len(x))) for first in range(0, len(x), slots)]
        places = [m.place for m in matrices]
        scratch = Allocator(self.free_memory, self._memory.top)
        length = sum(products_length(len(g), places) for g in groups)
        queue = scratch.allocate(length * COMMAND_BYTES, "the command queue")
        size = vector_bytes(blocks)
        vectors = scratch.allocate(size * len(x), "the vectors")
        destinations = [scratch.allocate(result_bytes(m.rows) * len(x), f"the result of {m.name}") for m in matrices]

        commands: list[bytes] = []
        for group in groups:
            targets = [d + result_bytes(m.rows) * group.start for d, m in zip(destinations, matrices, strict=True)]
            commands += products([vectors + size * v for v in group], places, targets, self.geometry.buffer_entries)
        self.transport.write(vectors, b"".join(pack_vector(*quantise(row)) for row in x))
        self.run(commands, queue, len(groups) * sum(m.weight_bytes for m in matrices))

        results = []
        for matrix, address in zip(matrices, destinations, strict=True):
            raw = self.transport.read(address, result_bytes(matrix.rows) * len(x))
            results.append(np.frombuffer(raw, dtype="<f4").reshape(len(x), -1)[:, : matrix.rows])
        if self.results_digest is not None:
            # Vector by vector, so that the digest does not depend on how many share a pass.
            for vector in range(len(x)):
                for result in results:
                    self.results_digest.update(result[vector].tobytes())
        return results


def stream_bytes(geometry: Geometry, fmt: Format, rows: int, columns: int) -> int:
    """Device memory that a matrix takes: the streams of its parts."""
    parts = rows_of_parts(rows, geometry.right_hand_sides, geometry.buffer_entries)
    return sum(align(fmt.matrix_bytes(len(part), columns // BLOCK, geometry.lanes)) for part in parts)


def workspace_bytes(geometry: Geometry, rows: Sequence[int], columns: int, vectors: int) -> int:
    """Device memory for commands, vectors and results of one pass with `vectors` vectors.

    Parameters
    ----------
    geometry : Geometry
    rows : sequence of int
        Those of each matrix.
    columns : int
        Elements of each vector.
    vectors : int
    """
    parts = sum(len(rows_of_parts(n, geometry.right_hand_sides, geometry.buffer_entries)) for n in rows)
    commands = (vectors + parts * (1 + vectors)) * COMMAND_BYTES
    return commands + vectors * (vector_bytes(-(-columns // BLOCK)) + sum(result_bytes(n) for n in rows))


def refusal(geometry: Geometry, fmt: Format, rows: int, columns: int) -> str | None:
    """Why a build can't run a matrix, with what to do; None if it can."""
    if not geometry.reads(fmt.number):
        return f"this device does not read {fmt.name}: it reads {', '.join(f.name for f in geometry.readable)}"
    if columns > geometry.max_blocks * BLOCK:
        return (
            f"its rows have {columns} elements, and this device takes at most {geometry.max_blocks * BLOCK}:"
            f" use a configuration with vector_blocks of at least {1 << (columns // BLOCK - 1).bit_length()}"
        )
    return None
