"""Passes that take several rows of a sequence: each row has the bits of its own pass, and so have the caches."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tailrace.firmware.decode import TOKEN_ROWS, build_program
from tailrace.firmware.description import Description
from tailrace.firmware.placement import CachePlace
from tailrace.spec.commands import decode
from tailrace.spec.config import Config
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.isa import Opcode

from .model import Model, build_of
from .room import UNITS, Memory, least_room, program_for
from .test_decode import FEATURES, FOUR, model_of, random_description

EIGHT = Config("test", 256, right_hand_sides=8, vector_blocks=256, buffer_entries=32768)
#: Sequences of the rows of each pass: chunks of a prompt, and chunks of two.
CHUNKS = ((0,), (0, 0, 0, 0), (0, 0, 0), (0, 0, 0, 0), (0, 0))
MIXED = ((1,), (0, 0, 1), (0, 1, 1, 1), (1, 0, 0, 1), (0, 1))

#: What lies between keys, queries and scores in some way of its own; the others are in the slow suite.
QUICK = (
    "heads of 40",
    "head norms",
    "sinks of many heads, in windows, scores capped",
    "keys as values of many heads",
    "experts",
    "chunks and growing scores alternate",
    "experts whose input is weighted",
)
#: With what is found by the token, or by the position.
MANY = ("layer norms, learned positions, biases", "embeddings of layers")
#: Layers that share keys and values, or have latents, in windows.
REFUSED = {
    "latent attention in windows": "latent attention in sliding windows",
    "latent attention in chunks": "latent attention in chunks",
    "shared keys and values": "shared keys and values in sliding windows",
}


def memory_of_caches(model: Model) -> list[bytes]:
    """All that sequences have in memory, layer after layer."""
    kept = []
    for caches, layer in ((c, n) for c in model.placement.caches for n in range(len(c))):
        place, heads = caches[layer], model.description.layers[layer].attention.kv_heads
        assert isinstance(place, CachePlace)
        for address, stride in zip(place.addresses, (place.key_stride, place.value_stride, place.scale_stride), strict=True):
            kept.append(model.device.read(address, heads * stride))
    return kept


def compare(
    description: Description, passes: tuple[tuple[int, ...], ...], seed: int = 0, config: Config = FOUR, **options: Any
) -> None:
    one, several = (Model(description, config, seed=seed, batch=config.right_hand_sides, **options) for _ in range(2))
    programs = {rows: build_program(description, one.placement, build_of(config), rows=rows) for rows in {*passes, (0,), (1,)}}
    rng, positions = np.random.default_rng(seed), [0, 0]
    for rows in passes:
        tokens = rng.integers(0, description.vocabulary, len(rows)).tolist()
        if len(rows) > TOKEN_ROWS:
            # No registers hold them: they are the first ones of the table.
            tokens = list(range(len(rows)))
        at = []
        for sequence in rows:
            at.append(positions[sequence])
            positions[sequence] += 1
        padding = [0] * (TOKEN_ROWS - len(rows))
        logits, chosen = several.run(programs[rows], tokens + padding, at + padding, max(map(rows.count, rows)))
        seen = [0, 0]
        for s, sequence in enumerate(rows):
            where = f"seed {seed}, rows {rows}, positions {at}, row {s}"
            expected, best = one.run(programs[(sequence,)], [tokens[s], 0, 0, 0], [at[s], 0, 0, 0])
            assert logits[s].tobytes() == expected[0].tobytes(), where
            assert chosen[sequence][seen[sequence]] == best[sequence][0] == expected[0].argmax(), where
            seen[sequence] += 1
        for n, (found, wanted) in enumerate(zip(memory_of_caches(several), memory_of_caches(one), strict=True)):
            assert found == wanted, f"seed {seed}, rows {rows}, positions {at}, cache {n}"


@pytest.mark.parametrize(
    "feature", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FEATURES if f not in REFUSED]
)
def test_a_row_has_the_bits_of_its_own_pass(feature: str) -> None:
    description, options = FEATURES[feature]
    compare(description, CHUNKS, **options)


@pytest.mark.parametrize(
    "feature", [f if f in MANY else pytest.param(f, marks=pytest.mark.slow) for f in FEATURES if f not in REFUSED]
)
def test_up_to_eight_rows(feature: str) -> None:
    """Arguments hold the positions of so many, and no tokens; some features leave no registers for all eight."""
    description, options = FEATURES[feature]
    model = Model(description, EIGHT, batch=8, **options)
    most = 8
    while not can_be_built(model, (0,) * most):
        most -= 1
    assert most > TOKEN_ROWS
    passes = ((0,) * (most - 1), (1,) * most, (1,), (0, 0, 1, 1, 0, 1)[:most], (0,) * most)
    compare(description, passes, config=EIGHT, **options)


def can_be_built(model: Model, rows: tuple[int, ...]) -> bool:
    try:
        build_program(model.description, model.placement, build_of(EIGHT), rows=rows)
    except LimitError:
        return False
    return True


@pytest.mark.parametrize(
    "feature", ["windows and tables alternate", *(pytest.param(f, marks=pytest.mark.slow) for f in ("llama", "experts"))]
)
def test_rows_of_several_sequences(feature: str) -> None:
    description, options = FEATURES[feature]
    compare(description, MIXED, seed=1, **options)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 24))])
def test_random_descriptions_and_passes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    description = random_description(rng)
    if any(layer.attention.shared_cache and layer.attention.window for layer in description.layers):
        description = replace(
            description, layers=tuple(replace(a, attention=replace(a.attention, window=None)) for a in description.layers)
        )
    passes = tuple(tuple(int(s) for s in rng.integers(0, 2, rng.integers(1, 5))) for _ in range(6))
    # Room for four rows of all heads.
    compare(description, passes, seed, replace(FOUR, vector_blocks=128, buffer_entries=16384))


@pytest.mark.parametrize("feature", REFUSED)
def test_layers_that_take_one_row_of_a_sequence(feature: str) -> None:
    model = Model(FEATURES[feature][0], FOUR, batch=2)
    message = f"{REFUSED[feature]} take one row of a sequence at a time: use a program with one row of each sequence"
    with pytest.raises(LimitError, match=f"^{message}$"):
        build_program(model.description, model.placement, build_of(FOUR), rows=(1, 1))
    build_program(model.description, model.placement, build_of(FOUR), rows=(1, 0))


def test_rows_need_places_for_their_logits() -> None:
    model = Model(model_of(), FOUR, batch=2)
    options = {"placement": model.placement, "build": build_of(FOUR), "rows": (0, 0, 0)}
    with pytest.raises(ModelError, match="^logits have been placed for 2 rows, not for 3$"):
        build_program(model.description, **options)
    build_program(model.description, **options, logits=False)


def rooms(model: Model, rows: tuple[int, ...], memory: Memory) -> list[dict[str, int]]:
    """All the room that there is, less of it for each way to share places, the least with which a pass fits, and that of both."""
    unit, whole, least = UNITS[memory], getattr(model.config, memory), least_room(model, rows, memory)
    forms: dict[object, int] = {}
    for units in np.geomspace(whole // unit, least // unit, 32).round().astype(int).tolist():
        program = program_for(model, rows, **{memory: units * unit})
        assert program is not None, f"fits {least} and not {units * unit}"
        commands = [decode(command) for command in program.commands]
        products = [(fields["offset"], fields["first_block"]) for opcode, fields in commands if opcode is Opcode.GEMV]
        forms.setdefault((tuple(opcode for opcode, _ in commands), len({*products})), units * unit)
    (other,) = UNITS.keys() - {memory}
    both = {memory: least, other: least_room(model, rows, other, **{memory: least})}
    return [{memory: whole}, *({memory: room} for room in {*forms.values(), least} - {whole}), both]


@pytest.mark.parametrize("memory", UNITS)
@pytest.mark.parametrize("rows", [(0, 0, 0, 0), *(pytest.param(rows, marks=pytest.mark.slow) for rows in ((0,), (0, 1, 1)))])
@pytest.mark.parametrize(
    "feature", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FEATURES if f not in REFUSED]
)
def test_no_bit_depends_on_the_room(feature: str, rows: tuple[int, ...], memory: Memory) -> None:
    """What has no room for two places in turn takes one; nothing is overwritten before it has been used."""
    description, options = FEATURES[feature]
    config = replace(FOUR, buffer_entries=16384)
    expected: list[bytes] = []
    for room in rooms(Model(description, config, batch=4, **options), rows, memory):
        model = Model(description, config, batch=4, **options)
        program = program_for(model, rows, **room)
        assert program is not None
        found = []
        for first in (0, 4):
            at = [first + rows[:s].count(sequence) for s, sequence in enumerate(rows)]
            padding = [0] * (TOKEN_ROWS - len(rows))
            logits, _ = model.run(program, [*range(len(rows))] + padding, at + padding)
            found.append(logits[: len(rows)].tobytes())
        found += memory_of_caches(model)
        expected = expected or found
        assert found == expected, f"{feature}, rows {rows}, {room}"
