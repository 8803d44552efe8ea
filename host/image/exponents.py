"""The exponents of matrices. For those of MXFP4 all blocks of a tensor are looked at: once, whatever is planned with them."""

from weakref import WeakKeyDictionary

from tailrace.spec.formats import Q8_0X3, Format

from ..gguf.file import Tensor
from ..gguf.planes import EXPONENT
from ..gguf.wider import WIDER
from .weight_stream import matrix_exponent

_KNOWN: "WeakKeyDictionary[Tensor, int]" = WeakKeyDictionary()


def tensor_exponent(tensor: Tensor, fmt: Format) -> int:
    """The exponent that a tensor's commands need in the format that it has on the device.

    Raises
    ------
    ModelError
        If the device can't hold its exponents.
    """
    if tensor.type_name in WIDER:
        return WIDER[tensor.type_name].exponent
    if tensor.format is not fmt:
        return EXPONENT if fmt is Q8_0X3 else 0
    if tensor not in _KNOWN:
        _KNOWN[tensor] = matrix_exponent(fmt, tensor.data)
    return _KNOWN[tensor]
