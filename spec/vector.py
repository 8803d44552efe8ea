"""Layout of a block-floating-point vector in device memory.

A vector of ``blocks`` blocks is, at an address that is a multiple of 64::

    64 bytes                  header: the base exponent as int16, then zeros
    64 * ceil(blocks / 64)    the exponents of the blocks, one byte each (0 to 31), padded with zeros
    64 * blocks               the mantissas: 32 int16 for each block

All numbers are little endian. The device reads the lower five bits of an exponent byte and ignores the others.
"""

import numpy as np
from numpy.typing import NDArray

from .formats import BLOCK

#: Every address in a command is a multiple of this many bytes, and so is every part of a vector.
ALIGNMENT = 64


def vector_bytes(blocks: int) -> int:
    """Bytes of a vector of `blocks` blocks in device memory."""
    return ALIGNMENT * (1 + -(-blocks // ALIGNMENT) + blocks)


def pack_vector(base: int, exponents: NDArray[np.uint8], mantissas: NDArray[np.int16]) -> bytes:
    """Lay a quantised vector out for the device.

    Parameters
    ----------
    base : int
    exponents : ndarray of uint8, shape (blocks,)
    mantissas : ndarray of int16, shape (blocks, 32)

    Returns
    -------
    bytes
        `vector_bytes` bytes.
    """
    blocks = len(exponents)
    image = np.zeros(vector_bytes(blocks), dtype=np.uint8)
    image[:2] = np.frombuffer(np.int16(base).astype("<i2").tobytes(), dtype=np.uint8)
    image[ALIGNMENT : ALIGNMENT + blocks] = exponents
    image[image.size - blocks * ALIGNMENT :] = np.ascontiguousarray(mantissas, dtype="<i2").view(np.uint8).reshape(-1)
    return image.tobytes()


def unpack_vector(image: bytes, blocks: int) -> tuple[int, NDArray[np.uint8], NDArray[np.int16]]:
    """Read a vector back from its layout; the inverse of `pack_vector`."""
    raw = np.frombuffer(image, dtype=np.uint8, count=vector_bytes(blocks))
    base = int(raw[:2].view("<i2")[0])
    exponents = raw[ALIGNMENT : ALIGNMENT + blocks] & np.uint8(31)
    mantissas = raw[raw.size - blocks * ALIGNMENT :].view("<i2").reshape(blocks, BLOCK)
    return base, exponents, mantissas
