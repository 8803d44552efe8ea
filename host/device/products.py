"""Products of matrices in a device's memory with vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.linear import products, products_length, result_bytes, rows_of_parts
from tailrace.firmware.placement import MatrixPart, MatrixPlace
from tailrace.spec.errors import LimitError, ModelError, TailraceError
from tailrace.spec.formats import BLOCK, Format
from tailrace.spec.isa import COMMAND_BYTES
from tailrace.spec.numerics import quantise
from tailrace.spec.vector import pack_vector, vector_bytes

from ..gguf.blocks import Bytes
from ..image.allocator import Allocator, align
from ..image.fits import refusal
from ..image.geometry import Geometry
from ..image.weight_stream import blocks_of_stream, matrix_exponent, stream_of_blocks
from .driver import Device

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Matrix:
    """A matrix in a device's memory, as `upload` returns it.

    Attributes
    ----------
    device : Device
    name : str
    format : Format
    rows, columns : int
    place : MatrixPlace
        The matrix as commands name it, with the parts that it was split into.
    stream_bytes : int
        Bytes of its streams, padding included.
    """

    device: Device
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

    def download(self) -> Bytes:
        """Read the matrix back.

        Returns
        -------
        ndarray of uint8, shape (rows, bytes of a row)
            The bytes that were uploaded (but see `tailrace.image.weight_stream.blocks_of_stream` on zeros in MXFP4).
        """
        lanes = self.device.geometry.lanes
        parts = []
        for part in self.place.parts:
            size = self.format.matrix_bytes(part.rows, self.blocks, lanes)
            stream = np.frombuffer(self.device.read(part.address, size), dtype=np.uint8)
            parts.append(blocks_of_stream(self.format, stream, part.rows, self.blocks, lanes, self.place.exponent))
        return np.concatenate(parts)

    def multiply(self, x: Floats) -> Floats:
        """Multiply with vectors: ``x @ matrix.T``.

        Parameters
        ----------
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
        return multiply_all([self], x)[0]


def upload(device: Device, name: str, fmt: Format, blocks: Bytes, exponent: int | None = None) -> Matrix:
    """Lay a matrix out for a device and write it to its memory, for good.

    Parameters
    ----------
    device : Device
    name : str
        For messages.
    fmt : Format
    blocks : ndarray of uint8, shape (rows, bytes of a row)
        The matrix as a GGUF file holds it.
    exponent : int or None
        Power of two that products are multiplied with; None: the one that its blocks need.

    Raises
    ------
    ModelError
        If the device does not read this format, or not these exponents of MXFP4.
    LimitError
        If a row is too long, or the memory is full.
    """
    geometry = device.geometry
    rows, columns = blocks.shape[0], blocks.shape[1] // fmt.file_bytes * fmt.file_elements
    if reason := refusal(geometry, fmt, columns):
        raise (ModelError if not geometry.reads(fmt.number) else LimitError)(f"{name}: {reason}")
    try:
        exponent = matrix_exponent(fmt, blocks) if exponent is None else exponent
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    size = stream_bytes(geometry, fmt, rows, columns)
    parts = []
    with device.reserve(size, name) as address:
        for part in rows_of_parts(rows, geometry.right_hand_sides, geometry.buffer_entries):
            stream = stream_of_blocks(fmt, blocks[part.start : part.stop], geometry.lanes, exponent)
            device.write(address, stream.data)
            parts.append(MatrixPart(address, part.start, len(part)))
            address += align(stream.size)
    place = MatrixPlace(fmt.number, exponent, rows, columns // BLOCK, tuple(parts))
    return Matrix(device, name, fmt, rows, columns, place, size)


def multiply_all(matrices: Sequence[Matrix], x: Floats) -> list[Floats]:
    """Multiply matrices of a device with the same vectors, with one doorbell where the memory allows it.

    Parameters
    ----------
    matrices : sequence of Matrix
        At least one, all with as many columns.
    x : ndarray of float32, shape (n, columns)

    Returns
    -------
    list of ndarray of float32, shape (n, rows)
        For each matrix; see `Matrix.multiply`, also for what may go wrong.
    """
    columns, device = matrices[0].columns, matrices[0].device
    if x.ndim != 2 or any(m.columns != columns for m in matrices) or x.shape[1] != columns:
        shapes = ", ".join(f"{m.name} {m.rows} x {m.columns}" for m in matrices)
        raise ValueError(f"vectors of shape {x.shape} do not fit {shapes}")
    if any(m.device is not device for m in matrices):
        raise ValueError(f"{', '.join(m.name for m in matrices)} are not all on one device")
    finite = np.isfinite(x)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise TailraceError(
            f"the input of {matrices[0].name} is not finite (vector {row}, element {column} is {x[row, column]}):"
            " the device has no infinities and NaNs. Check the model's weights, or its prompt."
        )
    results = [np.empty((len(x), m.rows), dtype=np.float32) for m in matrices]
    first = 0
    with device.exclusive():
        while first < len(x):
            count = _vectors_that_fit(device, matrices, len(x) - first)
            for result, part in zip(results, _run(device, matrices, x[first : first + count]), strict=True):
                result[first : first + count] = part
            first += count
    return results


def _vectors_that_fit(device: Device, matrices: Sequence[Matrix], wanted: int) -> int:
    """How many of `wanted` vectors one run can take: all, or a multiple of the right-hand sides."""
    slots = device.geometry.right_hand_sides

    def needed(vectors: int) -> int:
        return workspace_bytes(device.geometry, [m.rows for m in matrices], matrices[0].columns, vectors)

    commands = products_length(slots, [m.place for m in matrices])
    groups = min(device.free_memory // needed(slots), device.geometry.max_commands // commands)
    least = needed(min(wanted, slots))
    if groups == 0 and least > device.free_memory:
        raise LimitError(
            f"{matrices[0].name}: commands, vectors and results need {least} bytes of device memory, but only"
            f" {device.free_memory} of {device.memory_size} are free: use a device with more memory or a smaller model"
        )
    return min(wanted, max(groups, 1) * slots)


def _run(device: Device, matrices: Sequence[Matrix], x: Floats) -> list[Floats]:
    slots, blocks = device.geometry.right_hand_sides, matrices[0].blocks
    groups = [range(first, min(first + slots, len(x))) for first in range(0, len(x), slots)]
    places = [m.place for m in matrices]
    scratch = Allocator(device.free_memory, device.free_address)
    length = sum(products_length(len(g), places) for g in groups)
    queue = scratch.allocate(length * COMMAND_BYTES, "the command queue")
    size = vector_bytes(blocks)
    vectors = scratch.allocate(size * len(x), "the vectors")
    destinations = [scratch.allocate(result_bytes(m.rows) * len(x), f"the result of {m.name}") for m in matrices]

    commands: list[bytes] = []
    for group in groups:
        targets = [d + result_bytes(m.rows) * group.start for d, m in zip(destinations, matrices, strict=True)]
        commands += products([vectors + size * v for v in group], places, targets, device.geometry.buffer_entries)
    device.write(vectors, b"".join(pack_vector(*quantise(row)) for row in x))
    device.run(commands, queue, len(groups) * sum(m.weight_bytes for m in matrices))

    results = []
    for matrix, address in zip(matrices, destinations, strict=True):
        raw = device.read(address, result_bytes(matrix.rows) * len(x))
        results.append(np.frombuffer(raw, dtype="<f4").reshape(len(x), -1)[:, : matrix.rows])
    if device.results_digest is not None:
        # Vector by vector, so that the digest does not depend on how many share a pass.
        for vector in range(len(x)):
            for result in results:
                device.results_digest.update(result[vector].tobytes())
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
