"""The form of decode programs: loops, overlap, runs of tokens, what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tailrace.firmware.assembler import assemble, disassemble
from tailrace.firmware.decode import build_program, feed_forward_part_rows, head_part_rows
from tailrace.firmware.description import Activation, Attention, Experts, FeedForward, HeadNorm, Layer, Scores, layer_role
from tailrace.firmware.embedding import WINDOW_POSITIONS
from tailrace.firmware.layers import Run, runs
from tailrace.firmware.parts import query_part_rows
from tailrace.firmware.placement import Build, MatrixPart
from tailrace.firmware.program import Program
from tailrace.golden.registers import ProgramRegisters
from tailrace.spec.commands import decode
from tailrace.spec.config import RIGHT_HAND_SIDES, Config
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.isa import ADDRESS_UNIT, Opcode
from verification.races.overlap import largest_pending_by_index

from .imagined import imagined
from .model import Model, build_of
from .room import least_room, program_for
from .test_decode import FOUR, HEADS, SILU, TINY, compare, model_of

MIXED = model_of(
    layers=tuple(Layer(replace(HEADS, window=w), SILU) for w in (3, None, 3, None, 3))
    + (Layer(HEADS, FeedForward(64, Activation.SILU)),)
)
EXPERTS = model_of(HEADS, Experts(5, 3, FeedForward(96, Activation.SILU)), count=3)


def bits(model: Model, positions: int = 4, **options: bool) -> list[bytes]:
    """Logits after a few tokens, and the KV cache behind them."""
    program = model.program(**options)
    results = []
    for position in range(positions):
        logits, _ = model.run(program, [position + s for s in range(model.batch)], [position] * model.batch)
        results.append(logits.tobytes())
    first = min(c.keys for caches in model.placement.caches for c in caches)
    return [*results, model.device.read(first, min(model.placement.logits) - first)]


GROUPS = model_of(
    HEADS,
    Experts(16, 3, FeedForward(64, Activation.SILU), scores=Scores.SIGMOID, groups=4, used_groups=2, shared=SILU),
    count=3,
)


@pytest.mark.parametrize("description", [model_of(count=4), MIXED, EXPERTS, GROUPS])
def test_loops_and_overlap_change_no_bit(description) -> None:
    expected = bits(Model(description, TINY))
    assert bits(Model(description, TINY), loops=False) == expected
    assert bits(Model(description, TINY), overlap=False) == expected


@pytest.mark.parametrize("width", [128, 256, 512])
def test_builds_give_the_same_logits(width: int) -> None:
    logits = []
    for slots in (1, 2, 4):
        model = Model(EXPERTS, Config("test", width, right_hand_sides=slots, vector_blocks=64, buffer_entries=8192))
        logits.append(bits(model)[:-1])
    assert logits[0] == logits[1] == logits[2]
    assert logits[0] == bits(Model(EXPERTS, TINY))[:-1]


def test_large_groups_read_keys_and_values_once() -> None:
    """Sixteen heads of one KV head: as many passes as the right-hand sides ask for, and the same logits."""
    description = model_of(replace(HEADS, heads=16, kv_heads=1))
    logits = []
    for slots in RIGHT_HAND_SIDES:
        model = Model(description, Config("test", 128, right_hand_sides=slots, vector_blocks=64, buffer_entries=8192))
        program = model.program(loops=False)
        for kind in ("keys", "values"):
            assert sum(read.kind == kind for read in program.traffic) == 2 * 16 // slots
        logits.append(bits(model)[:-1])
    assert all(found == logits[0] for found in logits)


def test_sequences_of_a_batch_do_not_see_each_other() -> None:
    single = bits(Model(EXPERTS, FOUR))[:-1]
    batch = bits(Model(EXPERTS, FOUR, batch=4))[:-1]
    for one, many in zip(single, batch):
        assert many[: len(one)] == one


@pytest.mark.parametrize(("description", "batch"), [(MIXED, 1), (model_of(replace(HEADS, window=3)), 3), (EXPERTS, 2)])
def test_a_run_of_tokens_is_as_many_single_steps(description, batch: int) -> None:
    one, many = (Model(description, FOUR, batch=batch) for _ in range(2))
    program = one.program()
    start = list(range(5, 5 + batch))
    tokens, chosen = start, []
    for position in range(7):
        logits, best = one.run(program, tokens, [position] * batch)
        tokens = best[:, 0].tolist()
        chosen.append(tokens)
        assert tokens == logits.argmax(axis=1).tolist()
    logits_at_end, best = many.run(program, start, [0] * batch, steps=7)
    assert best.T.tolist() == chosen
    assert np.array_equal(logits, logits_at_end)


def test_a_run_can_start_anywhere() -> None:
    one, two = (Model(MIXED, TINY) for _ in range(2))
    program = one.program()
    _, best = one.run(program, [5], [0], steps=9)
    _, first = two.run(program, [5], [0], steps=4)
    _, rest = two.run(program, [int(first[0, -1])], [4], steps=5)
    assert [*first[0], *rest[0]] == best[0].tolist()


def test_without_choice_a_run_is_one_token_and_writes_no_tokens() -> None:
    model = Model(model_of(), TINY)
    program = model.program(choose=False)
    assert program.steps_command is None
    logits, best = model.run(program, [3], [0])
    assert np.abs(logits).max() > 0
    assert not best.any()
    assert Opcode.READ not in {decode(command)[0] for command in program.commands}


def test_without_logits_only_the_token_is_written() -> None:
    model, other = (Model(model_of(), TINY) for _ in range(2))
    logits, best = model.run(model.program(logits=False), [3], [0])
    assert not logits.any()
    assert best[0, 0] == other.run(other.program(), [3], [0])[0].argmax()


@pytest.mark.parametrize("window", [1, 2, 3, 5, 48, 64, 100, 2047, 4096, 30000])
def test_the_row_in_a_window_at_the_start_is_the_remainder(window: int) -> None:
    description = model_of(replace(HEADS, window=window))
    build = Build(1, 1, 65536, 4096)
    model, placement = imagined(description, build, 1, WINDOW_POSITIONS)
    program = build_program(model, placement, build, choose=False)
    start = program.sections[1][0]
    append = next(c for c in program.commands if decode(c)[0] is Opcode.APPEND)
    fields = decode(append)[1]
    row = next(fields[f"modifier_register_{i}"] for i in range(3) if fields[f"modifier_word_{i}"] == 6)
    for position in {0, 1, window - 1, window, window + 1, 2 * window - 1, 7 * window, 77_777, WINDOW_POSITIONS - 1}:
        registers = ProgramRegisters([0, 0, 0, 0, position, 0, 0, 0])
        for command in program.commands[:start]:
            registers.set(decode(command)[1])
        assert registers.values[row] == position % window, position


@pytest.mark.parametrize("description", [model_of(), EXPERTS, MIXED, GROUPS])
def test_no_command_waits_for_more_than_it_must(description) -> None:
    model, trace = Model(description, FOUR, batch=2), []
    program = model.program()
    # Far enough on for the regions to have nearly the sizes that the program allows for.
    model.run(program, [1, 2], [60, 60], steps=3, see=lambda index, command: trace.append((index, command)))
    best = largest_pending_by_index(trace, FOUR)
    fields = {index: decode(program.commands[index]) for index in best}
    # A fence covers the caches of all sequences, though those behind the first are read behind the next fence.
    pending = {index: f["pending"] for index, (opcode, f) in fields.items() if "pending" in f and opcode is not Opcode.FENCE}
    assert {i: (n, best[i]) for i, n in pending.items() if n < min(best[i], 14)} == {}


def test_sections_and_traffic() -> None:
    model = Model(model_of(count=3), TINY)
    program = model.program()
    assert [text for _, text in program.sections] == [
        "start", "embedding", "layers 0, 1, ... (3 rounds): attention", "layers 0, 1, ... (3 rounds): feed-forward", "head", "next token",
    ]  # fmt: skip
    matrices = model.placement.matrices.values()
    dense = sum(m.rows * m.blocks * 34 for m in matrices)
    # Streams end with scale beats that are not full.
    assert dense <= program.weight_bytes <= dense * 1.1
    sizes = program.bytes_read(1000)
    assert len(sizes) == len(program.commands)
    loads = [t for t in program.traffic if t.kind == "keys"]
    assert [t.size(1, 10) for t in loads] == [10 * 32 + 16 * 2] * 4
    assert [t.size(1, 1000) for t in loads] == [64 * 32 + 16 * 8] * 4
    assert assemble(disassemble(program.commands, program.sections)) == list(program.commands)


def test_runs_of_layers() -> None:
    model = Model(MIXED, TINY)
    found = list(runs(MIXED, model.placement, [0]))
    assert [(r.first, r.period, r.rounds) for r in found] == [(0, 2, 2), (4, 1, 1), (5, 1, 1)]
    same = Model(model_of(count=5), TINY)
    (run,) = runs(same.description, same.placement, [0])
    q = [same.placement.matrices[f"layers.{n}.q"].parts[0].address for n in range(2)]
    k = [same.placement.caches[0][n].keys for n in range(2)]
    assert run == Run(0, 1, 5, q[1] - q[0], k[1] - k[0])


def test_long_contexts_keep_one_group_at_a_time() -> None:
    """Where there is no room for two, programs still give the same bits."""
    description = model_of(replace(HEADS, heads=8, kv_heads=2, head_size=32))
    small = Config("small", 128, right_hand_sides=4, vector_blocks=64, buffer_entries=2048)
    large = replace(small, vector_blocks=512, buffer_entries=16384)
    capacity = 256
    with pytest.raises(LimitError, match="has no room for the scores of attention"):
        Model(description, small, capacity=capacity + 64).program()
    assert bits(Model(description, small, capacity=capacity))[:-1] == bits(Model(description, large, capacity=capacity))[:-1]


@pytest.mark.parametrize(
    ("activation", "size", "parts"),
    [(Activation.SILU, 256, 2), (Activation.SILU, 384, 3), (Activation.GELU, 128, 2), (Activation.GELU, 192, 3)],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_experts_in_parts(activation: Activation, size: int, parts: int, batch: int) -> None:
    """Experts too large for the buffer are computed part by part, with the same bits, by whatever comes before."""
    description = model_of(HEADS, Experts(5, 3, FeedForward(size, activation)), count=2)
    small = Config("small", 128, right_hand_sides=2, vector_blocks=64, buffer_entries=1024 * batch)
    cut = Model(description, small, batch=batch)
    assert len(cut.placement.matrices["layers.0.experts_gate"].parts) == parts
    whole = Model(description, replace(small, buffer_entries=16384), batch=batch)
    assert len(whole.placement.matrices["layers.0.experts_gate"].parts) == 1
    assert bits(cut)[:-1] == bits(whole)[:-1]
    compare(Model(description, small, batch=batch), tokens=2)


SIX = Attention(heads=12, kv_heads=6, head_size=32, scale=32**-0.5, rotary_size=32, head_norm=HeadNorm.HEAD)


@pytest.mark.parametrize("attention", [SIX, replace(SIX, head_norm=None), replace(SIX, window=3)])
@pytest.mark.parametrize("rows", [(0,), (0, 0, 0)])
def test_queries_in_parts(attention: Attention, rows: tuple[int, ...]) -> None:
    """q has a part for each KV head; where room is short, their results take turns in two places. No bit depends on either."""
    config = Config("large", 256, right_hand_sides=4, vector_blocks=64, buffer_entries=32768)
    results = []
    for short in (False, True):
        model = Model(model_of(attention), config, batch=4)
        program = program_for(model, rows, buffer_entries=least_room(model, rows, "buffer_entries") if short else 32768)
        assert program is not None
        assert len(places(model, program, "layers.0.q")) == (2 if short else 6)
        for first in (0, len(rows)):
            tokens, positions = [3, 5, 7, 0], [first, first + 1, first + 2, 0]
            results.append(model.run(program, tokens, positions)[0][: len(rows)].tobytes())
    assert results[:2] == results[2:]


def places(model: Model, program: Program, role: str) -> set[int]:
    """Where the results of a matrix with several parts go."""
    sources = [part.address // ADDRESS_UNIT for part in model.placement.matrices[role].parts]
    assert len(sources) > 2
    products = [fields for opcode, fields in map(decode, program.commands) if opcode is Opcode.GEMV]
    return {fields["offset"] for fields in products if fields["source"] in sources}


TWO = replace(HEADS, heads=2, kv_heads=1)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {}),
        ({}, {"biases": ("o", "down")}),
        ({"residual_scale": 0.5}, {}),
        ({"layers": (Layer(TWO, SILU, output_scale=True),) * 2}, {}),
        ({"layers": (Layer(TWO, SILU, parallel=True),) * 2}, {}),
    ],
)
def test_results_that_are_added_part_by_part(changes: dict, options: dict) -> None:
    """The buffer has room for the activations of eight rows, and for two parts of what is added to them: no bit depends on it."""
    results, rows = [], (0,) * 8
    config = Config("eight", 256, right_hand_sides=8, vector_blocks=64, buffer_entries=32768)
    for short in (False, True):
        model = Model(model_of(TWO, hidden=256, **changes), config, batch=8, residual_part=64, **options)
        entries = least_room(model, rows, "buffer_entries", logits=False) if short else config.buffer_entries
        program = program_for(model, rows, logits=False, buffer_entries=entries)
        assert program is not None
        for role in ("layers.0.o", "layers.0.down"):
            assert len(places(model, program, role)) == (2 if short else 4)
        for first in (0, 8):
            model.run(program, [*range(8)], [*range(first, first + 8)])
        first = min(place.keys for caches in model.placement.caches for place in caches)
        results.append(model.device.read(first, min(model.placement.logits) - first))
    assert results[0] == results[1]


def test_results_that_must_be_there_as_a_whole() -> None:
    """A norm of the results needs all of them, and so does a bias that is added before they are scaled."""
    config = Config("eight", 256, right_hand_sides=8, vector_blocks=64, buffer_entries=4096)
    for changes, options in (({"post_norms": True}, {}), ({"residual_scale": 0.5}, {"biases": ("o",)})):
        description = model_of(TWO, hidden=256, **changes)
        model = Model(description, config, batch=8, residual_part=64, **options)
        with pytest.raises(LimitError, match="^the activation buffer has no room for the results of o: 2048 needed, "):
            build_program(description, model.placement, build_of(config), rows=(0,) * 8, logits=False, choose=False)


def test_rows_of_the_parts_of_q() -> None:
    assert query_part_rows(SIX) == 64
    assert query_part_rows(replace(SIX, heads=18)) == 6 * 96  # not a multiple of 64
    assert query_part_rows(replace(SIX, head_norm=HeadNorm.ALL_HEADS)) == 6 * 64
    assert query_part_rows(Attention(heads=32, kv_heads=32, head_size=128, scale=1.0)) == 4 * 128


@pytest.mark.parametrize("description", [model_of(), EXPERTS, model_of(HEADS, FeedForward(2048, Activation.GELU))])
def test_parts(description) -> None:
    build = build_of(TINY)
    rows = feed_forward_part_rows(description, description.layers[0], build)
    assert rows % 64 == 0
    block = description.layers[0].feed_forward
    if isinstance(block, Experts):
        assert rows >= block.expert.size
    else:
        assert rows <= -(-block.size // 8) + 63
    assert head_part_rows(description, build) == 1472
    assert head_part_rows(description, Build(1, 1, 65536, 512)) == 2048


def refused(description, message: str, error: type[Exception] = LimitError, batch: int = 1, **options) -> None:
    build = options.pop("build", build_of(TINY))
    model, placement = imagined(description, build, options.pop("places", batch), options.pop("context", 64))
    placement = options.pop("change", lambda p: p)(placement)
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        build_program(model, placement, build, batch=batch, **options)


def test_what_does_not_fit_is_refused() -> None:
    refused(model_of(), "a pass of the device takes 1 to 1 rows, not 2: use a build with more right_hand_sides", batch=2)
    refused(model_of(), "a pass of the device takes 1 to 1 rows, not 0", batch=0, places=1)
    eight = build_of(Config("eight", 128, right_hand_sides=8, vector_blocks=64, buffer_entries=8192))
    most = "a pass takes at most 8 rows, not 9: take the others after these"
    refused(model_of(), most, batch=9, build=eight)
    refused(
        model_of(hidden=1024),
        "the activation buffer has no room for the results of o: 1024 needed, 976 of 2048 left beside the activations 1024, the"
        " statistic of a norm 4, the factor of a norm 4, a row of the table rope 32, the next tokens 8: it is as large"
        " as the build's buffer_entries",
        build=Build(1, 1, 2048, 64),
    )
    refused(model_of(hidden=96 + 16), "the hidden size must be a multiple of 32, not 112")
    refused(
        model_of(replace(HEADS, heads=1, kv_heads=1, head_size=40)), "heads times head_size must be a multiple of 32, not 40"
    )
    # A context of more than a chunk needs no more room than a chunk.
    for context in (2048, 8192):
        refused(
            model_of(), "the vector slot has no room for the probabilities of attention: 128 needed, 56 of 64", context=context
        )
    refused(
        model_of(HEADS, FeedForward(208, Activation.SILU)), "the size of a feed-forward layer must be a multiple of 32, not 208"
    )
    refused(
        model_of(),
        "the vector slot has no room for the probabilities of attention: 64 needed, 56 of 64 left beside the input of attention and its"
        " output 4, queries 4: it is as large as the build's vector_blocks",
        context=1024,
    )


def test_groups_that_do_not_fit_are_refused() -> None:
    for count, text in ((12, "12 / 2"), (13, "13 / 2")):
        block = Experts(count, 2, SILU, groups=2)
        refused(model_of(HEADS, block), f"groups of experts must have a multiple of 4 each, not {text}")
    block = Experts(16, 5, SILU, groups=4, used_groups=1)
    refused(model_of(HEADS, block), "5 experts can't be chosen from 1 groups of 4")


def test_a_shared_expert_that_the_slots_can_not_hold_is_refused() -> None:
    block = Experts(4, 2, SILU, shared=FeedForward(2048, Activation.SILU))
    refused(
        model_of(HEADS, block),
        "the vector slot has no room for the activations of an expert: 64 needed, 62 of 64 left beside the input of the experts 2: it"
        " is as large as the build's vector_blocks",
    )


SHARED = model_of(HEADS, Experts(6, 3, FeedForward(96, Activation.SILU), shared=SILU, shared_gated=True), count=3)


def test_the_choice_is_made_while_a_shared_expert_streams() -> None:
    """Its first two products are asked for before the number of an expert is waited for, and all of gate and up used after it."""
    model = Model(SHARED, TINY)
    commands = [decode(command) for command in model.program(choose=False).commands]
    assert all(command is not None for command in commands)
    kinds = [command[0] for command in commands if command is not None]
    first = kinds.index(Opcode.READ)
    sources = [f["source"] for o, f in commands[:first] if o is Opcode.GEMV]
    shared = [model.matrices[layer_role(0, f"shared_{name}")].parts[0].address // 64 for name in ("router", "gate", "up")]
    assert sources[-3:] == shared


def test_placements_that_do_not_fit_the_description_are_refused() -> None:
    def without(role: str):
        return lambda p: replace(p, matrices={r: m for r, m in p.matrices.items() if r != role})

    refused(
        model_of(), "the model needs a matrix layers.0.q, which has not been placed", ModelError, change=without("layers.0.q")
    )
    refused(
        model_of(), "the model needs a table final_norm, which has not been placed", ModelError,
        change=lambda p: replace(p, tables={r: t for r, t in p.tables.items() if r != "final_norm"}),
    )  # fmt: skip
    refused(
        model_of(), "head must have 150 rows of 64 elements, not 64 of 128", ModelError,
        change=lambda p: replace(p, matrices={**p.matrices, "head": p.matrices["layers.0.o"]}),
    )  # fmt: skip
    q = "layers.0.q"
    cut = (MatrixPart(0, 0, 96), MatrixPart(0, 96, 32))
    refused(
        model_of(), f"parts of {q} must have a multiple of 64 rows: the queries of whole KV heads", ModelError,
        change=lambda p: replace(p, matrices={**p.matrices, q: replace(p.matrices[q], parts=cut)}),
    )  # fmt: skip
    refused(
        model_of(), "the table rope must have 32 columns, not 64", ModelError,
        change=lambda p: replace(p, tables={**p.tables, "rope": p.tables["final_norm"]}),
    )  # fmt: skip
    refused(
        model_of(), "tokens have been placed for 0 sequences, not for 1", ModelError, change=lambda p: replace(p, tokens=())
    )
    refused(
        model_of(), "caches have been placed for 0 sequences, not for 1", ModelError, change=lambda p: replace(p, caches=())
    )


def test_attention_of_the_description_has_groups() -> None:
    assert Attention(heads=6, kv_heads=2, head_size=32, scale=1.0).group == 3
