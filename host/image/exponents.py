"""The exponents of MXFP4 matrices, for which all blocks of a tensor are looked at: once, whatever is planned with them."""

from weakref import WeakKeyDictionary

from ..gguf.file import Tensor
from .weight_stream import matrix_exponent

_KNOWN: "WeakKeyDictionary[Tensor, int]" = WeakKeyDictionary()


def tensor_exponent(tensor: Tensor) -> int:
    """The exponent that a tensor's commands need (`matrix_exponent`).

    Raises
    ------
    ModelError
        If the device can't hold its exponents.
    """
    assert tensor.format is not None
    if tensor not in _KNOWN:
        _KNOWN[tensor] = matrix_exponent(tensor.format, tensor.data)
    return _KNOWN[tensor]
