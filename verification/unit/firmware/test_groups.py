"""Which rows read keys and values together, and how often these are read then."""

from collections import Counter
from dataclasses import replace

import pytest

from tailrace.firmware.decode import build_program
from tailrace.firmware.description import Attention, Description
from tailrace.spec.attention import CHUNK, STEP
from tailrace.spec.commands import decode
from tailrace.spec.config import Config
from tailrace.spec.isa import Opcode

from .model import Model, build_of
from .test_decode import HEADS, latent_heads, model_of

ROOM = {"vector_blocks": 512, "buffer_entries": 65536}


def products(
    description: Description,
    sides: int,
    rows: tuple[int, ...],
    reach: tuple[int, ...] | None = None,
    capacity: int = 64,
    **room: int,
) -> Counter[str]:
    """Products with keys and values in each layer, by slots and masked results."""
    config = Config("test", 128, right_hand_sides=sides, **ROOM | room)
    model = Model(description, config, batch=max(rows) + 1, capacity=capacity)
    program = build_program(
        description, model.placement, build_of(config), rows=rows, reach=reach, logits=False, choose=False, loops=False
    )
    found: Counter[str] = Counter()
    for command, traffic in zip(program.commands, program.traffic, strict=True):
        if traffic.kind in ("keys", "values"):
            decoded = decode(command)
            assert decoded is not None
            assert decoded[0] is Opcode.GEMV
            found[f"{traffic.kind} {decoded[1]['slots']}, {decoded[1]['masked']}"] += 1
    return found


def group_of(heads: int, **changes: object) -> Attention:
    """Two KV heads, each with so many heads."""
    return replace(HEADS, heads=2 * heads, **changes)


@pytest.mark.parametrize(
    ("heads", "sides", "rows", "keys"),
    [
        # Heads of a group, right-hand sides, rows; for each KV head the slots of each product with its keys.
        (1, 8, 8, "8"),
        (1, 4, 3, "3"),
        (3, 8, 8, "8 8 8"),
        (3, 4, 4, "4 4 4"),
        (3, 8, 3, "6 3"),
        (4, 8, 2, "8"),
        (4, 8, 5, "5 5 5 5"),
        (7, 8, 8, "8 8 8 8 8 8 8"),
        (7, 4, 4, "4 4 4 4 4 4 4"),
        # As many products as for one row after the other, or more.
        (4, 4, 4, None),
        (4, 4, 3, None),
        (3, 4, 2, None),
        (8, 8, 8, None),
        (1, 8, 1, None),
    ],
)
def test_as_few_products_as_there_are_sides_for(heads: int, sides: int, rows: int, keys: str | None) -> None:
    found = products(model_of(group_of(heads), count=1), sides, (0,) * rows)
    alone = products(model_of(group_of(heads), count=1), sides, (0,))
    if keys is None:
        assert found == Counter({name: count * rows for name, count in alone.items()})
        return
    wanted: Counter[str] = Counter()
    for slots in keys.split():
        wanted[f"keys {slots}, {rows - 1}"] += 2
        wanted[f"values {slots}, 0"] += 2
    assert found == wanted
    assert found.total() < alone.total() * rows


def test_each_sequence_for_itself() -> None:
    found = products(model_of(group_of(1), count=1), 8, (0, 0, 0, 1, 2, 2))
    assert found == {"keys 3, 2": 2, "keys 1, 0": 2, "keys 2, 1": 2, "values 3, 0": 2, "values 1, 0": 2, "values 2, 0": 2}


def test_rows_that_do_not_lie_side_by_side() -> None:
    found = products(model_of(group_of(1), count=1), 8, (0, 1, 0, 1))
    assert found == {"keys 1, 0": 8, "values 1, 0": 8}


@pytest.mark.parametrize(
    "attention",
    [
        group_of(1, score_cap=2.0),
        group_of(1, sinks=True),
        group_of(1, growing=True),
        group_of(1, window=9),
        group_of(1, window=9, chunked=True),
        latent_heads(2, 64, 32, 64),
    ],
    ids=["cap", "sinks", "growing", "window", "chunks", "latent"],
)
def test_what_is_read_by_one_row_after_the_other(attention: Attention) -> None:
    description = model_of(attention, count=1)
    alone = products(description, 8, (0,))
    assert products(description, 8, (0, 0, 0)) == {name: 3 * count for name, count in alone.items()}


def test_only_the_last_chunk_is_masked_and_all_rows_must_see_the_same_ones() -> None:
    description, reach = model_of(group_of(1), count=1), CHUNK + STEP
    assert products(description, 8, (0, 0), (reach,) * 2, reach) == {"keys 2, 0": 2, "keys 2, 1": 2, "values 2, 0": 4}
    # One row sees a chunk, the other one two.
    assert products(description, 8, (0, 0), (CHUNK, reach), reach) == {"keys 1, 0": 6, "values 1, 0": 6}


def test_windows_that_have_not_closed() -> None:
    """A row that sees less than the window takes no other one's place."""
    description = model_of(group_of(1, window=CHUNK + 2 * STEP), count=1)
    open_, closed = ((tokens,) * 2 for tokens in (CHUNK + STEP, CHUNK + 2 * STEP))
    assert products(description, 8, (0, 0), open_, 4 * STEP + CHUNK) == {"keys 2, 0": 2, "keys 2, 1": 2, "values 2, 0": 4}
    assert products(description, 8, (0, 0), closed, 4 * STEP + CHUNK) == {"keys 1, 0": 8, "values 1, 0": 8}


def test_scores_that_the_buffer_has_no_room_for() -> None:
    """Those of one row at a time fit, and are as many as before; of all rows together they would not."""
    description = model_of(group_of(1), count=1)
    together = {"keys 8, 7": 2, "values 8, 0": 2}
    apart = {"keys 1, 0": 16, "values 1, 0": 16}
    assert products(description, 8, (0,) * 8, capacity=CHUNK, buffer_entries=32768) == together
    assert products(description, 8, (0,) * 8, capacity=CHUNK, buffer_entries=16384) == apart
