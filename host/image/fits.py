"""Whether a build reads a matrix, and why not."""

from tailrace.spec.errors import ModelError
from tailrace.spec.formats import BLOCK, BY_NAME, Q8_0X3, Format

from ..gguf.describe import DescribedModel
from ..gguf.file import FLOATS, Tensor
from ..gguf.wider import WIDER
from .geometry import Geometry

#: Formats that plain numbers can be quantised to.
QUANTISERS = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4")


def check_quantiser(name: str | None) -> None:
    """Check that plain numbers can be quantised to a format.

    Raises
    ------
    ModelError
        If they can't.
    """
    if name is not None and name not in QUANTISERS:
        raise ModelError(f"can't quantise to {name!r}: choose one of {', '.join(QUANTISERS)}")


def refusal(geometry: Geometry, fmt: Format, columns: int) -> str | None:
    """Why a build can't run a matrix, with what to do; None if it can."""
    if not geometry.reads(fmt.number):
        return f"this device does not read {fmt.name}: it reads {_readable(geometry)}"
    if columns > geometry.max_blocks * BLOCK:
        return (
            f"its rows have {columns} elements, and this device takes at most {geometry.max_blocks * BLOCK}:"
            f" use a configuration with vector_blocks of at least {1 << (columns // BLOCK - 1).bit_length()}"
        )
    return None


def device_format(
    tensor: Tensor, columns: int, geometry: Geometry, quantise: str | None, role: str = ""
) -> tuple[Format | None, str]:
    """The format that a matrix has on a device.

    Parameters
    ----------
    tensor : Tensor
    columns : int
        Elements of its rows.
    geometry : Geometry
    quantise : str or None
        Format that plain numbers become; None: they are taken apart into planes.
    role : str
        What the matrix is for. Routers of experts are always taken apart: other numbers would send tokens to other experts.

    Returns
    -------
    format : Format or None
        None: the device can't run it.
    reason : str
        Then why, and what to do.
    """
    fmt = tensor.format
    if fmt is None and tensor.type_name in FLOATS:
        if (quantise is None or role.endswith((".router", ".shared_router"))) and geometry.reads(Q8_0X3.number):
            fmt = Q8_0X3
        elif quantise is None:
            return None, (
                f"{tensor.type_name} is not quantised, and this device reads {_readable(geometry)}: ask for a format with"
                " --quantise Q8_0"
            )
        else:
            fmt = BY_NAME[quantise]
    elif tensor.type_name in WIDER and geometry.reads(WIDER[tensor.type_name].format.number):
        fmt = WIDER[tensor.type_name].format
    if fmt is None:
        return None, (
            f"this device does not read {tensor.type_name}: it reads {_readable(geometry)}. Get the model in one of these, for"
            " example with `llama-quantize --pure` from its 16-bit file"
        )
    if columns % fmt.file_elements:
        return None, f"its rows have {columns} elements, which is not a multiple of {fmt.file_elements}"
    reason = refusal(geometry, fmt, columns)
    return (fmt, "") if reason is None else (None, reason)


def refusals(imported: DescribedModel, geometry: Geometry, quantise: str | None) -> dict[str, str]:
    """Matrices that a device can't read, by the names of their tensors, with the reason and what to do.

    Raises
    ------
    ModelError
        If `quantise` is no format to quantise to.
    """
    check_quantiser(quantise)
    reasons = {
        source.tensor.name: device_format(source.tensor, source.columns, geometry, quantise, role)[1]
        for role, source in imported.matrices.items()
    }
    return {name: reason for name, reason in reasons.items() if reason}


def _readable(geometry: Geometry) -> str:
    return ", ".join(f.name for f in geometry.readable)
