"""Registers on a port's channels."""

from typing import Any

import pytest

from tailrace.hdl.boards.port_registers import PortRegisters
from verification.unit.hdl.simulate import simulate
from verification.unit.hdl.streams import STALLS, Cycles, receive, send

ADDRESSES = [{"address": 16 * number, "length": number} for number in range(64)]
CHANNELS: dict[str, list[dict[str, int]]] = {
    "ar": ADDRESSES,
    "aw": ADDRESSES[::-1],
    "w": [{"data": 257 * number, "strobe": number % 16, "last": number % 3 == 0} for number in range(64)],
    "r": [{"data": 3 * number, "response": number % 4, "last": number % 5 == 0} for number in range(64)],
    "b": [{"response": number % 3} for number in range(64)],
}


@pytest.mark.parametrize("stalls", STALLS)
def test_every_channel_gives_what_it_takes_a_cycle_later(stalls: int | None) -> None:
    """All at the same time, each at one transfer a cycle."""
    dut = PortRegisters(12, 32)
    cycles = Cycles()
    ends: list[int] = []

    def sides(name: str) -> tuple[Any, Any]:
        core, memory = (
            getattr(dut.core_read if name in ("ar", "r") else dut.core_write, name),
            getattr(dut.read if name in ("ar", "r") else dut.write, name),
        )
        return (memory, core) if name in ("r", "b") else (core, memory)

    def bench(name: str, payloads: list[dict[str, int]]) -> tuple[Any, Any]:
        source, sink = sides(name)

        async def give(ctx: Any) -> None:
            await send(ctx, source, payloads, stalls)

        async def take(ctx: Any) -> None:
            found = await receive(ctx, sink, len(payloads), None if stalls is None else stalls + 7)
            assert [{field: one[field] for field in payloads[0]} for one in found] == payloads, name
            ends.append(cycles.now)

        return give, take

    simulate(dut, *(each for channel in CHANNELS.items() for each in bench(*channel)), background=[cycles.count])
    if stalls is None:
        assert ends == [64 + dut.latency] * len(CHANNELS)
