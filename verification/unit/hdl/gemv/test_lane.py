from typing import Any

import numpy as np
import pytest

from tailrace.hdl.gemv.lane import Lane
from tailrace.hdl.gemv.traits import OFFSETS, SIGNED_OFFSET
from tailrace.spec.config import Config
from tailrace.spec.formats import FORMATS, BeatKind, Format

from ..simulate import simulate
from . import bench
from .bench import Matrix, Vector


def controls(matrix: Matrix, slots: int) -> list[tuple[dict[str, int], int]]:
    """Control and vector block of each beat of a lane that holds all rows of a matrix."""
    format, blocks = matrix.format, matrix.blocks
    schedule = list(format.schedule(matrix.rows * blocks))
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
            "has_high": format.high_bits,
            "has_minimum": format.has_minimum,
            "offset": OFFSETS.index(SIGNED_OFFSET if upper else format.code_offset),
            "slots": (1 << slots) - 1,
        }
        found.append((control, block % blocks))
    return found


def run(config: Config, matrix: Matrix, vectors: list[Vector], rng: np.random.Generator, gaps: float) -> list[list[int]]:
    """Sums that the lane gives, row by row and slot by slot, of all slots of the build."""
    dut = Lane(config)
    beats: list[tuple[dict[str, int], int | None, bytes]] = []
    for (control, block), data in zip(controls(matrix, len(vectors)), bench.lane_stream(matrix, 0, 1), strict=True):
        while rng.random() < gaps:
            # No beat: all but the kind may be anything.
            beats.append(
                (
                    {name: int(rng.integers(2)) for name in control if name not in ("scale", "high", "nibble")},
                    None,
                    b"\x55" * 16,
                )
            )
        beats.append((control, block, data))
    ends = [n for n, (c, _, _) in enumerate(beats) if c.get("nibble") and c["term"] and c["last"]]
    sums: list[list[int]] = []

    async def drive(ctx: bench.Context) -> None:
        block: int | None = None
        for n in range(len(beats) + dut.latency + 1):
            for slot, vector in enumerate(vectors):
                if block is not None:
                    ctx.set(dut.vector[slot], vector.block(block))
            control, block, data = beats[n] if n < len(beats) else ({}, None, b"")
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
    codes = np.array([[(low + (n + 7 * j) % (high - low)) for j in range(32)] for n in range(high - low)])
    one = np.full((len(codes), 1), 0x3C00)
    matrix = Matrix(format, codes[:, None, :], one, np.zeros_like(one))
    for element in range(32):
        assert sorted(set(codes[:, element])) == list(range(low, high))
    vectors = []
    for part in range(4):
        mantissas = np.zeros((1, 32), dtype=int)
        mantissas[0, part::4] = rng.permutation([1, -3, 7, 101, -2221, 9001, 20011, -32768])
        vectors.append(Vector(0, np.array([0]), mantissas))
    got = run(Config("test", 128, right_hand_sides=4), matrix, vectors, rng, 0)
    assert got == [[bench.exact_sum(matrix, row, v) for v in vectors] for row in range(matrix.rows)]


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("gaps", [0, 0.4])
def test_random_rows(format: Format, gaps: float, rng: np.random.Generator) -> None:
    matrix = bench.random_matrix(rng, format, 6, 9)
    vectors = [bench.random_vector(rng, 9) for _ in range(2)]
    got = run(Config("test", 128, right_hand_sides=2), matrix, vectors, rng, gaps)
    assert got == [[bench.exact_sum(matrix, row, v) for v in vectors] for row in range(matrix.rows)]


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("sign", [0, 1])
def test_largest_sums(format: Format, sign: int, rng: np.random.Generator) -> None:
    """Codes, mantissas, scales, exponents all at the end of their range: nothing overflows."""
    low, high = bench.code_range(format)
    rows: list[Any] = [np.full((8, 32), low), np.full((8, 32), high - 1)]
    scales = np.full((2, 8), 0x7FFF | sign << 15)
    matrix = Matrix(format, np.array(rows), scales, scales)
    vectors = [Vector(0, np.full(8, 31), np.full((8, 32), m)) for m in (-32768, 32767)]
    got = run(Config("test", 128, right_hand_sides=2), matrix, vectors, rng, 0)
    assert got == [[bench.exact_sum(matrix, row, v) for v in vectors] for row in range(matrix.rows)]


def test_slots_that_take_no_part_stand_still(rng: np.random.Generator) -> None:
    matrix = bench.random_matrix(rng, FORMATS[2], 3, 2)
    vector = bench.random_vector(rng, 2)
    got = run(Config("test", 128, right_hand_sides=2), matrix, [vector], rng, 0.3)
    assert got == [[bench.exact_sum(matrix, row, vector), 0] for row in range(matrix.rows)]
