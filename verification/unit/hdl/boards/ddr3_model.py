"""A DDR3 behind LiteDRAM's registers and an AXI port, whose reads are wrong where they are not aligned."""

from collections.abc import Callable
from typing import Any

from tailrace.hdl.boards.litedram import ReadPhases

PHASES = ReadPhases(
    lanes=2, delays=8, slips=4, select=0x800, reset_delay=0x804, next_delay=0x808, reset_slip=0x80C, next_slip=0x810
)


class Ddr3Model:
    """Two testbenches, and what they have seen.

    Parameters
    ----------
    dut : Levelling or the like
        Its control port, and its AXI port if it has one.
    right : callable
        Takes a lane, its slip, its delay and the number of the beat that is read; returns whether that is right.
    chance : random.Random, optional
        Ports take and give at random times; without, at once.
    """

    def __init__(self, dut: Any, right: Callable[[int, int, int, int], bool], chance: Any = None) -> None:
        self._dut, self._right, self._chance = dut, right, chance
        self.slips, self.delays = [3] * PHASES.lanes, [5] * PHASES.lanes
        self.selected = 0
        self.memory: dict[int, int] = {}
        self.beats_read = 0
        self.reads: list[int] = []

    async def registers(self, ctx: Any) -> None:
        """Be the registers."""
        dut = self._dut
        while True:
            await ctx.delay(1e-8)
            request = ctx.get(dut.request) and self._willing()
            ctx.set(dut.acknowledge, request)
            if request:
                self._write(4 * ctx.get(dut.address), ctx.get(dut.data))
            await ctx.tick()
            if request:
                # As a bridge does it: it needs a cycle to see the end of an access.
                ctx.set(dut.acknowledge, 0)
                await ctx.delay(1e-8)
                assert not ctx.get(dut.request)

    def _write(self, address: int, value: int) -> None:
        if address == PHASES.select:
            self.selected = value
            return
        assert value == 1
        assert self.selected, "a step of no lane, or of one that goes on meanwhile"
        for lane in range(PHASES.lanes):
            if self.selected >> lane & 1:
                slip, delay = self.slips[lane], self.delays[lane]
                self.delays[lane] = {PHASES.reset_delay: 0, PHASES.next_delay: (delay + 1) % 8}.get(address, delay)
                self.slips[lane] = {PHASES.reset_slip: 0, PHASES.next_slip: (slip + 1) % 4}.get(address, slip)

    async def port(self, ctx: Any) -> None:
        """Be the AXI port: writes and reads in order, each burst to its end."""
        read, write = self._dut.read, self._dut.write
        wanted: list[int] = []
        asked: list[tuple[int, int]] = []
        data: list[tuple[int, int]] = []
        answers = 0
        while True:
            ready = {channel: self._willing() for channel in ("ar", "aw", "w")}
            ctx.set(read.ar.ready, ready["ar"])
            ctx.set(write.aw.ready, ready["aw"])
            ctx.set(write.w.ready, ready["w"])
            beat = bool(wanted) and self._willing()
            ctx.set(read.r.valid, beat)
            if beat:
                ctx.set(read.r.p.data, self._read(wanted[0]))
            ctx.set(write.b.valid, answers > 0)
            await ctx.delay(1e-8)
            moves = ready["ar"] and ctx.get(read.ar.valid), ready["aw"] and ctx.get(write.aw.valid)
            if any(moves) or ctx.get(write.w.valid) or beat:
                assert not self.selected, "traffic while lanes are held still"
            if moves[0]:
                address = ctx.get(read.ar.p.address)
                self.reads.append(address)
                wanted += [address + 16 * i for i in range(ctx.get(read.ar.p.length) + 1)]
            if moves[1]:
                asked.append((ctx.get(write.aw.p.address), ctx.get(write.aw.p.length) + 1))
            if ready["w"] and ctx.get(write.w.valid):
                assert ctx.get(write.w.p.strobe) == 0xFFFF
                data.append((ctx.get(write.w.p.data), ctx.get(write.w.p.last)))
            if answers and ctx.get(write.b.ready):
                answers -= 1
            if beat and ctx.get(read.r.ready):
                wanted.pop(0)
                self.beats_read += 1
            while asked and len(data) >= asked[0][1]:
                address, beats = asked.pop(0)
                for i in range(beats):
                    value, last = data.pop(0)
                    assert last == (i == beats - 1)
                    self.memory[address + 16 * i] = value
                answers += 1
            await ctx.tick()

    def _read(self, address: int) -> int:
        value = self.memory[address].to_bytes(16, "little")
        return int.from_bytes(
            bytes(
                byte if self._right(i % 2, self.slips[i % 2], self.delays[i % 2], self.beats_read) else byte ^ 1 << i % 8
                for i, byte in enumerate(value)
            ),
            "little",
        )

    def _willing(self) -> bool:
        return self._chance is None or self._chance.random() < 0.6
