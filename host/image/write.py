"""Writes an image to a device, piece by piece."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.fold import UNIT_VECTORS
from tailrace.spec.errors import ModelError
from tailrace.spec.linear_attention import LOWER

from ..progress import Progress
from .allocator import align
from .image import Image, MatrixPiece, TablePiece
from .weight_stream import stream_of_blocks

#: Bytes that are written at once: on a serial port that takes a quarter of a second.
_WRITE_BYTES = 1 << 16
#: Tables of which a row for each sequence is written before each token, unless they are there as a whole.
BY_TOKEN = ("embedding", "layer_embeddings")
#: Rows of a table that are written at a time.
_TABLE_ROWS = 1024


def unit_vectors(size: int) -> NDArray[np.float32]:
    """The vectors by which a fold picks an element of a key out of both planes; shape (size, 2 * size)."""
    return np.hstack([np.eye(size, dtype="<f4"), np.eye(size, dtype="<f4") * np.float32(LOWER)])


class Memory(Protocol):
    """What an image is written to."""

    def write(self, address: int, data: memoryview, /) -> None:
        """Write bytes from an address on."""
        ...


def write_image(image: Image, memory: Memory, on_progress: Progress | None = None) -> None:
    """Write all weights and tables to a device, piece by piece, so that no second copy of the model is made.

    Raises
    ------
    ModelError
        If a tensor is damaged.
    """
    report = on_progress or (lambda what, done: None)
    checked: set[str] = set()
    total, done = sum(p.size for p in image.pieces), 0
    for piece in image.pieces:
        written = 0
        for address, data in _content(image, piece, checked):
            octets = data.cast("B")
            for first in range(0, len(octets), _WRITE_BYTES):
                memory.write(address + first, octets[first : first + _WRITE_BYTES])
                written += len(octets[first : first + _WRITE_BYTES])
                report(piece.role, min(done + written, done + piece.size) / total)
        done += piece.size
        report(piece.role, done / total)


def _content(image: Image, piece: MatrixPiece | TablePiece, checked: set[str]) -> Iterator[tuple[int, memoryview]]:
    """A piece's data, with addresses."""
    if isinstance(piece, MatrixPiece):
        tensor = piece.source.tensor
        if tensor.name not in checked:
            tensor.check_finite()
            checked.add(tensor.name)
        try:
            blocks = piece.source.blocks(piece.start, piece.stop, piece.format, piece.expert)
        except ModelError as error:
            raise ModelError(f"{tensor.name}: {error}") from None
        yield piece.address, stream_of_blocks(piece.format, blocks, image.build.lanes, piece.exponent).data
        return
    source, by_position = image.imported.tables.get(piece.role), image.imported.position_tables.get(piece.role)
    if piece.role in BY_TOKEN and not image.request.whole_embedding:
        return
    pitch = align(4 * piece.columns)
    if piece.role == UNIT_VECTORS:
        units = unit_vectors(piece.rows)
        yield piece.address, np.pad(units, ((0, 0), (0, pitch // 4 - piece.columns))).reshape(-1).view(np.uint8).data
        return
    for first in range(0, piece.rows, _TABLE_ROWS):
        count = min(_TABLE_ROWS, piece.rows - first)
        rows = np.zeros((count, pitch // 4), dtype="<f4")
        if by_position is not None:
            rows[:, : piece.columns] = by_position.table(first, count)
        else:
            assert source is not None
            rows[:, : piece.columns] = source.numbers(first, first + count) if source.columns > 1 else source.numbers()
        yield piece.address + first * pitch, rows.reshape(-1).view(np.uint8).data
