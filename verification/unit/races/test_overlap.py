"""`pending` is as large as the regions that commands touch allow, and what is unsafe is named."""

import numpy as np
import pytest

from tailrace.spec.commands import encode
from tailrace.spec.config import Config
from tailrace.spec.isa import Cache, Opcode, Reduce, Target
from verification.races.overlap import largest_pending, largest_pending_by_index, races

CONFIG = Config("test", 128, right_hand_sides=2, vector_blocks=64, buffer_entries=1024)


def gemv(offset: int = 0, rows: int = 16, pending: int = 0, **fields: int) -> bytes:
    values = {"slots": 1, "rows": rows, "blocks": 2, "offset": offset, "pending": pending, "source": 1 << 20, **fields}
    return encode(Opcode.GEMV, **values)


def move(a: int, d: int, count: int = 16, pending: int = 0, **fields: int) -> bytes:
    values = {"a": a, "d": d, "count": count, "segments": 1, "target": Target.BUFFER, "pending": pending, **fields}
    return encode(Opcode.ELEMENTWISE, **values)


def to_slot(a: int, pending: int = 0, **fields: int) -> bytes:
    values = {"a": a, "count": 64, "segments": 1, "target": Target.SLOT, "pending": pending, **fields}
    return encode(Opcode.ELEMENTWISE, **values)


def fence(pending: int = 0) -> bytes:
    return encode(Opcode.FENCE, pending=pending)


def store(a: int, destination: int, pending: int = 0, count: int = 16) -> bytes:
    return encode(Opcode.STORE, a=a, destination=destination, count=count, pending=pending)


@pytest.mark.parametrize(
    ("first", "second", "safe"),
    [
        # Read after write, write after read and write after write of the buffer; beside it; around its end.
        (gemv(0), move(12, 512), 0),
        (gemv(0), move(16, 512), 15),
        (move(0, 512), gemv(8), 0),
        (move(0, 512), gemv(16, 496), 15),
        (move(0, 512), gemv(16, 497), 0),
        (gemv(1020), move(8, 512), 0),
        (gemv(1020), move(12, 512), 15),
        # Segments that leave gaps, and those that do not.
        (gemv(16), move(0, 512, 16, segments=4, a_stride=32), 15),
        (gemv(16), move(0, 512, 20, segments=4, a_stride=32), 0),
        (gemv(16), move(0, 512, 16, segments=65, a_stride=32), 0),
        (gemv(0, slots=2, slot_stride=100), move(100, 512), 0),
        (gemv(0, slots=2, slot_stride=100), move(16, 512, 84), 15),
        # Scalars, results of a reduction, what an argmax removes, tables.
        (gemv(0), move(64, 512, load=4, m=15), 0),
        (gemv(0), move(64, 512, m=15), 15),
        (gemv(16), move(64, 512, load=8, n=14, segments=3), 15),
        (gemv(16), move(64, 512, load=8, n=14, segments=3, advance=8), 0),
        (move(64, 512, reduce=Reduce.SUM, r=15), gemv(0), 0),
        (move(64, 512, reduce=Reduce.ARGMAX, r=15), gemv(16), 0),
        (gemv(0), encode(Opcode.ROTATE, a=64, d=512, table=0, count=4, segments=1), 0),
        (gemv(0), encode(Opcode.ROTATE, a=64, d=512, table=16, count=4, segments=1), 15),
        (gemv(0), encode(Opcode.ROTATE, a=8, d=512, table=16, count=4, segments=1), 0),
        (encode(Opcode.ROTATE, a=512, d=4, table=16, count=4, segments=1), gemv(0, 4), 15),
        (encode(Opcode.ROTATE, a=512, d=4, table=16, count=4, segments=1), gemv(8), 0),
        # Vector slots: the blocks, the bases, the slots.
        (to_slot(512), gemv(0), 0),
        (to_slot(512, slot=1), gemv(0), 15),
        (to_slot(512, slot=1), gemv(0, slots=2, slot_stride=16), 0),
        (to_slot(512, first_block=2, set=1), gemv(0), 15),
        (to_slot(512, first_block=2, set=0), gemv(0), 0),
        (gemv(0), to_slot(512, first_block=1, set=1), 0),
        (gemv(0), to_slot(512, first_block=63, set=1), 0),
        (to_slot(512, segments=2, next_slot=1, set=1, first_block=1), gemv(0, slots=2, first_block=2), 0),
        (to_slot(512, duplicate=1, set=1, first_block=4), gemv(0, first_block=6), 0),
        (to_slot(512, duplicate=0, set=1, first_block=4), gemv(0, first_block=6), 15),
        (encode(Opcode.LOAD_VECTOR, blocks=2, source=0), gemv(0), 0),
        (encode(Opcode.LOAD_VECTOR, blocks=2, source=0, set=1, first_block=8), gemv(0), 15),
        # What is read from the buffer to a register or to memory.
        (gemv(0), encode(Opcode.READ, a=15), 0),
        (gemv(0), encode(Opcode.READ, a=16), 15),
        (gemv(0), store(0, 0), 0),
        # Memory that is overwritten while a product may still read it.
        (gemv(0, source=100), store(512, 100), 0),
        (gemv(0, source=100), store(512, 100 + 17), 15),
    ],
)
def test_two_commands(first: bytes, second: bytes, safe: int) -> None:
    assert largest_pending([first, second], CONFIG) == [15, safe]


def with_pending(command: bytes, pending: int) -> bytes:
    return command[:1] + bytes([command[1] & 0xF0 | pending]) + command[2:]


def test_commands_between_may_be_unfinished() -> None:
    program = [gemv(0), *[gemv(64)] * 3, move(0, 512)]
    assert largest_pending(program, CONFIG)[-1] == 3
    assert largest_pending([gemv(0), *[gemv(64)] * 20, move(0, 512)], CONFIG)[-1] == 14
    # Commands of the own unit do not count.
    assert largest_pending([gemv(0), move(900, 800), gemv(64), move(0, 512)], CONFIG)[-1] == 1


@pytest.mark.parametrize("safe", range(4))
def test_races_begin_where_the_largest_value_ends(safe: int) -> None:
    program = [gemv(0), *[gemv(64)] * safe]
    assert races([*program, move(0, 512, pending=safe)], CONFIG) == []
    assert races([*program, move(0, 512, pending=safe + 1)], CONFIG) == [
        f"command {safe + 1} (ELEMENTWISE) may start before command 0 (GEMV) has finished, and both use the activation buffer:"
        f" its pending must be at most {safe}"
    ]


def test_what_an_earlier_command_of_the_unit_waited_for_is_finished() -> None:
    program = [gemv(0), move(900, 800, pending=0), move(0, 512, pending=15)]
    assert races(program, CONFIG) == []
    assert len(races([program[0], program[2]], CONFIG)) == 1


def test_fences() -> None:
    load = encode(Opcode.LOAD_VECTOR, source=10, blocks=1, pending=15)
    unrelated = move(900, 800)
    assert races([store(0, 10), load], CONFIG) == [
        "command 1 (LOAD_VECTOR) reads memory that command 0 (STORE) wrote, between 0x280 and 0x340: a FENCE that waits for it must"
        " come between them"
    ]
    assert races([store(0, 10), fence(), load], CONFIG) == []
    assert races([store(0, 13), load], CONFIG) == []
    assert len(races([fence(), store(0, 10), load], CONFIG)) == 1
    assert races([store(0, 10), unrelated, unrelated, fence(2), load], CONFIG) == []
    assert len(races([store(0, 10), unrelated, unrelated, fence(3), load], CONFIG)) == 1
    assert len(races([store(0, 10), fence(15), load], CONFIG)) == 1
    # The second fence need not wait for what the first one has waited for.
    assert races([store(0, 10), fence(), unrelated, fence(1), load], CONFIG) == []


def test_largest_pending_of_fences() -> None:
    load = encode(Opcode.LOAD_VECTOR, source=10, blocks=1)
    unrelated = move(900, 800)
    assert largest_pending([store(0, 10), unrelated, unrelated, fence(), load], CONFIG)[3] == 2
    assert largest_pending([store(0, 99), fence(), load], CONFIG)[1] == 15
    assert largest_pending([store(0, 10), *[unrelated] * 20, fence(), load], CONFIG)[-2] == 14
    assert largest_pending([store(0, 10), fence(), store(0, 11), fence(), load], CONFIG)[1::2] == [15, 0]


@pytest.mark.parametrize("token", [0, 3, 17, 63])
@pytest.mark.parametrize("lanes", [1, 4])
def test_appended_rows_are_read_after_a_fence(token: int, lanes: int) -> None:
    """Every row of the cache is found that a product may read, and none in other heads' caches."""
    config = Config("test", 128 * lanes, vector_blocks=64, buffer_entries=1024)
    head = 4 * 1024
    keys = encode(Opcode.APPEND, destination=head, head_stride=256, segments=2, count=64, a_stride=64, b=500, token=token)
    values = encode(
        Opcode.APPEND,
        cache=Cache.VALUES,
        destination=head,
        head_stride=256,
        segments=2,
        count=64,
        a_stride=64,
        b=500,
        token=token,
        row_stride=lanes,
        scales=1 << 16,
        scale_stride=16,
    )

    def read_keys(head_number: int, rows: int) -> bytes:
        return gemv(512, rows, source=head + 256 * head_number, pending=15)

    for number, wrong in ((0, 1), (1, 1), (2, 0)):
        assert len(races([keys, read_keys(number, token + 1)], config)) == wrong
    assert len(races([values, gemv(512, 64, format=15, blocks=4, source=head, stride=lanes, pending=15)], config)) == 1
    assert len(races([values, gemv(512, 64, format=15, blocks=4, source=head + 512, stride=lanes, pending=15)], config)) == 0
    scales = move(0, 512, a_stream=1, source=(1 << 16) + 16 + token // 16, count=16, pending=15)
    assert len(races([values, scales], config)) == 1


def test_a_command_of_a_loop_takes_its_smallest_value() -> None:
    first, second = gemv(0), move(64, 512)
    trace = [(0, first), (1, second), (0, gemv(16)), (1, move(16, 512))]
    assert largest_pending_by_index(trace, CONFIG) == {0: 15, 1: 0}


def test_registers_only() -> None:
    assert largest_pending([encode(Opcode.SET), encode(Opcode.LOOP)], CONFIG) == [0, 0]
    assert races([encode(Opcode.SET), encode(Opcode.LOOP)], CONFIG) == []


def test_what_is_no_command() -> None:
    with pytest.raises(ValueError, match="^command 1 is invalid: opcode 0$"):
        largest_pending([gemv(0), bytes(64)], CONFIG)


def test_races_accepts_what_largest_pending_says(rng: np.random.Generator) -> None:
    """Random programs: the values are safe, and waiting for nothing is not."""
    for _ in range(30):
        program = []
        for _ in range(30):
            a, d = (int(x) * 16 for x in rng.integers(0, 12, 2))
            program.append([gemv(d), move(a, d), to_slot(a, set=int(rng.integers(2))), store(a, int(d))][rng.integers(4)])
        safe = largest_pending(program, CONFIG)
        program = [with_pending(command, pending) for command, pending in zip(program, safe, strict=True)]
        assert races(program, CONFIG) == []
        assert races([with_pending(command, 15) for command in program], CONFIG)
