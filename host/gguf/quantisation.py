"""From the blocks of a file to numbers and back: plain numbers by numpy, the rest by the `gguf` package."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.formats import Format

from .planes import planes_of
from .types import PLAIN, TENSOR_TYPES
from .wider import WIDER, widened

#: Types whose blocks the `gguf` package turns into numbers.
_DEQUANTISED = frozenset(
    (
        "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS",
        "IQ3_S", "IQ1_S", "IQ1_M", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4",
    )
)  # fmt: skip


def can_dequantise(ggml_type: int) -> bool:
    """Whether `dequantise` takes a type."""
    name = TENSOR_TYPES[ggml_type].name
    return name in PLAIN or name == "BF16" or name in _DEQUANTISED


def dequantise(rows: NDArray[Any], ggml_type: int) -> NDArray[np.float32]:
    """Numbers of rows.

    Parameters
    ----------
    rows : ndarray, shape (..., items of a row)
        As `Tensor.data` has them.
    ggml_type : int
        One for which `can_dequantise` is true.

    Returns
    -------
    ndarray of float32, shape (..., elements of a row)
    """
    name = TENSOR_TYPES[ggml_type].name
    if name in PLAIN:
        return rows.astype(np.float32)
    if name == "BF16":
        # The upper half of a float32.
        return (np.ascontiguousarray(rows).view("<u2").astype(np.uint32) << 16).view(np.float32)
    import gguf

    return gguf.dequantize(rows, gguf.GGMLQuantizationType(ggml_type))


def as_blocks(rows: NDArray[Any], ggml_type: int, fmt: Format) -> NDArray[np.uint8]:
    """Rows of a tensor as blocks of another format: taken apart or widened without a change of value, or quantised.

    Parameters
    ----------
    rows : ndarray, shape (rows, items of a row)
        As `Tensor.data` has them.
    ggml_type : int
        Of the rows.
    fmt : Format

    Returns
    -------
    ndarray of uint8, shape (rows, bytes of a row)

    Raises
    ------
    ModelError
        If a number is too large for it.
    """
    name = TENSOR_TYPES[ggml_type].name
    if name in WIDER and WIDER[name].format is fmt:
        return widened(name, rows)
    return blocks_of(dequantise(rows, ggml_type), fmt)


def blocks_of(numbers: NDArray[np.float32], fmt: Format) -> NDArray[np.uint8]:
    """Rows of numbers as blocks of a format: taken apart where it has planes, else quantised."""
    return planes_of(numbers) if fmt.planes > 1 else quantise(numbers, fmt.ggml_type)


def quantise(numbers: NDArray[np.float32], ggml_type: int) -> NDArray[np.uint8]:
    """Rows of numbers as blocks of a type, as the `gguf` package quantises them."""
    import gguf

    return gguf.quantize(numbers, gguf.GGMLQuantizationType(ggml_type))
