import random
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from tailrace.hdl.vector.memory import VectorMemory
from tailrace.hdl.vector.quantiser import Quantiser
from tailrace.hdl.vector.result_buffer import ResultBuffer
from tailrace.spec.config import Config
from tailrace.spec.numerics import BASE_BIAS, MANTISSA_MAX, quantise

from ..simulate import simulate
from .bench import Cycles, Slots, config, send

SIGN, INFINITY = 0x8000_0000, 0x7F80_0000


def float_bits(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32).view(np.uint32)


def rough(rng: np.random.Generator, blocks: int, lowest: int = 0, highest: int = 254) -> np.ndarray:
    """Any finite float32 whose biased exponent lies in a range; with short fractions, so that there are ties."""
    count = 32 * blocks
    exponent = rng.integers(lowest, highest + 1, count, dtype=np.uint32)
    fraction = rng.integers(0, 1 << 23, count, dtype=np.uint32)
    length = rng.integers(0, 24, count, dtype=np.uint32)
    fraction &= ((np.uint32(1) << length) - 1) << (np.uint32(23) - length)
    return rng.integers(0, 2, count, dtype=np.uint32) << 31 | exponent << 23 | fraction


def close(rng: np.random.Generator, blocks: int) -> np.ndarray:
    """Blocks whose elements lie within the 16 places of a mantissa, and blocks within the window of block exponents."""
    parts = []
    for _ in range(blocks):
        highest = int(rng.integers(80, 130))
        parts.append(rough(rng, 1, highest - 20, highest))
    return np.concatenate(parts)


def around_ties() -> np.ndarray:
    """Block d: a one, then elements d binary places below it, half way between two mantissas or one bit above that."""
    blocks = []
    for distance in range(16):
        exponent = (127 - distance) << 23
        tie = (1 << (8 + distance)) & 0x7F_FFFF
        block = [127 << 23, exponent | tie, *(exponent | tie | 1 << n for n in range(8 + distance))]
        blocks.append(np.array([*block, *([exponent | tie | SIGN] * (32 - len(block)))], dtype=np.uint32))
    return np.concatenate(blocks)


def vectors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    ones = float_bits(np.ones(32))
    tie = np.array([1 + k / 32 for k in range(32)])
    single = np.zeros(64, dtype=np.uint32)
    single[37] = float_bits(np.array([-3.14159]))[0]
    floor = rough(rng, 4, 60, 90)
    floor[5] = 200 << 23
    almost = np.full(32, 0x3FFF_FFFF, dtype=np.uint32)
    almost[::2] |= SIGN
    return {
        "zeros": np.zeros(64, dtype=np.uint32),
        "negative zeros": np.full(32, SIGN, dtype=np.uint32),
        "subnormals alone": rough(rng, 2, 0, 0),
        "smallest normals": rough(rng, 3, 0, 5),
        "largest": rough(rng, 3, 230, 254),
        "ones": ones,
        "one element": single,
        "rounds up to 2**15": almost,
        "ties": float_bits(np.concatenate([tie * 2.0**-k for k in range(18)])),
        "ties below one large": float_bits(np.concatenate([[16384.0], np.arange(31) / 2, -np.arange(32) / 2])),
        "around ties": around_ties(),
        "exponent floor": floor,
        "everything": rough(rng, 8),
        "close 1": close(rng, 1),
        "close 8": close(rng, 8),
        "close 15": close(rng, 15),
        "normal": float_bits(rng.standard_normal(96)),
    }


def place(bits: np.ndarray, offset: int, stride: int, entries: int) -> list[int]:
    """Contents of the result buffer: the vector at its places, and large values everywhere else."""
    buffer = np.full(entries, 0x7F7F_FFFF, dtype=np.uint32)
    buffer[offset : offset + stride * len(bits) : stride] = bits
    return [int(value) for value in buffer]


def run(
    settings: Config, jobs: list[tuple[list[int], dict[str, int]]], seed: int | None = None
) -> list[tuple[dict[str, Any], int]]:
    """Quantise; give the contents of the command's slot afterwards, and the cycles that the command took."""
    dut = Quantiser(settings)
    slots, cycles = Slots(settings, dut.write), Cycles()
    contents: list[int] = []
    results = []

    async def buffer(ctx: Any) -> None:
        async for _, _, address in ctx.tick().sample(dut.read.address):
            ctx.set(dut.read.data, contents[address])

    async def testbench(ctx: Any) -> None:
        nonlocal contents
        stalls = random.Random(seed)
        for entries, command in jobs:
            contents = entries
            if seed is not None:
                await ctx.tick().repeat(stalls.randrange(1, 5))
                assert ctx.get(dut.idle)
            start, blocks, slot = cycles.now, command["blocks"], command["slot"]
            ctx.set(dut.command.valid, 1)
            assert not ctx.get(dut.idle)
            await send(ctx, dut.command, [command])
            assert ctx.get(dut.idle)
            # The writes of the cycle before are done: nothing may follow them.
            found = {
                "base": int(slots.bases[slot]),
                "exponents": slots.exponents[slot, :blocks].copy(),
                "mantissas": slots.mantissas[slot, :blocks].copy(),
                "totals": slots.totals[slot, :blocks].copy(),
            }
            results.append((found, cycles.now - start))

    simulate(dut, testbench, background=[cycles.count, slots.record, buffer])
    return results


def check(found: dict[str, Any], bits: np.ndarray, name: str) -> None:
    base, exponents, mantissas = quantise(bits.view(np.float32))
    assert found["base"] == base, name
    np.testing.assert_array_equal(found["exponents"], exponents, err_msg=name)
    np.testing.assert_array_equal(found["mantissas"], mantissas, err_msg=name)
    np.testing.assert_array_equal(found["totals"], mantissas.sum(axis=1, dtype=np.int64), err_msg=name)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(("bus_width", "right_hand_sides"), [(128, 1), (256, 4), (512, 2)])
def test_equals_spec(bus_width: int, right_hand_sides: int, seed: int | None) -> None:
    settings = config(bus_width, right_hand_sides)
    cases = vectors()
    jobs = []
    for n, bits in enumerate(cases.values()):
        blocks, stride = len(bits) // 32, 1 + n % 3
        offset = (n * 37) % (settings.result_entries - len(bits) * stride)
        command = {"slot": n % right_hand_sides, "offset": offset, "blocks": blocks, "stride": stride}
        jobs.append((place(bits, offset, stride, settings.result_entries), command))
    for (found, cycles), (name, bits) in zip(run(settings, jobs, seed), cases.items(), strict=True):
        check(found, bits, name)
        assert cycles == 64 * (len(bits) // 32) + Quantiser.overhead, name


def test_full_length_with_stride_4() -> None:
    settings = config(result_entries=8192)
    bits = close(np.random.default_rng(11), 64)
    command = {"slot": 0, "offset": 0, "blocks": 64, "stride": 4}
    ((found, cycles),) = run(settings, [(place(bits, 0, 4, 8192), command)])
    check(found, bits, "full length")
    assert cycles == 64 * 64 + Quantiser.overhead


def test_last_entries_of_the_buffer() -> None:
    settings = config()
    bits = close(np.random.default_rng(12), 1)
    command = {"slot": 0, "offset": 2048 - 32, "blocks": 1, "stride": 1}
    ((found, _),) = run(settings, [(place(bits, 2048 - 32, 1, 2048), command)])
    check(found, bits, "last entries")


@pytest.mark.parametrize("seed", range(4))
def test_random_vectors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    settings = config()
    cases = [(rough if n % 4 == 0 else close)(rng, int(rng.integers(1, 7))) for n in range(12)]
    jobs = [(place(bits, 0, 1, 2048), {"slot": 0, "offset": 0, "blocks": len(bits) // 32, "stride": 1}) for bits in cases]
    for n, ((found, _), bits) in enumerate(zip(run(settings, jobs), cases, strict=True)):
        check(found, bits, f"seed {seed}, vector {n}")


def test_infinity_counts_as_two_to_the_128() -> None:
    bits = rough(np.random.default_rng(5), 2, 240, 254)
    bits[3], bits[40] = INFINITY, INFINITY | SIGN
    ((found, _),) = run(config(), [(place(bits, 0, 1, 2048), {"slot": 0, "offset": 0, "blocks": 2, "stride": 1})])
    values = bits.view(np.float32).astype(np.float64)
    values[3], values[40] = 2.0**128, -(2.0**128)
    assert found["base"] == 255 - BASE_BIAS
    np.testing.assert_array_equal(found["exponents"], [31, 31])
    expected = np.clip(np.rint(np.ldexp(values, -(255 - BASE_BIAS + 31))), -MANTISSA_MAX, MANTISSA_MAX)
    np.testing.assert_array_equal(found["mantissas"].reshape(-1), expected)
    assert found["mantissas"][0, 3] == 16384
    assert found["mantissas"][1, 8] == -16384


def test_with_the_memories_around_it() -> None:
    """Results written to the buffer, quantised, and read from the vector memory in the cycle in which it says idle."""
    settings = config(256, 2)
    bits = close(np.random.default_rng(21), 3)
    m = Module()
    m.submodules.results = results = ResultBuffer(settings)
    m.submodules.quantiser = quantiser = Quantiser(settings)
    m.submodules.memory = memory = VectorMemory(settings)
    wiring.connect(m, results.read, quantiser.read)
    wiring.connect(m, quantiser.write, memory.write)
    base, exponents, mantissas = quantise(bits.view(np.float32))

    async def testbench(ctx: Any) -> None:
        ctx.set(results.write.enable, 1)
        for address, value in enumerate(bits):
            ctx.set(results.write.address, address)
            ctx.set(results.write.data, int(value))
            await ctx.tick()
        ctx.set(results.write.enable, 0)
        await send(ctx, quantiser.command, [{"slot": 1, "offset": 0, "blocks": 3, "stride": 1}])
        assert ctx.get(quantiser.idle)
        assert ctx.get(memory.bases[1]) == base
        for block in (2, 0, 1):
            ctx.set(memory.vector_block, block)
            await ctx.tick()
            vector = memory.vector[1]
            assert ctx.get(vector.exponent) == exponents[block]
            assert ctx.get(vector.total) == mantissas[block].sum()
            assert [ctx.get(vector.mantissas[n]) for n in range(32)] == list(mantissas[block])

    simulate(m, testbench)
