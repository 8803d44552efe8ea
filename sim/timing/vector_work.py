"""How long the vector unit works on a command: `Elementwise`, `Append`, `Store`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Cache, Multiplier, Opcode, Reduce, Target

from . import latencies

_SUMS = (Reduce.SUM, Reduce.SUM_OF_SQUARES)
_ARGMAX = (Reduce.ARGMAX, Reduce.ARGMAX_REMOVE)


def is_streamed(fields: Mapping[str, int]) -> bool:
    """Whether an `ELEMENTWISE` has an operand from memory."""
    return bool(fields["a_stream"] or fields["n_stream"] or fields["multiplier"] == Multiplier.STREAM)


@dataclass(frozen=True)
class Segment:
    """Steps of a segment of an `ELEMENTWISE` or a `ROTATE`: those that read scalars, and those that read words."""

    scalars: int
    words: int


def segments_of(opcode: Opcode, fields: Mapping[str, int], elements: int) -> list[Segment]:
    """The segments of a command, with so many elements in a word."""
    words = -(-fields["count"] // elements)
    if opcode is Opcode.ROTATE:
        return [Segment(0, 2 * words + 1)] * fields["segments"]
    resumes = int(bool(fields["resume"] and fields["reduce"]))
    load, moving = fields["load"], fields["load"] & fields["advance"]
    first = int(load & 3 != 0) + int(load & 12 != 0) + resumes
    later = int(moving & 3 != 0) + int(moving & 12 != 0) + resumes
    return [Segment(first, words)] + [Segment(later, words)] * (fields["segments"] - 1)


def words_written(opcode: Opcode, fields: Mapping[str, int], elements: int) -> tuple[int, int]:
    """Words of so many elements that a command writes to the activation buffer, and cycles from one to the next.

    Of a command with a reduction: its results, each of which is a write of its own.
    """
    if opcode is Opcode.ROTATE:
        return 2 * fields["segments"] * -(-fields["count"] // elements), 1
    if opcode is not Opcode.ELEMENTWISE:
        return 0, 1
    words = -(-fields["count"] // elements)
    if fields["reduce"]:
        return fields["segments"], max(words, 1)
    return int(fields["segments"] * words) if fields["target"] == Target.BUFFER else 0, 1


def beats_of(segments: Sequence[Segment], unit_beats: int, beat_words: int) -> list[tuple[int, int, bool]]:
    """For each beat of a streamed operand: steps before it that need none, its words, and whether they end a segment.

    Parameters
    ----------
    segments : sequence of Segment
    unit_beats : int
        Beats of 64 bytes, to which the part of each segment is padded.
    beat_words : int
        Words of the activation buffer in a beat.
    """
    beats = []
    for segment in segments:
        full = -(-segment.words // beat_words)
        for n in range(-(-full // unit_beats) * unit_beats):
            words = min(max(segment.words - n * beat_words, 0), beat_words)
            beats.append((segment.scalars if n == 0 else 0, words, n == full - 1))
    return beats


def elementwise_end(
    opcode: Opcode,
    fields: Mapping[str, int],
    config: Config,
    start: float,
    ends: Iterator[float] | None = None,
) -> float:
    """The last cycle of an `ELEMENTWISE` or a `ROTATE` on its sub-unit.

    Parameters
    ----------
    opcode : Opcode
    fields : mapping of str to int
        Modifiers applied.
    config : Config
    start : float
        Its first cycle there.
    ends : iterator of float or None
        For a streamed operand: when the last word of each segment is taken.
    """
    elements = config.word_elements
    rotates = opcode is Opcode.ROTATE
    reduce = Reduce.NONE if rotates else Reduce(fields["reduce"])
    target = Target.BUFFER if rotates else Target(fields["target"])
    function = 0 if rotates or not fields["function"] else latencies.FUNCTION
    behind = latencies.ELEMENTWISE - latencies.RESULT_TO_END - 1 + function
    reduces = reduce is not Reduce.NONE
    # From a step to its word in the reduction, and from the reduction's last word to its result.
    to_reduction = behind + latencies.BEFORE_REDUCTION
    from_reduction = latencies.REDUCTION + (latencies.TOTAL if reduce in _SUMS else latencies.MAXIMUM)[elements]
    of_u = reduces and bool(fields["reduce_u"])
    if of_u:
        to_reduction -= latencies.TAIL
    writes = 1 + (reduce in _ARGMAX) + (reduce is Reduce.ARGMAX_REMOVE)
    resumes = reduces and bool(fields["resume"])
    if resumes and reduce in _SUMS:
        from_reduction += latencies.RESUMED_TOTAL
    drains = resumes or reduce is Reduce.ARGMAX_REMOVE
    reserved = latencies.RESERVED.get(elements) if reduce in _SUMS and not resumes else None

    step = start
    result = word = last = -1.0
    for segment in segments_of(opcode, fields, elements):
        step += segment.scalars
        step = max(step + segment.words, next(ends) if ends else 0.0)
        word = step + behind
        if reduces:
            if reserved is None:
                last = max(step + to_reduction, result + segment.words)
            else:
                last = _last_of_sum(step + to_reduction, segment.words, last, reserved, latencies.TOTAL[elements])
            if of_u:
                word = max(word, last - latencies.BEFORE_REDUCTION + latencies.TAIL)
            else:
                word = max(word, last - latencies.BEFORE_REDUCTION)
            result = last + from_reduction
            if reduce is Reduce.ARGMAX_REMOVE:
                # What is removed may be one of the words that are written.
                result = max(result + 2, word + 1)
            else:
                result += writes - 1
        if drains:
            step = max(word, result) + latencies.RESULT_TO_END - 1
    end = max(word, result) + latencies.RESULT_TO_END
    if target is Target.SLOT:
        block = BLOCK // elements // (2 if fields["duplicate"] else 1)
        end = max(end, word + block + latencies.QUANTISE + config.right_hand_sides + latencies.SLOT_TO_END)
    return end


def _last_of_sum(arrives: float, words: int, before: float, reserved: Sequence[int], latency: int) -> float:
    """When a sum takes its last word, which arrives in a cycle as the last of so many; `before`: that of the sum before."""
    if before < 0:
        return arrives
    cycle, left = max(arrives - words + 1, before + 1), words
    for distance in reserved:
        here = before + distance - cycle
        if here >= left:
            break
        if here >= 0:
            cycle, left = before + distance + 1, left - int(here)
    return max(cycle + left - 1, arrives, before + latency + 1)


def append_writes(fields: Mapping[str, int], config: Config) -> tuple[int, list[int]]:
    """Steps of an `APPEND`, and those of them that write, counted from 1."""
    elements = min(config.word_elements, config.lanes)
    writes: list[int] = []
    step = 0
    for _ in range(fields["segments"]):
        if fields["cache"] == Cache.KEYS:
            for _ in range(-(-fields["count"] // BLOCK)):
                step += BLOCK // elements
                writes += range(step + 1, step + 1 + latencies.KEY_WRITES)
                step += latencies.KEY_WRITES
        else:
            beat_steps = config.lanes // elements
            values = -(-fields["count"] // config.lanes) * beat_steps
            writes += range(step + beat_steps, step + 1 + values, beat_steps)
            step += values + 1
            writes.append(step)
    return step, writes


def append_addresses(fields: Mapping[str, int], config: Config) -> list[int]:
    """Where an `APPEND` writes, about: the order of rows and heads, as a memory with rows sees it."""
    unit, token = 64, fields["token"]
    addresses: list[int] = []
    for head in range(fields["segments"]):
        start = (fields["destination"] + head * fields["head_stride"]) * unit
        if fields["cache"] == Cache.KEYS:
            blocks = -(-fields["count"] // BLOCK)
            for block in range(blocks):
                number = (token // config.lanes) * blocks + block
                period, phase = divmod(number, 8)
                place = start + period * 17 * config.beat_bytes
                addresses += [place + (1 + 2 * phase) * config.beat_bytes, place + (2 + 2 * phase) * config.beat_bytes, place]
        else:
            first = start + token // 16 * config.beat_bytes
            groups = -(-fields["count"] // config.lanes)
            addresses += [first + group * fields["row_stride"] * unit for group in range(groups)]
            addresses.append((fields["scales"] + head * fields["scale_stride"]) * unit + token * 4)
    return addresses
