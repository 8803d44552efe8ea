"""What a command touches: parts of the activation buffer, of the vector slots, and of memory.

Regions are exact or a little too large, never too small.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tailrace.spec.commands import decode
from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK, BY_NUMBER, LANE_BYTES
from tailrace.spec.isa import ADDRESS_UNIT, BUFFER_UNIT, STREAM_UNIT, WITH_B, Cache, Multiplier, Opcode, Reduce, Target
from tailrace.spec.kv_cache import key_block_place
from tailrace.spec.vector import vector_bytes

#: From a start up to an end.
Interval = tuple[int, int]
Fields = Mapping[str, int]

#: Vectors with more segments that do not touch count as one interval from their start to their end.
MOST_SEGMENTS = 64
_SCALARS = ("p", "q", "m", "n")


@dataclass
class Regions:
    """What a command touches.

    Attributes
    ----------
    buffer_reads, buffer_writes : list of Interval
        Entries of the activation buffer, not wrapped.
    slot_reads, slot_writes : list of tuple of (int, Interval)
        Slot, and blocks in it, not wrapped.
    base_reads, base_writes : list of tuple of (int, int)
        Slot and set.
    memory_reads, memory_writes : list of Interval
        Bytes.
    """

    buffer_reads: list[Interval] = field(default_factory=list)
    buffer_writes: list[Interval] = field(default_factory=list)
    slot_reads: list[tuple[int, Interval]] = field(default_factory=list)
    slot_writes: list[tuple[int, Interval]] = field(default_factory=list)
    base_reads: list[tuple[int, int]] = field(default_factory=list)
    base_writes: list[tuple[int, int]] = field(default_factory=list)
    memory_reads: list[Interval] = field(default_factory=list)
    memory_writes: list[Interval] = field(default_factory=list)


def strided(first: int, stride: int, segments: int, count: int) -> list[Interval]:
    """Intervals of `segments` times `count` places, `stride` apart."""
    if segments == 1 or stride <= count or segments > MOST_SEGMENTS:
        return [(first, first + (segments - 1) * stride + count)]
    return [(start, start + count) for start in range(first, first + segments * stride, stride)]


def regions(command: bytes, config: Config) -> Regions:
    """What a command touches.

    Parameters
    ----------
    command : bytes
        Valid, its modifiers applied.
    config : Config

    Returns
    -------
    Regions
        Nothing for commands that work on registers only.

    Raises
    ------
    ValueError
        If it is no command.
    """
    decoded = decode(command)
    if decoded is None:
        raise ValueError(f"opcode {command[0]} is no command")
    opcode, fields = decoded
    touched = Regions()
    match opcode:
        case Opcode.LOAD_VECTOR:
            touched.memory_reads = _bytes(fields["source"], vector_bytes(fields["blocks"]))
            touched.slot_writes = [(fields["slot"], _blocks(fields, fields["blocks"]))]
            touched.base_writes = [(fields["slot"], fields["set"])]
        case Opcode.GEMV:
            _gemv(touched, fields, config)
        case Opcode.ELEMENTWISE:
            _elementwise(touched, fields, config)
        case Opcode.ROTATE:
            segments, count = fields["segments"], 2 * fields["count"]
            touched.buffer_reads = strided(fields["a"], fields["a_stride"], segments, count)
            touched.buffer_reads += [(fields["table"], fields["table"] + count)]
            touched.buffer_writes = strided(fields["d"], fields["d_stride"], segments, count)
        case Opcode.STORE:
            touched.buffer_reads = [(fields["a"], fields["a"] + fields["count"])]
            touched.memory_writes = _bytes(fields["destination"], 4 * fields["count"])
        case Opcode.APPEND:
            _append(touched, fields, config)
        case Opcode.READ:
            touched.buffer_reads = [(fields["a"], fields["a"] + 1)]
    return touched


def _bytes(unit: int, size: int) -> list[Interval]:
    return [(unit * ADDRESS_UNIT, unit * ADDRESS_UNIT + size)]


def _blocks(fields: Fields, blocks: int) -> Interval:
    return fields["first_block"], fields["first_block"] + blocks


def _gemv(touched: Regions, fields: Fields, config: Config) -> None:
    slots, rows = fields["slots"], fields["rows"]
    touched.slot_reads = [(slot, _blocks(fields, fields["blocks"])) for slot in range(slots)]
    touched.base_reads = [(slot, fields["set"]) for slot in range(slots)]
    touched.buffer_writes = strided(fields["offset"], fields["slot_stride"], slots, rows)
    if fields["keep_maxima"]:
        touched.buffer_writes += strided(fields["maxima"], BUFFER_UNIT, slots, 1)
    weights = BY_NUMBER[fields["format"]]
    if not fields["stride"]:
        touched.memory_reads = _bytes(fields["source"], weights.matrix_bytes(rows, fields["blocks"], config.lanes))
        return
    size = weights.matrix_bytes(config.lanes, fields["blocks"], config.lanes)
    groups = -(-rows // config.lanes)
    start = fields["source"] * ADDRESS_UNIT
    touched.memory_reads = strided(start, fields["stride"] * ADDRESS_UNIT, groups, size)


def _elementwise(touched: Regions, fields: Fields, config: Config) -> None:
    segments, count = fields["segments"], fields["count"]
    reads, writes = touched.buffer_reads, touched.buffer_writes
    multiplier, reduce = fields["multiplier"], fields["reduce"]
    a = strided(fields["a"], fields["a_stride"], segments, count)
    if not fields["a_stream"]:
        reads += a
    if fields["combine"] in WITH_B or multiplier == Multiplier.B:
        reads += strided(fields["b"], fields["b_stride"], segments, count)
    if fields["a_stream"] or multiplier == Multiplier.STREAM or fields["n_stream"]:
        touched.memory_reads = _bytes(fields["source"], -(-count // STREAM_UNIT) * segments * ADDRESS_UNIT)
    for bit, name in enumerate(_SCALARS):
        if fields["load"] >> bit & 1:
            entry = fields[name] & 0xFFFF
            reads.append((entry, entry + (segments if fields["advance"] >> bit & 1 else 1)))
    if fields["target"] == Target.BUFFER:
        writes += strided(fields["d"], fields["d_stride"], segments, count)
    elif fields["target"] == Target.SLOT:
        blocks = -(-count // (BLOCK // 2 if fields["duplicate"] else BLOCK))
        if fields["next_slot"]:
            slots = {(fields["slot"] + segment) % config.right_hand_sides for segment in range(segments)}
        else:
            slots, blocks = {fields["slot"]}, blocks * segments
        touched.slot_writes = [(slot, _blocks(fields, blocks)) for slot in sorted(slots)]
        touched.base_writes = [(slot, fields["set"]) for slot in sorted(slots)]
    if reduce:
        width = 2 if reduce in (Reduce.ARGMAX, Reduce.ARGMAX_REMOVE) else 1
        results = (fields["r"], fields["r"] + width * segments)
        writes.append(results)
        if fields["resume"]:
            reads.append(results)
    if reduce == Reduce.ARGMAX_REMOVE:
        writes += a


def _append(touched: Regions, fields: Fields, config: Config) -> None:
    heads, count, token, lanes = fields["segments"], fields["count"], fields["token"], config.lanes
    touched.buffer_reads = strided(fields["a"], fields["a_stride"], heads, count)
    if fields["cache"] == Cache.KEYS:
        blocks = -(-count // BLOCK)
        scales = heads * blocks
        first = key_block_place(token, 0, blocks, lanes)[0]
        start, size = fields["destination"] * ADDRESS_UNIT + first, 0
        for block in range(blocks):
            scale, upper, lower = key_block_place(token, block, blocks, lanes)
            size = max(size, lower + LANE_BYTES - first)
    else:
        scales = heads
        groups = -(-count // lanes)
        beat = token // LANE_BYTES * lanes * LANE_BYTES
        start = fields["destination"] * ADDRESS_UNIT + beat
        size = (groups - 1) * fields["row_stride"] * ADDRESS_UNIT + lanes * LANE_BYTES
        first = fields["scales"] * ADDRESS_UNIT + 4 * token
        touched.memory_writes += strided(first, fields["scale_stride"] * ADDRESS_UNIT, heads, 4)
    touched.memory_writes += strided(start, fields["head_stride"] * ADDRESS_UNIT, heads, size)
    touched.buffer_reads.append((fields["b"], fields["b"] + scales))
