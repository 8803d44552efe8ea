"""What the tests of the vector part share: streams driven with and without stalls, and models of what surrounds a block."""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np

from tailrace.spec.config import Config
from tailrace.spec.vector import pack_vector

#: None: never stall. Otherwise the seed of stalls in about half of the cycles.
STALLS = (None, 1, 2)


def config(bus_width: int = 128, right_hand_sides: int = 1, result_entries: int = 2048) -> Config:
    return Config("test", bus_width, right_hand_sides, vector_blocks=64, result_entries=result_entries)


async def _stall(ctx: Any, stalls: random.Random | None) -> None:
    while stalls is not None and stalls.random() < 0.5:
        await ctx.tick()


async def send(ctx: Any, stream: Any, payloads: Iterable[Any], seed: int | None = None) -> None:
    stalls = None if seed is None else random.Random(seed)
    for payload in payloads:
        await _stall(ctx, stalls)
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        await ctx.tick().until(stream.ready)
        ctx.set(stream.valid, 0)


async def receive(ctx: Any, stream: Any, count: int, seed: int | None = None) -> list[Any]:
    stalls = None if seed is None else random.Random(seed)
    received = []
    for _ in range(count):
        await _stall(ctx, stalls)
        ctx.set(stream.ready, 1)
        (payload,) = await ctx.tick().sample(stream.payload).until(stream.valid)
        ctx.set(stream.ready, 0)
        received.append(payload)
    return received


class Cycles:
    """Counts cycles, so that a test can say when something happened: `now` is the number of clock edges so far."""

    def __init__(self) -> None:
        self.now = 0

    async def count(self, ctx: Any) -> None:
        async for _ in ctx.tick():
            self.now += 1


class Slots:
    """The vector slots as a `VectorWrite` port fills them. `when` holds the cycles of the writes, for each kind."""

    def __init__(self, config: Config, port: Any) -> None:
        self.port, self.elements = port, config.bus_width // 16
        shape = (config.right_hand_sides, config.vector_blocks)
        self.bases = np.zeros(config.right_hand_sides, dtype=np.int64)
        self.exponents = np.full(shape, 255, dtype=np.uint8)
        self.totals = np.zeros(shape, dtype=np.int64)
        self.mantissas = np.zeros((*shape, 32), dtype=np.int16)
        self.when: dict[str, list[int]] = {"beat": [], "commit": [], "base": []}

    async def record(self, ctx: Any) -> None:
        beat, commit, base = self.port.beat, self.port.commit, self.port.base
        members = (
            *(beat.enable, beat.slot, beat.block, beat.part, beat.data),
            *(commit.enable, commit.slot, commit.block, commit.exponent, commit.total),
            *(base.enable, base.slot, base.base),
        )
        now = 0
        async for _, _, *values in ctx.tick().sample(*members):
            now += 1
            if values[0]:
                slot, block, part, value = values[1:5]
                elements = np.frombuffer(value.to_bytes(2 * self.elements, "little"), dtype="<i2")
                self.mantissas[slot, block, part * self.elements : (part + 1) * self.elements] = elements
                self.when["beat"].append(now)
            if values[5]:
                slot, block, exponent, total = values[6:10]
                self.exponents[slot, block], self.totals[slot, block] = exponent, total
                self.when["commit"].append(now)
            if values[10]:
                self.bases[values[11]] = values[12]
                self.when["base"].append(now)


def image(base: int, exponents: np.ndarray, mantissas: np.ndarray, config: Config) -> list[int]:
    """Bus beats of a vector image."""
    raw = pack_vector(base, exponents, mantissas)
    return [int.from_bytes(raw[n : n + config.bus_bytes], "little") for n in range(0, len(raw), config.bus_bytes)]
