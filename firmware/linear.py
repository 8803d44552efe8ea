"""Command lists for linear layers: matrix-vector products for as many vectors as the device holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Opcode, encode


@dataclass(frozen=True)
class MatrixOperand:
    """A matrix in device memory.

    Attributes
    ----------
    address : int
        Where its weight stream starts, a multiple of 64.
    format : int
        Number of the weight format.
    rows : int
    blocks : int
        Blocks of 32 elements in a row.
    """

    address: int
    format: int
    rows: int
    blocks: int


def load_vectors(addresses: Sequence[int], blocks: int) -> list[bytes]:
    """Commands that load the vectors at `addresses` into slots 0, 1, ...

    Parameters
    ----------
    addresses : sequence of int
        At most as many as the device has right-hand sides.
    blocks : int
        Blocks of each vector.
    """
    return [encode(Opcode.LOAD_VECTOR, slot=slot, source=address, blocks=blocks) for slot, address in enumerate(addresses)]


def products(vectors: Sequence[int], matrices: Sequence[MatrixOperand], destinations: Sequence[int]) -> list[bytes]:
    """Commands that multiply several matrices with the same vectors, each in one pass over its weights.

    No fence is needed: nothing here reads what it wrote, and a run ends only when all its writes have been acknowledged.

    Parameters
    ----------
    vectors : sequence of int
        Addresses of the vectors, at most as many as the device has right-hand sides.
    matrices : sequence of MatrixOperand
        All with rows of the same length.
    destinations : sequence of int
        For each matrix where its results go: ``rows * len(vectors)`` float32, of row ``r`` and vector ``v`` number
        ``r * len(vectors) + v``.

    Returns
    -------
    list of bytes
        ``len(vectors) + len(matrices)`` commands.

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
    commands = load_vectors(vectors, blocks)
    for matrix, destination in zip(matrices, destinations, strict=True):
        commands.append(
            encode(
                Opcode.GEMV,
                format=matrix.format,
                slots=len(vectors),
                source=matrix.address,
                destination=destination,
                rows=matrix.rows,
                blocks=blocks,
            )
        )
    return commands


def chain(vectors: Sequence[int], matrices: Sequence[MatrixOperand], destination: int, offset: int = 0) -> list[bytes]:
    """Commands that multiply by one matrix after the other, ``M[-1] @ ... @ M[0] @ x``, keeping all between on the device.

    What a product leaves in the result buffer is quantised there and becomes the vector of the next one.

    Parameters
    ----------
    vectors : sequence of int
        Addresses of the vectors for the first matrix.
    matrices : sequence of MatrixOperand
        Each matrix's rows are as many as the next one's columns.
    destination : int
        Where the last matrix's results go, laid out as by `products`.
    offset : int
        First entry of the result buffer to use; ``rows * len(vectors)`` entries of the largest kept result must fit.

    Raises
    ------
    ValueError
        If there is no vector or no matrix, or a matrix does not fit the one before it.
    """
    if not vectors or not matrices:
        raise ValueError("a product needs at least one vector and one matrix")
    slots = len(vectors)
    commands = load_vectors(vectors, matrices[0].blocks)
    for index, matrix in enumerate(matrices):
        last = index == len(matrices) - 1
        place = {"destination": destination} if last else {"keep": 1, "offset": offset}
        commands.append(
            encode(
                Opcode.GEMV,
                format=matrix.format,
                slots=slots,
                source=matrix.address,
                rows=matrix.rows,
                blocks=matrix.blocks,
                **place,
            )
        )
        if last:
            break
        following = matrices[index + 1]
        if matrix.rows != following.blocks * BLOCK:
            raise ValueError(
                f"matrix {index} has {matrix.rows} rows, but matrix {index + 1} has {following.blocks * BLOCK} columns"
            )
        commands += [
            encode(Opcode.QUANTISE, slot=slot, offset=offset + slot, blocks=following.blocks, stride=slots)
            for slot in range(slots)
        ]
    return commands
