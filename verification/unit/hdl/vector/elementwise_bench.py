"""Runs commands on the elementwise unit, with models of the activation buffer and of the vector slots around it."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth.hdl import ResetInserter, Signal

from tailrace.hdl.vector.elementwise import Elementwise
from tailrace.spec.commands import decode
from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES

from ..simulate import simulate
from .elementwise_model import Case, Model, Word


def beats_of(case: Case, config: Config) -> list[int]:
    """Bus beats of the streamed operand."""
    raw = case.streamed.tobytes()
    return [int.from_bytes(raw[n : n + config.beat_bytes], "little") for n in range(0, len(raw), config.beat_bytes)]


class Bench:
    """An elementwise unit whose surroundings stall in about half of the cycles, if there is a `seed`.

    `cycles` are those that each command stayed at the port; `segments` is what went to the vector slots, by command.
    """

    def __init__(self, config: Config, seed: int | None = None) -> None:
        self.config, self.seed = config, seed
        self.unit = Elementwise(config)
        self.bits = np.zeros(config.buffer_entries, dtype=np.uint32)
        self.cycles: list[int] = []
        self._beats: list[int] = []
        self.segments: list[list[Word]] = []
        self.writes = 0

    def run(self, cases: Sequence[Case], model: Model, *, flushed: Case | None = None, after: int = 0) -> None:
        """Carry out commands, and compare the buffer and what goes to the slots with the model after each.

        Before them `flushed` is started, and the unit is reset `after` so many cycles.
        """
        self.bits[:] = model.bits
        self._beats = [beat for case in cases for beat in beats_of(case, self.config)]

        flush = Signal()
        self._flush = flush

        async def drive(ctx: Any) -> None:
            if flushed is not None:
                self.segments.append([])
                ctx.set(self.unit.command.payload, flushed.command)
                ctx.set(self.unit.command.valid, 1)
                for _ in range(after):
                    _, _, ready = await ctx.tick().sample(self.unit.command.ready)
                    assert not ready
                ctx.set(self.unit.command.valid, 0)
                ctx.set(flush, 1)
                await ctx.tick()
                ctx.set(flush, 0)
                model.bits[:] = self.bits
            for number, case in enumerate(cases):
                expected = model.run(case)
                self.segments.append([])
                ctx.set(self.unit.command.payload, case.command)
                ctx.set(self.unit.command.valid, 1)
                cycles, ready = 0, 0
                while not ready:
                    *_, ready = await ctx.tick().sample(self.unit.command.ready)
                    cycles += 1
                ctx.set(self.unit.command.valid, 0)
                self.cycles.append(cycles)
                self._compare(number, case, model, expected)
                if self.seed is not None and number % 3 == 0:
                    await ctx.tick()
            assert not self._beats, f"{len(self._beats)} beats were not taken"

        background = (self._buffer, self._slots, self._send)
        simulate(ResetInserter(flush)(self.unit), drive, background=background, limit=20_000 * len(cases))

    def _compare(self, number: int, case: Case, model: Model, expected: list[Word]) -> None:
        where = f"command {number} (seed {self.seed}): {case.opcode.name} {case.fields}"
        wrong = np.flatnonzero(self.bits != model.bits)
        shown = [(int(e), f"{self.bits[e]:08x}", f"{model.bits[e]:08x}") for e in wrong[:8]]
        assert not len(wrong), f"{where}\nentry, is, should be: {shown}"
        assert self.segments[-1] == expected, where

    async def _buffer(self, ctx: Any) -> None:
        unit, elements = self.unit, self.config.word_elements
        rng = None if self.seed is None else random.Random(self.seed)
        words = self.bits.reshape(-1, elements)
        ports = (unit.a, unit.b)
        ready = 1
        ctx.set(unit.write_ready, 1)
        sampled = [s for port in ports for s in (port.enable, port.address)]
        write = (unit.write.enable, unit.write.address, unit.write.mask, unit.write.data)
        async for _, _, *values in ctx.tick().sample(*sampled, *write):
            enable, address, mask, data = values[4:]
            for n, port in enumerate(ports):
                if values[2 * n] and not (enable and ready and address == values[2 * n + 1]):
                    ctx.set(port.data, [int(x) for x in words[values[2 * n + 1]]])
            if enable and ready:
                self.writes += 1
                for n in range(elements):
                    if mask >> n & 1:
                        words[address, n] = data[n]
            if rng is not None:
                ready = rng.randrange(2)
                ctx.set(unit.write_ready, ready)

    async def _send(self, ctx: Any) -> None:
        rng = None if self.seed is None else random.Random(self.seed + 1)
        parameters, beats = self.unit.parameters, self._beats
        while True:
            # The streams of later commands are offered early, as by a FIFO.
            offered = bool(beats) and (rng is None or rng.random() < 0.5)
            ctx.set(parameters.valid, offered)
            ctx.set(parameters.payload, beats[0] if beats else 0)
            taken = 0
            while not taken:
                *_, taken = await ctx.tick().sample(parameters.ready)
                if not offered:
                    break
            if offered:
                beats.pop(0)

    async def _slots(self, ctx: Any) -> None:
        """Takes words for the slots; like a quantiser, it is idle some cycles after the last one."""
        unit = self.unit
        rng = None if self.seed is None else random.Random(self.seed + 2)
        word = unit.quantise.payload
        ready, busy, elements = 1, 0, []
        ctx.set(unit.quantise.ready, 1)
        ctx.set(unit.quantise_idle, 1)
        sampled = (self._flush, unit.quantise.valid, word, unit.command.payload)
        async for _, _, flush, valid, payload, command in ctx.tick().sample(*sampled):
            busy -= busy > 0
            if flush:
                elements = []
            elif valid and ready:
                fields = _fields(command)
                assert (payload["set"], payload.duplicate, payload.join) == (fields["set"], fields["duplicate"], fields["join"])
                if not elements:
                    slot, first = payload.slot, bool(payload.first)
                    assert not first or payload.block == fields["first_block"]
                else:
                    assert payload.slot == slot
                    assert not payload.first
                elements += [payload.data[n] for n in range(self.config.word_elements) if payload.mask >> n & 1]
                if payload.last:
                    self.segments[-1].append(Word(elements, slot, first, bool(payload.final)))
                    elements = []
                else:
                    assert not payload.final
                busy = 6
            ctx.set(unit.quantise_idle, busy == 0)
            if rng is not None:
                ready = rng.randrange(2)
                ctx.set(unit.quantise.ready, ready)


def _fields(command: int) -> dict[str, int]:
    decoded = decode(command.to_bytes(COMMAND_BYTES, "little"))
    assert decoded is not None
    return decoded[1]
