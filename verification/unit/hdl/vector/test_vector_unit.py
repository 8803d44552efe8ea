"""All parts of the vector unit in turn, with the real buffer and slots around them. What each part does has tests of its own."""

import random
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect

from tailrace.hdl.slots.memory import VectorMemory
from tailrace.hdl.vector.activation_buffer import ActivationBuffer
from tailrace.hdl.vector.vector_unit import VectorUnit
from tailrace.spec.commands import encode, float_bits
from tailrace.spec.config import Config
from tailrace.spec.isa import BUFFER_UNIT, Cache, Opcode, Target
from tailrace.spec.kv_cache import codes_of, value_bytes, value_place, value_row_bytes
from tailrace.spec.numerics import quantise
from tailrace.spec.vector import pack_vector

from ..simulate import simulate
from ..slots.bench import Slots
from ..widths import WITH_WIDE_BEATS, ports
from .memory_bench import Written

ENTRIES, CAPACITY, BLOCKS = 1024, 64, 64
ONE = float_bits(1)
#: Entries that only the matrix unit writes.
MATRIX = range(768, 832)


class Bench:
    """Commands for the unit, what they must leave, and the surroundings: parameters, memory, registers, the matrix unit."""

    def __init__(self, bus_width: int, vector_width: int, seed: int | None) -> None:
        self.config = Config(
            "test",
            **ports(bus_width),
            right_hand_sides=2,
            vector_blocks=BLOCKS,
            buffer_entries=ENTRIES,
            vector_width=vector_width,
        )
        self.stalls = None if seed is None else random.Random(seed)
        self.rng = np.random.default_rng(7)
        self.commands: list[bytes] = []
        self.beats: list[int] = []
        self.entries = np.zeros(ENTRIES, dtype=np.float32)
        self.values: list[int] = []
        self.bytes: dict[int, bytes] = {}
        self.vectors: list[tuple[int, int, int, np.ndarray]] = []
        self.finished = self.received = 0
        self.unit = VectorUnit(self.config)
        self.buffer, self.memory = ActivationBuffer(self.config), VectorMemory(self.config)
        self.slots = Slots(self.config, self.unit.slots)
        self.written = Written(self.config, self.unit.store, seed)

    @property
    def harness(self) -> Module:
        m = Module()
        m.submodules.unit, m.submodules.buffer, m.submodules.memory = unit, buffer, memory = self.unit, self.buffer, self.memory
        connect(m, unit.slots, memory.write)
        connect(m, unit.a, buffer.a)
        connect(m, unit.b, buffer.b)
        connect(m, unit.write, buffer.vector)
        m.d.comb += [unit.write_ready.eq(buffer.vector_ready), unit.bases.eq(memory.bases)]
        return m

    def places(self, first: int, count: int) -> np.ndarray:
        return (first + np.arange(count)) % ENTRIES

    def floats(self, count: int) -> np.ndarray:
        return self.rng.integers(-1000, 1000, count).astype(np.float32) / 8

    def add(self, opcode: Opcode, **fields: int) -> None:
        self.commands.append(encode(opcode, **fields))

    def stream(self, data: bytes) -> None:
        size = self.config.unit_bytes
        padded = data + bytes(-len(data) % 64)
        self.beats += [int.from_bytes(padded[n : n + size], "little") for n in range(0, len(padded), size)]

    def fill(self, d: int, count: int) -> None:
        """Streamed floats go to the buffer."""
        x = self.floats(count)
        self.stream(x.tobytes())
        self.add(Opcode.ELEMENTWISE, a_stream=1, p=ONE, m=ONE, target=Target.BUFFER, d=d, count=count, segments=1)
        self.entries[self.places(d, count)] = x

    def load(self, slot: int, number: int, first: int, blocks: int) -> None:
        x = self.floats(32 * blocks)
        self.stream(pack_vector(*quantise(x)))
        self.add(Opcode.LOAD_VECTOR, slot=slot, set=number, first_block=first, blocks=blocks)
        self.vectors.append((slot, number, first, x))

    def double(self, a: int, d: int, count: int) -> None:
        self.add(Opcode.ELEMENTWISE, p=float_bits(2), m=ONE, target=Target.BUFFER, a=a, d=d, count=count, segments=1)
        self.entries[self.places(d, count)] = 2 * self.entries[self.places(a, count)]

    def to_slot(self, a: int, slot: int, number: int, first: int, count: int) -> None:
        fields = {"slot": slot, "set": number, "first_block": first, "count": count, "segments": 1}
        self.add(Opcode.ELEMENTWISE, p=ONE, m=ONE, target=Target.SLOT, a=a, **fields)
        x = np.zeros(-(-count // 32) * 32, dtype=np.float32)
        x[:count] = self.entries[self.places(a, count)]
        self.vectors.append((slot, number, first, x))

    def rotate(self, a: int, table: int, count: int) -> None:
        """By an angle whose cosine and sine are in the buffer: a table of one, zeros would do nothing."""
        self.add(Opcode.ROTATE, a=a, d=a, table=table, count=count, segments=1)
        x, y, c, s = (self.entries[self.places(p, count)] for p in (a, a + count, table, table + count))
        self.entries[self.places(a, count)], self.entries[self.places(a + count, count)] = x * c - y * s, y * c + x * s

    def read(self, entry: int) -> None:
        self.add(Opcode.READ, register=3, a=entry)
        self.values.append(int(self.entries[entry : entry + 1].view(np.uint32)[0]))

    def store(self, a: int, count: int, address: int) -> None:
        self.add(Opcode.STORE, a=a, count=count, destination=address // 64)
        self.bytes[address] = self.entries[self.places(a, count)].tobytes()

    def append(self, a: int, b: int, count: int, token: int, address: int) -> None:
        """Values of one head."""
        lanes = self.config.lanes
        size = value_bytes(count, CAPACITY, lanes)
        scales = address + size
        fields = {"destination": address // 64, "scales": scales // 64, "row_stride": value_row_bytes(CAPACITY, lanes) // 64}
        self.add(Opcode.APPEND, cache=Cache.VALUES, a=a, b=b, count=count, segments=1, token=token, **fields)
        for element, code in enumerate(codes_of(self.entries[self.places(a, count)])):
            self.bytes[address + value_place(token, element, CAPACITY, lanes)] = code.tobytes()
        self.bytes[scales + 4 * token] = self.entries[b : b + 1].tobytes()

    async def operations(self, ctx: Any) -> None:
        for index, command in enumerate(self.commands):
            while self.stalls is not None and self.stalls.random() < 0.3:
                await ctx.tick()
            ctx.set(self.unit.operation.payload.command, int.from_bytes(command, "little"))
            ctx.set(self.unit.operation.payload.index, 500 + index)
            ctx.set(self.unit.operation.valid, 1)
            ready = 0
            while not ready:
                *_, ready, finished = await ctx.tick().sample(self.unit.operation.ready, self.unit.finished)
                assert ready == finished
                self.finished += finished
            ctx.set(self.unit.operation.valid, 0)
        await ctx.tick().repeat(4)
        assert not self.beats, f"{len(self.beats)} beats of parameters were not taken"

    async def parameters(self, ctx: Any) -> None:
        """Beats are offered as early as a FIFO would: also those of later commands, and while there is none."""
        port = self.unit.parameters
        for beat in list(self.beats):
            while self.stalls is not None and self.stalls.random() < 0.5:
                await ctx.tick()
            ctx.set(port.payload, beat)
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
            ctx.set(port.valid, 0)
            self.beats.pop(0)

    async def registers(self, ctx: Any) -> None:
        port = self.unit.value
        while True:
            ctx.set(port.ready, self.stalls is None or self.stalls.random() < 0.5)
            *_, valid, ready, payload = await ctx.tick().sample(port.valid, port.ready, port.payload)
            if valid and ready:
                assert payload == self.values[self.received], f"value {self.received}"
                self.received += 1

    async def matrix(self, ctx: Any) -> None:
        """Results of products come in between, and are never refused."""
        port, lanes = self.buffer.matrix, self.config.lanes
        last, place = MATRIX.stop - lanes, min(lanes, BUFFER_UNIT)
        while self.stalls is not None:
            ctx.set(port.enable, self.stalls.random() < 0.5)
            ctx.set(port.address, self.stalls.randint(MATRIX.start, last) // place)
            ctx.set(port.mask, -1)
            await ctx.tick()


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize(("bus_width", "vector_width"), WITH_WIDE_BEATS)
def test_operations_of_all_kinds(bus_width: int, vector_width: int, seed: int | None) -> None:
    bench = Bench(bus_width, vector_width, seed)
    bench.fill(1000, 70)
    bench.load(0, 1, BLOCKS - 1, 2)
    bench.read(3)
    bench.double(1000, 100, 70)
    bench.read(169)
    bench.store(100, 70, 4096)
    bench.to_slot(100, 1, 3, 5, 70)
    bench.fill(400, 21)
    bench.append(400, 420, 20, 17, 8192)
    bench.load(1, 0, 20, 1)
    bench.fill(100, 9)
    bench.rotate(400, 100, 4)
    bench.store(400, 21, 4096 + 512)
    bench.read(107)
    bench.store(1020, 8, 4096 + 1024)
    background = [bench.parameters, bench.registers, bench.matrix, bench.slots.record, bench.written.take]
    simulate(bench.harness, bench.operations, background=background)
    assert bench.finished == len(bench.commands)
    assert bench.received == len(bench.values)
    bench.written.check(bench.bytes, f"stall seed {seed}")
    users = {500 + n for n, command in enumerate(bench.commands) if command[0] in (Opcode.STORE, Opcode.APPEND)}
    assert bench.written.commands == users
    for slot, number, first, x in bench.vectors:
        base, exponents, mantissas = quantise(x)
        got_base, got_exponents, got_mantissas = bench.slots.vector(slot, number, first, len(x) // 32)
        assert got_base == base
        assert got_exponents.tolist() == exponents.tolist()
        assert np.array_equal(got_mantissas, mantissas)
