from typing import Any

import numpy as np
import pytest

from tailrace.hdl.vector.append import Append
from tailrace.spec.commands import encode
from tailrace.spec.config import Config
from tailrace.spec.floats import flush, half, multiply, reciprocal
from tailrace.spec.isa import Cache, Opcode
from tailrace.spec.kv_cache import (
    codes_of,
    key_block_place,
    key_bytes,
    quantise_keys,
    quantise_values,
    value_bytes,
    value_place,
    value_row_bytes,
)

from ..simulate import simulate
from ..streams import STALLS, Cycles, send
from ..widths import SOME_WIDTHS, WITH_WIDE_BEATS, ports
from .memory_bench import Buffer, Written

CAPACITY = 1 << 14


def scaled(rng: np.random.Generator, count: int) -> np.ndarray:
    """Elements to round: within +-127, half way between integers and next to that, beyond, tiny, infinite."""
    x = rng.uniform(-130, 130, count).astype(np.float32)
    kind = rng.integers(0, 8, count)
    ties = (rng.integers(-128, 128, count) + 0.5).astype(np.float32)
    x = np.where(kind == 0, ties, x)
    x = np.where(kind == 1, np.nextafter(ties, np.float32(0)), x)
    x = np.where(kind == 2, np.nextafter(ties, np.float32(1e9)), x)
    x = np.where(kind == 3, np.ldexp(x, rng.integers(-140, 100, count)).astype(np.float32), x)
    x = np.where((kind == 4) & (rng.random(count) < 0.3), np.float32(np.inf) * np.sign(x), x)
    return x.astype(np.float32)


def nibbles(codes: np.ndarray, upper: bool) -> bytes:
    """A nibble beat of a block."""
    part = codes.astype(np.int64) >> 4 if upper else codes.astype(np.int64)
    return (part[:16] & 15 | (part[16:] & 15) << 4).astype(np.uint8).tobytes()


class Bench:
    def __init__(self, bus_width: int, vector_width: int, seed: int | None) -> None:
        self.settings = Config("test", **ports(bus_width), buffer_entries=2048, vector_width=vector_width)
        #: Elements of a step.
        self.elements = min(self.settings.word_elements, self.settings.lanes)
        self.dut = Append(self.settings)
        self.buffer, self.cycles = Buffer(self.settings, self.dut.a, 3), Cycles()
        self.written = Written(self.settings, self.dut.write, seed)
        self.expected: dict[int, bytes] = {}
        self.seed = seed
        self.commands: list[tuple[bytes, int]] = []

    def add(self, steps: int, **fields: int) -> None:
        self.commands.append((encode(Opcode.APPEND, **fields), steps))

    def keys(self, place: int, token: int, heads: np.ndarray, scales: np.ndarray, **fields: int) -> None:
        """Append keys: scaled elements (heads, count), scales (heads, blocks)."""
        count, lanes = heads.shape[1], self.settings.lanes
        stride = key_bytes(count, CAPACITY, lanes)
        blocks = scales.shape[1]
        for head in range(len(heads)):
            padded = np.zeros(32 * blocks, dtype=np.float32)
            padded[:count] = heads[head]
            for block, codes in enumerate(codes_of(flush(padded)).reshape(-1, 32)):
                scale, upper, lower = (
                    place + head * stride + offset for offset in key_block_place(token, block, blocks, lanes)
                )
                self.expected[scale] = half(scales[head, block]).astype(np.float16).tobytes()
                self.expected[upper], self.expected[lower] = nibbles(codes, True), nibbles(codes, False)
        steps = len(heads) * blocks * (32 // self.elements + 3)
        self.fill(heads, scales, fields)
        shape = {
            "count": count,
            "segments": len(heads),
            "token": token,
            "destination": place // 64,
            "head_stride": stride // 64,
        }
        self.add(steps, cache=Cache.KEYS, **shape, **fields)

    def values(self, place: int, token: int, heads: np.ndarray, scales: np.ndarray, **fields: int) -> None:
        """Append values: scaled elements (heads, count), scales (heads,)."""
        count, lanes = heads.shape[1], self.settings.lanes
        stride, scales_place = value_bytes(count, CAPACITY, lanes), place + (1 << 29)
        for head in range(len(heads)):
            for element, code in enumerate(codes_of(flush(heads[head]))):
                self.expected[place + head * stride + value_place(token, element, CAPACITY, lanes)] = code.tobytes()
            self.expected[scales_place + head * 4 * CAPACITY + 4 * token] = scales[head].tobytes()
        steps = len(heads) * (-(-count // lanes) * lanes // self.elements + 1)
        self.fill(heads, scales[:, None], fields)
        shape = {
            "count": count,
            "segments": len(heads),
            "token": token,
            "destination": place // 64,
            "head_stride": stride // 64,
        }
        rows = {"row_stride": value_row_bytes(CAPACITY, lanes) // 64}
        self.add(steps, cache=Cache.VALUES, **shape, **rows, scales=scales_place // 64, scale_stride=CAPACITY // 16, **fields)

    def fill(self, heads: np.ndarray, scales: np.ndarray, fields: dict[str, int]) -> None:
        for head, elements in enumerate(heads):
            self.buffer.put(fields["a"] + head * fields["a_stride"], elements)
        self.buffer.put(fields["b"], scales.reshape(-1))

    def run(self) -> None:
        dut, cycles = self.dut, self.cycles

        async def testbench(ctx: Any) -> None:
            for n, (command, steps) in enumerate(self.commands):
                ctx.set(dut.index, n)
                start = cycles.now
                await send(ctx, dut.command, [int.from_bytes(command, "little")])
                if self.seed is None:
                    assert cycles.now - start == steps + Append.overhead

        simulate(dut, testbench, background=[cycles.count, self.buffer.answer, self.written.take])
        self.written.check(self.expected, f"stall seed {self.seed}")
        assert self.written.commands == set(range(len(self.commands)))


@pytest.mark.parametrize("seed", STALLS)
@pytest.mark.parametrize(("bus_width", "vector_width"), WITH_WIDE_BEATS)
def test_any_shape(bus_width: int, vector_width: int, seed: int | None) -> None:
    """Head sizes that are no multiple of anything, tokens in every lane and phase, operands that wrap around the buffer's end."""
    bench = Bench(bus_width, vector_width, seed)
    rng = np.random.default_rng([bus_width, seed or 0])
    place = 0
    used = 1800
    for n, (heads, count) in enumerate(
        [(1, 32), (3, 64), (2, 80), (1, 1), (2, 33), (1, 576), (2, 96), (3, 5), (1, 7), (2, 31)]
    ):
        token = int(rng.choice([0, 1, 7, 8, 15, 16, 63, rng.integers(CAPACITY), CAPACITY - 1]))
        stride = -(-count // 4) * 4 + 4 * int(rng.integers(3))
        blocks = -(-count // 32)
        fields = {"a": used % 2048, "a_stride": stride, "b": (used + heads * stride) % 2048}
        used += -(-(heads * stride + heads * blocks) // 4) * 4
        elements = scaled(rng, heads * count).reshape(heads, count)
        place += 1 << 30
        if n % 2 == (seed or 0) % 2:
            # Half of them no float16: subnormal or not, too large, zero.
            scales = np.ldexp(rng.uniform(1, 2, heads * blocks), rng.integers(-28, 18, heads * blocks)).astype(np.float32)
            scales = np.where(rng.random(len(scales)) < 0.5, half(scales), scales) * rng.choice([0, 1, 1, 1], len(scales))
            bench.keys(place, token, elements, scales.astype(np.float32).reshape(heads, blocks), **fields)
        else:
            bench.values(place, token, elements, rng.standard_normal(heads).astype(np.float32), **fields)
    assert used > 2048
    bench.run()


@pytest.mark.parametrize(("bus_width", "vector_width"), SOME_WIDTHS)
def test_cache_of_a_token(bus_width: int, vector_width: int) -> None:
    """Keys and values, quantised by `spec.kv_cache`, are what is written."""
    bench = Bench(bus_width, vector_width, None)
    rng = np.random.default_rng(bus_width)
    keys, values = (rng.standard_normal((2, 64)).astype(np.float32) for _ in range(2))
    keys[1, 32:] = 0
    key_scales, key_codes = quantise_keys(keys)
    wide = key_scales.astype(np.float32)
    elements = multiply(keys.reshape(2, 2, 32), reciprocal(wide)[..., None]).reshape(2, 64)
    bench.keys(1 << 20, 77, elements, wide, a=0, a_stride=64, b=1000)
    value_scales, value_codes = quantise_values(values)
    bench.values(1 << 25, 77, multiply(values, reciprocal(value_scales)[:, None]), value_scales, a=200, a_stride=64, b=1100)
    bench.run()
    lanes = bench.settings.lanes
    _, upper, _ = key_block_place(77, 1, 2, lanes)
    assert bytes(bench.written.bytes[(1 << 20) + upper + n] for n in range(16)) == nibbles(key_codes[0, 1], True)
    assert bench.written.bytes[(1 << 25) + value_place(77, 5, CAPACITY, lanes)] == int(value_codes[0, 5]) & 255


def test_rows_beyond_memory_wrap_around() -> None:
    """The largest token: addresses are modulo 2**address_width."""
    settings = Config("test", 128, buffer_entries=1024, address_width=36)
    dut = Append(settings)
    buffer, written = Buffer(settings, dut.a, 1), Written(settings, dut.write, None)
    token = (1 << 32) - 1
    command = encode(Opcode.APPEND, count=256, segments=1, token=token, destination=1, a=0, b=0)

    async def testbench(ctx: Any) -> None:
        await send(ctx, dut.command, [int.from_bytes(command, "little")])

    simulate(dut, testbench, background=[buffer.answer, written.take])
    places = {(64 + place) % (1 << 36) for block in range(8) for place in key_block_place(token, block, 8, 1)}
    assert places <= set(written.bytes)
    assert len(written.bytes) == 8 * 34
