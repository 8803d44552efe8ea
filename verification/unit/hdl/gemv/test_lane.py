from typing import Any

import numpy as np
import pytest

from tailrace.hdl.gemv.lane import Lane
from tailrace.hdl.gemv.traits import SCALE_KINDS
from tailrace.spec.config import Config
from tailrace.spec.formats import BY_NAME, CODEBOOKS, FORMATS, BeatKind, Format, ScaleKind

from ..simulate import simulate
from . import bench
from .bench import Matrix, Vector


def controls(matrix: Matrix, slots: int) -> list[tuple[dict[str, Any], int]]:
    """Control and vector block of each beat of a lane that holds all rows of a matrix."""
    format, blocks = matrix.format, matrix.stream_blocks
    schedule = list(format.schedule(matrix.rows * matrix.blocks))
    found = []
    for n, (kind, block) in enumerate(schedule):
        second = kind is BeatKind.NIBBLE and n > 0 and schedule[n - 1] == (kind, block)
        upper = format.nibble_beats == 2 and not second
        control = {
            kind.value: 1,
            "upper": upper,
            "lower": second,
            "term": not upper,
            "first": block % blocks == 0,
            "last": block % blocks == blocks - 1,
            "superblock": block % 8 == 7,
            "traits": {
                "scale_kind": SCALE_KINDS.index(format.scale_kind),
                "has_minimum": format.has_minimum,
                "subscales": format.subscale_blocks > 0,
                "centred": format.code_offset != 0,
                "codebook": CODEBOOKS.index(format.codebook),
                "high_bits": format.high_bits,
            },
            "slots": (1 << slots) - 1,
        }
        found.append((control, block % blocks // format.planes))
    return found


def run(config: Config, matrix: Matrix, vectors: list[Vector], rng: np.random.Generator, gaps: float) -> list[list[int]]:
    """Sums that the lane gives, row by row and slot by slot, of all slots of the build."""
    dut = Lane(config)
    beats: list[tuple[dict[str, Any], int | None, bytes]] = []
    for (control, block), data in zip(controls(matrix, len(vectors)), bench.lane_stream(matrix, 0, 1, rng), strict=True):
        while rng.random() < gaps:
            # No beat: all but the kind may be anything.
            anything = {name: int(rng.integers(2)) for name in ("upper", "lower", "term", "first", "last", "superblock")}
            beats.append((control | {kind.value: 0 for kind in BeatKind} | anything, None, b"\x55" * 16))
        beats.append((control, block, data))
    ends = [n for n, (c, _, _) in enumerate(beats) if c.get("nibble") and c["term"] and c["last"]]
    sums: list[list[int]] = []

    async def drive(ctx: bench.Context) -> None:
        # Of the beats of the last two cycles.
        blocks: list[int | None] = [None, None]
        for n in range(len(beats) + dut.latency + 1):
            for slot, vector in enumerate(vectors):
                if blocks[0] is not None:
                    ctx.set(dut.vector[slot], vector.block(blocks[0]))
            control, block, data = beats[n] if n < len(beats) else ({}, None, b"")
            blocks = [blocks[1], block]
            ctx.set(dut.control, control)
            ctx.set(dut.data, int.from_bytes(data, "little"))
            assert ctx.get(dut.done) == (n - dut.latency in ends)
            if ctx.get(dut.done):
                sums.append([ctx.get(dut.sums[slot]) for slot in range(config.right_hand_sides)])
            await ctx.tick()

    simulate(dut, drive)
    return sums


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_every_code_of_every_element(format: Format, rng: np.random.Generator) -> None:
    """Each element takes each value, with a mantissa of its own, and a scale of one."""
    low, high = bench.code_range(format)
    count, row_blocks = high - low, format.row_blocks
    codes = np.array([[(low + (n + 7 * j) % count) for j in range(format.block_elements)] for n in range(count)])
    for element in range(format.block_elements):
        assert sorted(set(codes[:, element])) == list(range(low, high))
    matrix = bench.random_matrix(rng, format, count // row_blocks, row_blocks)
    matrix.codes[:] = np.repeat(codes, format.planes, axis=0).reshape(matrix.codes.shape)
    matrix.scales[:] = matrix.minima[:] = bench.scale_of_one(format)
    mantissas = rng.permutation(np.arange(32)) * 2047 - 32768
    vector = Vector(0, np.zeros(row_blocks, dtype=int), np.tile(mantissas, (row_blocks, 1)))
    got = run(Config("test", 128), matrix, [vector], rng, 0)
    assert got == [[bench.exact_sum(matrix, row, vector)] for row in range(matrix.rows)]


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("gaps", [0, 0.4])
def test_random_rows(format: Format, gaps: float, rng: np.random.Generator) -> None:
    blocks = 8 if format.row_blocks > 1 else 9
    matrix = bench.random_matrix(rng, format, 6, blocks)
    vectors = [bench.random_vector(rng, blocks) for _ in range(2)]
    got = run(Config("test", 128, right_hand_sides=2), matrix, vectors, rng, gaps)
    assert got == [[bench.exact_sum(matrix, row, v) for v in vectors] for row in range(matrix.rows)]


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("sign", [0, 1])
def test_largest_sums(format: Format, sign: int, rng: np.random.Generator) -> None:
    """Codes, mantissas, scales, exponents all at the end of their range: nothing overflows."""
    low, high = bench.code_range(format)
    matrix = bench.random_matrix(rng, format, 2, 8)
    matrix.codes[0], matrix.codes[1] = low, high - 1
    if format.codebook:
        matrix.codes[0], matrix.codes[1] = np.argmin(format.codebook), np.argmax(format.codebook)
    matrix.scales[:] = matrix.minima[:] = bench.largest_scale(format, sign)
    if format.scale_kind is ScaleKind.SUPERBLOCK:
        matrix.subscales[:] = matrix.subminima[:] = 63
    elif format.scale_kind is ScaleKind.SIGNED_SUPERBLOCK:
        matrix.subscales[:] = -32 if sign else 31
    elif format.subscale_blocks and format.has_minimum:
        matrix.subscales[:] = matrix.subminima[:] = 15
    elif format.subscale_blocks:
        matrix.subscales[:] = -128 if sign else 127
    vectors = [Vector(0, np.full(8, 31), np.full((8, 32), m)) for m in (-32768, 32767)]
    got = run(Config("test", 128, right_hand_sides=2), matrix, vectors, rng, 0)
    assert got == [[bench.exact_sum(matrix, row, v) for v in vectors] for row in range(matrix.rows)]


def test_slots_that_take_no_part_stand_still(rng: np.random.Generator) -> None:
    matrix = bench.random_matrix(rng, BY_NAME["Q4_1"], 3, 2)
    vector = bench.random_vector(rng, 2)
    got = run(Config("test", 128, right_hand_sides=2), matrix, [vector], rng, 0.3)
    assert got == [[bench.exact_sum(matrix, row, vector), 0] for row in range(matrix.rows)]
