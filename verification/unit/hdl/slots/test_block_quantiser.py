from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from tailrace.hdl.slots.block_quantiser import BlockQuantiser
from tailrace.hdl.slots.memory import VectorMemory
from tailrace.spec.config import Config
from tailrace.spec.numerics import MANTISSA_MAX, quantise

from ..simulate import simulate
from ..streams import STALLS, Cycles, send
from ..widths import WIDTHS
from .bench import INFINITY, SIGN, Slots, close, config, float_bits, half_sums, rough, vectors


def words(settings: Config, bits: np.ndarray, slot: int, block: int, **flags: int) -> list[dict[str, Any]]:
    """The words of a vector or segment. Missing elements of the last word are masked, with something else in their place."""
    elements = settings.word_elements
    padded = np.full(-(-len(bits) // elements) * elements, 0x7F7F_FFFF, dtype=np.uint32)
    padded[: len(bits)] = bits
    result = []
    for n in range(0, len(bits), elements):
        word = {
            "data": [int(value) for value in padded[n : n + elements]],
            "mask": (1 << min(elements, len(bits) - n)) - 1,
            "slot": slot,
            "block": block if n == 0 else 0,
            "first": n == 0,
            "last": n + elements >= len(bits),
            **flags,
        }
        result.append({**word, "final": word["last"] and flags.get("final", 0)})
    return result


def run(settings: Config, commands: list[list[dict[str, Any]]], seed: int | None = None) -> tuple[Slots, list[tuple[int, int]]]:
    """Quantise; give what was written, and for each command the cycles that its words took, and those until it was idle."""
    dut = BlockQuantiser(settings)
    slots, cycles = Slots(settings, dut.write), Cycles()
    took = []

    async def bases(ctx: Any) -> None:
        base = dut.write.base
        async for _, _, enable, slot, set, value in ctx.tick().sample(base.enable, base.slot, base.set, base.base):
            if enable:
                ctx.set(dut.bases[slot][set], value)

    async def testbench(ctx: Any) -> None:
        for n, command in enumerate(commands):
            assert ctx.get(dut.idle)
            start = cycles.now
            await send(ctx, dut.i, command, None if seed is None else seed + n)
            sent = cycles.now
            while not ctx.get(dut.idle):
                await ctx.tick()
            took.append((sent - start, cycles.now - sent))
        writes = {kind: list(when) for kind, when in slots.when.items()}
        await ctx.tick().repeat(20)
        assert writes == slots.when, "a write after idle"

    simulate(dut, testbench, background=[cycles.count, slots.record, bases])
    return slots, took


@pytest.mark.parametrize("seed", STALLS)
@pytest.mark.parametrize(("bus_width", "vector_width"), WIDTHS)
def test_equals_spec(bus_width: int, vector_width: int, seed: int | None) -> None:
    right_hand_sides = {128: 1, 256: 4, 512: 2}[bus_width]
    settings = config(bus_width, right_hand_sides, vector_width)
    for n, (name, bits) in enumerate(vectors().items()):
        if seed is not None and n % 3 != seed:
            continue
        slot, set, block = n % right_hand_sides, n % 4, (n * 37) % 64
        slots, ((sending, _),) = run(settings, [words(settings, bits, slot, block, set=set, final=1)], seed)
        slots.check(bits, slot, set, block, f"{name}, stall seed {seed}")
        assert len(slots.when["beat"]) == len(bits) * 16 // bus_width
        assert len(slots.when["commit"]) == len(bits) // 32
        assert len(slots.when["base"]) == 1
        if seed is None:
            assert sending == len(bits) // settings.word_elements, "one word a cycle"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("bus_width", "vector_width"), WIDTHS)
def test_random_commands(bus_width: int, vector_width: int, seed: int) -> None:
    """Commands of several segments, each to the next slot or behind the one before it, of any length, duplicated or not, joined
    or not."""
    rng = np.random.default_rng([seed, bus_width, vector_width])
    settings = config(bus_width, 4, vector_width)
    expected = Slots(settings, None)
    bases = np.zeros((4, 4), dtype=int)
    commands = []
    for _ in range(14):
        count, segments = int(rng.choice([rng.integers(1, 5), rng.integers(1, 100)])), int(rng.integers(1, 5))
        next_slot, duplicate, join = (int(bit) for bit in rng.integers(0, 2, 3))
        set, slot, block = int(rng.integers(4)), int(rng.integers(4)), int(rng.integers(64))
        size = 16 if duplicate else 32
        blocks = -(-count // size)
        found: dict[int, int] = {}
        commands.append([])
        for segment in range(segments):
            bits = (rough if rng.integers(4) == 0 else close)(rng, 4)[:count]
            at, first = (slot + segment * next_slot) % 4, (block + (1 - next_slot) * segment * blocks) % 64
            flags = {"set": set, "duplicate": duplicate, "join": join, "final": segment == segments - 1}
            commands[-1] += words(settings, bits, at, first, **flags)
            padded = np.zeros(blocks * size, dtype=np.uint32)
            padded[:count] = bits
            for n, elements in enumerate(padded.reshape(-1, size)):
                base, _, mantissas = quantise(np.tile(elements, 1 + duplicate).view(np.float32))
                place = at, (first + n) % 64
                expected.exponents[place], expected.mantissas[place] = base + 31, mantissas
                expected.totals[place] = half_sums(mantissas[0])
                found[at] = max(found.get(at, base), base)
        for at, base in found.items():
            bases[at, set] = max(base, bases[at, set]) if join else base
            expected.bases[at, set] = bases[at, set]
    slots, _ = run(settings, commands, None if seed == 0 else seed)
    for name in ("bases", "exponents", "mantissas", "totals"):
        np.testing.assert_array_equal(getattr(slots, name), getattr(expected, name), err_msg=f"seed {seed}, {name}")


@pytest.mark.parametrize("duplicate", [0, 1])
@pytest.mark.parametrize(("bus_width", "vector_width"), WIDTHS)
def test_rate_and_latency(bus_width: int, vector_width: int, duplicate: int) -> None:
    """One word a cycle, also across the segments of a command; then a block's words, 10 cycles, and one for each slot."""
    settings = config(bus_width, 2, vector_width)
    bits = close(np.random.default_rng(3), 4)
    command = words(settings, bits, 0, 0, duplicate=duplicate) + words(settings, bits, 1, 0, duplicate=duplicate, final=1)
    _, ((sending, finishing),) = run(settings, [command])
    assert sending == len(command)
    block_words = (16 if duplicate else 32) // settings.word_elements
    assert finishing == block_words + BlockQuantiser.overhead + settings.right_hand_sides


def test_infinity_counts_as_two_to_the_128() -> None:
    settings = config()
    bits = rough(np.random.default_rng(5), 2, 240, 254)
    bits[3], bits[40] = INFINITY, INFINITY | SIGN
    slots, _ = run(settings, [words(settings, bits, 0, 0, final=1)])
    values = bits.view(np.float32).astype(np.float64)
    values[3], values[40] = 2.0**128, -(2.0**128)
    base, exponents, mantissas = slots.vector(0, 0, 0, 2)
    assert base == 255 - 172
    np.testing.assert_array_equal(exponents, [31, 31])
    expected = np.clip(np.rint(np.ldexp(values, -(base + 31))), -MANTISSA_MAX, MANTISSA_MAX)
    np.testing.assert_array_equal(mantissas.reshape(-1), expected)
    assert mantissas[0, 3] == 16384
    assert mantissas[1, 8] == -16384


def test_with_the_vector_memory() -> None:
    """What is read in the cycle in which the quantiser says idle is the new vector."""
    settings = config(256, 2)
    bits = np.concatenate([close(np.random.default_rng(21), 2), float_bits(np.full(32, 1e-30))])
    m = Module()
    m.submodules.quantiser = quantiser = BlockQuantiser(settings)
    m.submodules.memory = memory = VectorMemory(settings)
    wiring.connect(m, quantiser.write, memory.write)
    m.d.comb += quantiser.bases.eq(memory.bases)
    base, exponents, mantissas = quantise(bits.view(np.float32))
    assert not mantissas[2].any()

    async def testbench(ctx: Any) -> None:
        await send(ctx, quantiser.i, words(settings, bits, 1, 5, set=2, final=1))
        ctx.set(memory.set, 2)
        for block in (2, 0, 1):
            ctx.set(memory.vector_block, 5 + block)
            while not ctx.get(quantiser.idle):
                await ctx.tick()
            assert ctx.get(memory.bases[1][2]) == base
            await ctx.tick()
            vector = memory.vector[1]
            assert ctx.get(vector.zero) == (block == 2)
            if block < 2:
                assert ctx.get(vector.exponent) == exponents[block]
                assert [ctx.get(total) for total in vector.totals] == list(half_sums(mantissas[block]))
                assert [ctx.get(vector.mantissas[n]) for n in range(32)] == list(mantissas[block])

    simulate(m, testbench)
