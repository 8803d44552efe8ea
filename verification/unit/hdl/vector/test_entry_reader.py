from typing import Any

import pytest

from tailrace.hdl.vector.entry_reader import EntryReader
from tailrace.spec.commands import encode
from tailrace.spec.config import Config
from tailrace.spec.isa import Opcode

from ..simulate import simulate
from ..streams import STALLS, Cycles, receive, send
from ..widths import WIDTHS
from .memory_bench import Buffer


@pytest.mark.parametrize("seed", STALLS)
@pytest.mark.parametrize(("bus_width", "vector_width"), WIDTHS)
def test_reads_entries(bus_width: int, vector_width: int, seed: int | None) -> None:
    """Any entry, two cycles for each command when nobody waits; the command goes with the value."""
    settings = Config("test", bus_width, buffer_entries=1024, vector_width=vector_width)
    dut = EntryReader(settings)
    buffer, cycles = Buffer(settings, dut.a, 4), Cycles()
    entries = [0, 1, 2, 3, 4, 5, 511, 512, 1021, 1022, 1023, 7, 7]
    received: list[int] = []

    async def offer(ctx: Any) -> None:
        commands = [encode(Opcode.READ, register=31, pending=15, a=entry) for entry in entries]
        await send(ctx, dut.command, [int.from_bytes(command, "little") for command in commands], seed)
        assert len(received) >= len(entries) - 1, "a command was taken before its value"
        if seed is None:
            assert cycles.now == 2 * len(entries)

    async def take(ctx: Any) -> None:
        for _ in entries:
            received.extend(await receive(ctx, dut.value, 1, None if seed is None else seed + 10))

    simulate(dut, offer, take, background=[buffer.answer, cycles.count])
    assert received == [int(buffer.entries[entry]) for entry in entries], f"stall seed {seed}"
