import random
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from tailrace.hdl.slots.loader import VectorLoader
from tailrace.hdl.slots.memory import VectorMemory
from tailrace.spec.commands import encode
from tailrace.spec.config import Config
from tailrace.spec.isa import Opcode

from ..simulate import simulate
from ..streams import STALLS, Cycles, send
from .bench import Slots, config, half_sums, image

Vector = tuple[int, np.ndarray, np.ndarray]


def draw(rng: np.random.Generator, blocks: int) -> Vector:
    mantissas = rng.integers(-32768, 32768, (blocks, 32)).astype(np.int16)
    # The largest sums, of either sign.
    mantissas[rng.integers(0, blocks)] = rng.choice(np.array([-32768, 32767], dtype=np.int16))
    return int(rng.integers(-172, 84)), rng.integers(0, 32, blocks).astype(np.uint8), mantissas


def load_command(slot: int, blocks: int, **fields: int) -> int:
    return int.from_bytes(encode(Opcode.LOAD_VECTOR, pending=7, source=99, slot=slot, blocks=blocks, **fields), "little")


def check(slots: Slots, slot: int, vector: Vector, what: str, set: int = 0, first_block: int = 0) -> None:
    base, exponents, mantissas = vector
    places = (first_block + np.arange(len(exponents))) % slots.exponents.shape[1]
    assert slots.bases[slot, set] == base, what
    np.testing.assert_array_equal(slots.exponents[slot, places], base + (exponents.astype(int) & 31), err_msg=what)
    np.testing.assert_array_equal(slots.mantissas[slot, places], mantissas, err_msg=what)
    np.testing.assert_array_equal(slots.totals[slot, places], half_sums(mantissas), err_msg=what)


def load(settings: Config, jobs: list[tuple[int, Vector]], seed: int | None, **fields: int) -> tuple[Slots, int, int]:
    """Load vectors, one command after the other; give what was written, the beats, and the cycles that they took."""
    dut = VectorLoader(settings)
    assert dut.commit_latency == 3
    slots, cycles = Slots(settings, dut.write), Cycles()
    beats = [beat for _, vector in jobs for beat in image(*vector, settings)]
    taken = 0

    async def commands(ctx: Any) -> None:
        await send(ctx, dut.command, [load_command(slot, len(v[1]), **fields) for slot, v in jobs], seed)
        written = [list(slots.when[kind]) for kind in ("beat", "commit", "base")]
        await ctx.tick().repeat(10)
        assert written == [slots.when[kind] for kind in ("beat", "commit", "base")], "a write after the command was taken"

    async def data(ctx: Any) -> None:
        nonlocal taken
        await send(ctx, dut.i, beats, None if seed is None else seed + 100)
        taken = cycles.now

    simulate(dut, commands, data, background=[cycles.count, slots.record])
    return slots, len(beats), taken


@pytest.mark.parametrize("seed", STALLS[:2])
@pytest.mark.parametrize("blocks", [1, 2, 17, 64])
@pytest.mark.parametrize(("bus_width", "right_hand_sides"), [(128, 2), (256, 1), (512, 4)])
def test_one_vector(bus_width: int, right_hand_sides: int, blocks: int, seed: int | None) -> None:
    settings = config(bus_width, right_hand_sides)
    vector = draw(np.random.default_rng(blocks), blocks)
    where = {"set": blocks % 4, "first_block": blocks * 5 % 64}
    slots, beats, cycles = load(settings, [(right_hand_sides - 1, vector)], seed, **where)
    check(slots, right_hand_sides - 1, vector, f"stall seed {seed}", **where)
    assert len(slots.when["beat"]) == blocks * 512 // bus_width
    assert len(slots.when["commit"]) == blocks
    assert len(slots.when["base"]) == 1
    if seed is None:
        assert cycles == beats


@pytest.mark.parametrize("blocks", [65, 128, 129, 256])
@pytest.mark.parametrize("bus_width", [128, 256, 512])
def test_more_than_one_line_of_exponents(bus_width: int, blocks: int) -> None:
    settings = Config("test", bus_width, vector_blocks=256)
    vector = draw(np.random.default_rng(blocks), blocks)
    slots, beats, cycles = load(settings, [(0, vector)], None)
    check(slots, 0, vector, "no stalls")
    assert cycles == beats


@pytest.mark.parametrize("seed", STALLS)
@pytest.mark.parametrize("bus_width", [128, 256, 512])
def test_one_command_after_the_other(bus_width: int, seed: int | None) -> None:
    """Each slot holds the last vector that it got, and what a longer one before it left."""
    settings = config(bus_width, 4)
    rng = np.random.default_rng(bus_width)
    jobs = [(int(rng.integers(0, 4)), draw(rng, int(rng.choice([1, 1, 2, 3, 20])))) for _ in range(12)]
    slots, beats, cycles = load(settings, jobs, seed, set=1)
    expected = Slots(settings, None)
    for slot, (base, exponents, mantissas) in jobs:
        blocks = len(exponents)
        expected.bases[slot, 1] = base
        expected.exponents[slot, :blocks] = base + exponents.astype(int)
        expected.mantissas[slot, :blocks] = mantissas
        expected.totals[slot, :blocks] = half_sums(mantissas)
    for name in ("bases", "exponents", "mantissas", "totals"):
        np.testing.assert_array_equal(getattr(slots, name), getattr(expected, name), err_msg=f"stall seed {seed}, {name}")
    if seed is None:
        # Between two vectors the last one's sums are written.
        assert cycles == beats + (len(jobs) - 1) * 3


@pytest.mark.parametrize("bus_width", [128, 256, 512])
def test_latency(bus_width: int) -> None:
    settings = config(bus_width)
    parts, blocks = 512 // bus_width, 5
    slots, beats, _ = load(settings, [(0, draw(np.random.default_rng(1), blocks))], None)
    # Beat n is taken in cycle n (from 0); `when` counts the edges up to and including the one that ends the cycle of the write.
    assert slots.when["base"] == [2]
    assert slots.when["beat"] == [n + 2 for n in range(2 * parts, beats)]
    assert slots.when["commit"] == [(3 + block) * parts + 3 for block in range(blocks)]


def test_ignores_the_upper_bits_of_exponents() -> None:
    settings = config()
    base, exponents, mantissas = draw(np.random.default_rng(3), 40)
    vector = (base, exponents | np.uint8(0xE0), mantissas)
    slots, _, _ = load(settings, [(0, vector)], None)
    check(slots, 0, vector, "no stalls")


def test_takes_nothing_without_a_command() -> None:
    dut = VectorLoader(config())

    async def testbench(ctx: Any) -> None:
        ctx.set(dut.i.valid, 1)
        for _ in range(5):
            assert not ctx.get(dut.i.ready)
            await ctx.tick()
        ctx.set(dut.command.payload, load_command(0, 1))
        ctx.set(dut.command.valid, 1)
        assert ctx.get(dut.i.ready)

    simulate(dut, testbench)


@pytest.mark.parametrize("bus_width", [128, 256, 512])
def test_memory_is_right_after_the_command(bus_width: int) -> None:
    """Read the last block in the cycle after the one in which the command was taken."""
    settings = config(bus_width, 2)
    m = Module()
    m.submodules.loader = loader = VectorLoader(settings)
    m.submodules.memory = memory = VectorMemory(settings)
    wiring.connect(m, loader.write, memory.write)
    rng = np.random.default_rng(bus_width)
    vectors = [draw(rng, blocks) for blocks in (1, 3, 1)]

    async def commands(ctx: Any) -> None:
        stalls = random.Random(1)
        ctx.set(memory.set, 3)
        for base, exponents, mantissas in vectors:
            blocks = len(exponents)
            ctx.set(memory.vector_block, 9 + blocks)
            await send(ctx, loader.command, [load_command(1, blocks, set=3, first_block=10)])
            assert ctx.get(memory.bases[1][3]) == base
            await ctx.tick()
            vector = memory.vector[1]
            assert ctx.get(vector.exponent) == exponents[-1]
            assert not ctx.get(vector.zero)
            assert [ctx.get(total) for total in vector.totals] == list(half_sums(mantissas[-1]))
            assert [ctx.get(vector.mantissas[n]) for n in range(32)] == list(mantissas[-1])
            await ctx.tick().repeat(stalls.randrange(1, 4))

    async def data(ctx: Any) -> None:
        await send(ctx, loader.i, [beat for vector in vectors for beat in image(*vector, settings)])

    simulate(m, commands, data)
