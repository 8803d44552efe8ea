"""`ELEMENTWISE` and `ROTATE`: what the vector unit computes on the activation buffer."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.floats import Function
from tailrace.spec.isa import STREAM_UNIT, WITH_B, Combine, Multiplier, Reduce, Target

from .buffer import ActivationBuffer
from .floats import Floats, add, apply, canonical, lesser, multiply, negative, total

Fields = Mapping[str, int]

_SCALARS = ("p", "q", "m", "n")
_ARGMAX = (Reduce.ARGMAX, Reduce.ARGMAX_REMOVE)
_MINUS_INFINITY = np.array([[-np.inf]], dtype=np.float32)


def stream_units(fields: Fields) -> int:
    """Units of 64 bytes in the stream that an `ELEMENTWISE` reads; 0 if it reads none."""
    if not (fields["a_stream"] or fields["multiplier"] == Multiplier.STREAM or fields["n_stream"]):
        return 0
    return -(-fields["count"] // STREAM_UNIT) * fields["segments"]


def stream_elements(stream: NDArray[np.uint8], fields: Fields) -> Floats:
    """Elements of a stream, shape (segments, count)."""
    return canonical(stream.view("<f4").reshape(fields["segments"], -1)[:, : fields["count"]])


def elementwise(buffer: ActivationBuffer, fields: Fields, stream: Floats | None) -> Floats:
    """Carry out an `ELEMENTWISE`, all but the slot target.

    All operands are read before anything is written, with one exception: each segment of an `ARGMAX_REMOVE` sees what the ones
    before it removed.

    Parameters
    ----------
    buffer : ActivationBuffer
    fields : mapping
        The command's fields, checked.
    stream : ndarray of float32, shape (segments, count), or None
        The streamed operand, if the command has one.

    Returns
    -------
    ndarray of float32, shape (segments, count)
        What goes to the target: `v` of each element.
    """
    segments = fields["segments"]
    if fields["reduce"] == Reduce.ARGMAX_REMOVE and segments > 1:
        parts = [
            elementwise(buffer, _segment(fields, s), None if stream is None else stream[s : s + 1]) for s in range(segments)
        ]
        return np.concatenate(parts)
    u, v = _compute(buffer, fields, stream)
    reduced = u if fields["reduce_u"] else v
    reduce = Reduce(fields["reduce"])
    result, found = None, False
    if reduce in _ARGMAX:
        result, found = _argmax(buffer, fields, reduced)
    elif reduce != Reduce.NONE:
        result = _reduce(buffer, fields, reduced)
    if fields["target"] == Target.BUFFER:
        buffer.write(fields["d"], fields["d_stride"], v)
    if result is not None:
        buffer.write(fields["r"], result.shape[1], result)
    if reduce == Reduce.ARGMAX_REMOVE and found and not fields["a_stream"]:
        buffer.write(fields["a"] + int(reduced.argmax()), 0, _MINUS_INFINITY)
    return v


def _segment(fields: Fields, segment: int) -> dict[str, int]:
    """Fields of a command that does one segment of another one, an argmax."""
    moved = {name: fields[name] + segment * fields[f"{name}_stride"] for name in "abd"}
    moved |= {"r": fields["r"] + 2 * segment, "segments": 1}
    for bit, name in enumerate(_SCALARS):
        if (fields["load"] & fields["advance"]) >> bit & 1:
            moved[name] = fields[name] + segment
    return {**fields, **moved}


def _compute(buffer: ActivationBuffer, fields: Fields, stream: Floats | None) -> tuple[Floats, Floats]:
    """`u` and `v` of each element."""
    segments, count = fields["segments"], fields["count"]
    combine, multiplier = fields["combine"], fields["multiplier"]
    nothing = np.zeros((segments, count), dtype=np.float32)

    def operand(name: str) -> Floats:
        return buffer.read(fields[name], fields[f"{name}_stride"], segments, count)

    def scaled(x: Floats, name: str) -> Floats:
        factor = _scalar(buffer, fields, name, 1.0)
        return x if factor is None else multiply(x, factor)

    def shifted(x: Floats, name: str) -> Floats:
        addend = _scalar(buffer, fields, name, 0.0)
        return x if addend is None else add(x, addend)

    streamed = nothing if stream is None else stream
    a = streamed if fields["a_stream"] else operand("a")
    b = operand("b") if combine in WITH_B or multiplier == Multiplier.B else nothing
    if combine == Combine.SCALE:
        t = shifted(scaled(a, "p"), "q")
    elif combine == Combine.SUM:
        t = add(scaled(a, "p"), scaled(b, "q"))
    elif combine == Combine.LIMIT:
        t = lesser(scaled(a, "p"), _number(buffer, fields, "q"))
    else:
        t = multiply(a, b)
    u = apply(Function(fields["function"]), t)
    if multiplier == Multiplier.SCALAR:
        v = scaled(u, "m")
    else:
        v = multiply(u, {Multiplier.STREAM: streamed, Multiplier.B: b, Multiplier.A: a}[Multiplier(multiplier)])
    return u, add(v, streamed) if fields["n_stream"] else shifted(v, "n")


def _number(buffer: ActivationBuffer, fields: Fields, name: str) -> Floats:
    """A scalar of each segment, shape (segments, 1) or (1, 1)."""
    bit = _SCALARS.index(name)
    if fields["load"] >> bit & 1:
        return buffer.read(fields[name] & 0xFFFF, fields["advance"] >> bit & 1, fields["segments"], 1)
    return _constant(fields[name])


def _scalar(buffer: ActivationBuffer, fields: Fields, name: str, neutral: float) -> Floats | None:
    """A scalar of each segment, as `_number` has it; None if it is the constant that leaves everything as it is."""
    value = _number(buffer, fields, name)
    constant = not fields["load"] >> _SCALARS.index(name) & 1
    return None if constant and value[0, 0] == neutral else value


@lru_cache(maxsize=1 << 12)
def _constant(bits: int) -> Floats:
    return canonical(np.array([[bits]], dtype=np.uint32).view(np.float32))


def _before(buffer: ActivationBuffer, fields: Fields, width: int) -> tuple[NDArray[np.uint32], Floats]:
    """Bits of what is in the place of the reductions' results, shape (segments, width), and the numbers among them."""
    bits = buffer.read_bits(fields["r"], width, fields["segments"], width)
    return bits, canonical(bits[:, 0].view(np.float32))


def _reduce(buffer: ActivationBuffer, fields: Fields, x: Floats) -> NDArray[np.uint32]:
    """Bits of the reductions' results, shape (segments, 1)."""
    summed = fields["reduce"] in (Reduce.SUM, Reduce.SUM_OF_SQUARES)
    match Reduce(fields["reduce"]):
        case Reduce.SUM:
            result = total(x)
        case Reduce.SUM_OF_SQUARES:
            result = total(multiply(x, x))
        case Reduce.ABSOLUTE_MAXIMUM:
            result = np.abs(x).max(axis=1)
        case _:
            result = x.max(axis=1)
    if fields["resume"]:
        _, old = _before(buffer, fields, 1)
        result = add(old, result) if summed else np.maximum(old, result)
    return (negative(result) if fields["negate"] else result).view(np.uint32)[:, None]


def _argmax(buffer: ActivationBuffer, fields: Fields, x: Floats) -> tuple[NDArray[np.uint32], bool]:
    """Bits of the largest values, and their positions, shape (segments, 2); whether the last one was not there before."""
    largest = x.max(axis=1)
    positions = (x.argmax(axis=1) + fields["index"] & 0xFFFF_FFFF).astype(np.uint32)
    result = np.stack((largest.view(np.uint32), positions), axis=1)
    if not fields["resume"]:
        return result, True
    bits, old = _before(buffer, fields, 2)
    kept = old >= largest
    return np.where(kept[:, None], bits, result), not kept[-1]


def rotate(buffer: ActivationBuffer, fields: Fields) -> None:
    """Carry out a `ROTATE`."""
    count, segments = fields["count"], fields["segments"]
    both = buffer.read(fields["a"], fields["a_stride"], segments, 2 * count)
    table = buffer.read(fields["table"], 0, 1, 2 * count)
    x, y, cosines, sines = both[:, :count], both[:, count:], table[:, :count], table[:, count:]
    result = np.concatenate(
        (
            add(multiply(x, cosines), negative(multiply(y, sines))),
            add(multiply(y, cosines), multiply(x, sines)),
        ),
        axis=1,
    )
    buffer.write(fields["d"], fields["d_stride"], result)
