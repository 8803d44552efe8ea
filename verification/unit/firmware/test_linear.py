"""Command lists for products: what they say, that a build accepts them, and what may overlap."""

import pytest

from tailrace.firmware.linear import products, products_length, result_bytes, rows_of_parts
from tailrace.firmware.placement import MatrixPart, MatrixPlace
from tailrace.spec.commands import check, decode
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import VECTOR_OPCODES, Opcode

ENTRIES = 4096


def place(address: int, fmt: int, rows: int, blocks: int, *, parts: int = 1, exponent: int = 0) -> MatrixPlace:
    step = -(-rows // parts // 16) * 16
    return MatrixPlace(
        fmt,
        exponent,
        rows,
        blocks,
        tuple(MatrixPart(address + 0x1000 * i, i * step, min(step, rows - i * step)) for i in range(parts)),
    )


A = place(0x10000, 0, 100, 2, parts=3)
B = place(0x20000, 5, 10, 2, exponent=-14)


def shown(commands: list[bytes]) -> list[tuple[Opcode, dict[str, int]]]:
    """Commands with the fields that are not 0."""
    decoded = [decode(c) for c in commands]
    return [(d[0], {n: v for n, v in d[1].items() if v}) for d in decoded if d]


def test_products_of_one_vector() -> None:
    assert shown(products([0x400], [A, B], [0x30000, 0x40000], ENTRIES)) == [
        (Opcode.LOAD_VECTOR, {"source": 0x10, "blocks": 2}),
        (Opcode.GEMV, {"slots": 1, "source": 0x400, "rows": 48, "blocks": 2}),
        (Opcode.STORE, {"destination": 0xC00, "count": 48}),
        (Opcode.GEMV, {"pending": 1, "slots": 1, "offset": 2048, "source": 0x440, "rows": 48, "blocks": 2}),
        (Opcode.STORE, {"a": 2048, "destination": 0xC03, "count": 48}),
        (Opcode.GEMV, {"pending": 1, "slots": 1, "source": 0x480, "rows": 4, "blocks": 2}),
        (Opcode.STORE, {"destination": 0xC06, "count": 4}),
        (
            Opcode.GEMV,
            {"pending": 1, "slots": 1, "format": 5, "offset": 2048, "source": 0x800, "rows": 10, "blocks": 2, "exponent": -14},
        ),
        (Opcode.STORE, {"a": 2048, "destination": 0x1000, "count": 10}),
    ]


def test_products_of_two_vectors() -> None:
    assert shown(products([0x400, 0x1000], [B], [0x40000], ENTRIES)) == [
        (Opcode.LOAD_VECTOR, {"source": 0x10, "blocks": 2}),
        (Opcode.LOAD_VECTOR, {"slot": 1, "source": 0x40, "blocks": 2}),
        (
            Opcode.GEMV,
            {"slots": 2, "format": 5, "slot_stride": 12, "source": 0x800, "rows": 10, "blocks": 2, "exponent": -14},
        ),
        (Opcode.STORE, {"destination": 0x1000, "count": 10}),
        (Opcode.STORE, {"a": 12, "destination": 0x1001, "count": 10}),
    ]


@pytest.mark.parametrize("vectors", [1, 2, 4])
def test_what_overlaps_uses_different_entries(vectors: int) -> None:
    """With the order that the instruction set promises, no product overwrites results that are still being stored."""
    commands = shown(products([0x400 * v for v in range(vectors)], [A, B, A], [0, 0x10000, 0x20000], ENTRIES))
    vector_commands: list[set[int]] = []
    written: dict[int, int] = {}
    for opcode, fields in commands:
        first = fields.get("a", fields.get("offset", 0))
        if opcode in VECTOR_OPCODES:
            # The vector unit's own order and `pending` 0: every product before it is finished.
            assert fields.get("pending", 0) == 0
            used = set(range(first, first + fields["count"])) if opcode is Opcode.STORE else set()
            assert used <= written.keys()
            vector_commands.append(used)
            continue
        unfinished = vector_commands[len(vector_commands) - fields.get("pending", 0) :]
        entries = {first + s * fields.get("slot_stride", 0) + r for s in range(vectors) for r in range(fields["rows"])}
        assert not any(entries & used for used in unfinished)
        assert max(entries) < ENTRIES
        written.update(dict.fromkeys(entries, 1))
        # Vectors are loaded before anything is multiplied.
        assert all(used for used in unfinished)


@pytest.mark.parametrize("config", [*CONFIGS.values(), Config("c", 256, 4, buffer_entries=1024)], ids=lambda c: c.name)
@pytest.mark.parametrize("rows", [1, 15, 100, 2048, 2049, 49152, 262144])
def test_every_command_is_accepted_by_the_build(config: Config, rows: int) -> None:
    parts = rows_of_parts(rows, config.right_hand_sides, config.buffer_entries)
    matrix = MatrixPlace(0, 0, rows, 1, tuple(MatrixPart(config.alignment * i, p.start, len(p)) for i, p in enumerate(parts)))
    commands = products([64] * config.right_hand_sides, [matrix], [128], config.buffer_entries)
    assert len(commands) == products_length(config.right_hand_sides, [matrix])
    assert {check(c, config) for c in commands} == {ErrorCode.NONE}


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 16, 17, 511, 513, 5000])
def test_parts(slots: int, rows: int) -> None:
    parts = rows_of_parts(rows, slots, 1024)
    assert [r for part in parts for r in part] == list(range(rows))
    assert all(part.start % 16 == 0 and 0 < len(part) * slots <= 512 for part in parts)


def test_results_are_aligned() -> None:
    assert [result_bytes(n) for n in (1, 16, 17)] == [64, 64, 128]


def test_errors() -> None:
    with pytest.raises(ValueError, match="^a product needs at least one vector and one matrix$"):
        products([], [A], [0], ENTRIES)
    with pytest.raises(ValueError, match="^a product needs at least one vector and one matrix$"):
        products([0], [], [], ENTRIES)
    with pytest.raises(ValueError, match=r"^matrices that share a vector must have rows of one length, not \[2, 3\] blocks$"):
        products([0], [A, place(0, 0, 4, 3)], [0, 0], ENTRIES)
