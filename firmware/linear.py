"""Command lists for linear layers: matrix-vector products for as many vectors as the device has slots."""

from collections.abc import Sequence

from tailrace.spec.commands import encode
from tailrace.spec.isa import ADDRESS_UNIT, BUFFER_UNIT, Opcode

from .placement import MatrixPlace

#: Bytes of a float32.
_FLOAT = 4
#: Rows of a part are a multiple of this many, so that every part's results start at an address that a command can name.
ROW_UNIT = ADDRESS_UNIT // _FLOAT
#: Rows of a part at most. Only the results of the last part are stored when nothing is multiplied any more, so parts are
#: small; but each takes commands of its own. Measured on products of 576 to 4096 rows: 256 costs up to 0.4 % more cycles than
#: 128, 1024 up to 2 %, and whole matrices up to 4 %.
PART_ROWS = 256


def rows_of_parts(rows: int, right_hand_sides: int, buffer_entries: int) -> list[range]:
    """Split a matrix so that the results of any part take at most half of the activation buffer, and not for long.

    One half is written to memory while the next part's results fill the other.

    Parameters
    ----------
    rows : int
    right_hand_sides, buffer_entries : int
        Those of the build.

    Returns
    -------
    list of range
        Rows of each part.
    """
    limit = min(buffer_entries // 2 // right_hand_sides // ROW_UNIT * ROW_UNIT, PART_ROWS)
    parts = -(-rows // limit)
    step = -(-rows // parts // ROW_UNIT) * ROW_UNIT
    return [range(first, min(first + step, rows)) for first in range(0, rows, step)]


def result_bytes(rows: int) -> int:
    """Bytes from the results of one vector to those of the next, a multiple of 64."""
    return -(-rows * _FLOAT // ADDRESS_UNIT) * ADDRESS_UNIT


def products_length(vectors: int, matrices: Sequence[MatrixPlace]) -> int:
    """How many commands `products` makes."""
    return vectors + sum(len(m.parts) for m in matrices) * (1 + vectors)


def products(
    vectors: Sequence[int], matrices: Sequence[MatrixPlace], destinations: Sequence[int], buffer_entries: int
) -> list[bytes]:
    """Commands that multiply several matrices with the same vectors, each in one pass over its weights.

    No fence is needed: nothing here reads what it wrote, and a run ends only when all its writes have been acknowledged.

    Parameters
    ----------
    vectors : sequence of int
        Addresses of the vectors, at most as many as the device has right-hand sides.
    matrices : sequence of MatrixPlace
        All with rows of the same length, and in parts as `rows_of_parts` makes them.
    destinations : sequence of int
        For each matrix where its results go: those of vector ``v``, ``rows`` float32, from ``v * result_bytes(rows)`` on.
    buffer_entries : int
        Entries of the activation buffer.

    Raises
    ------
    ValueError
        If there is no vector or no matrix, or the matrices' rows differ in length.
    """
    if not vectors or not matrices:
        raise ValueError("a product needs at least one vector and one matrix")
    blocks = matrices[0].blocks
    if any(m.blocks != blocks for m in matrices):
        raise ValueError(
            f"matrices that share a vector must have rows of one length, not {sorted({m.blocks for m in matrices})} blocks"
        )
    slots = len(vectors)
    commands = [
        encode(Opcode.LOAD_VECTOR, slot=slot, source=address // ADDRESS_UNIT, blocks=blocks)
        for slot, address in enumerate(vectors)
    ]
    stores = 0
    half = 0
    for matrix, destination in zip(matrices, destinations, strict=True):
        for part in matrix.parts:
            offset = half * (buffer_entries // 2)
            stride = -(-part.rows // BUFFER_UNIT) * BUFFER_UNIT
            commands.append(
                encode(
                    Opcode.GEMV,
                    # The vectors are loaded, and this half is free, when no more than the stores of the other half are left.
                    pending=stores,
                    slots=slots,
                    format=matrix.format,
                    offset=offset,
                    slot_stride=stride if slots > 1 else 0,
                    source=part.address // ADDRESS_UNIT,
                    rows=part.rows,
                    blocks=blocks,
                    exponent=matrix.exponent,
                )
            )
            for slot in range(slots):
                place = destination + slot * result_bytes(matrix.rows) + part.first_row * _FLOAT
                commands.append(
                    encode(Opcode.STORE, a=offset + slot * stride, destination=place // ADDRESS_UNIT, count=part.rows)
                )
            stores, half = slots, 1 - half
    return commands
