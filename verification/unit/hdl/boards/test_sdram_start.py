"""The start of a memory controller."""

import random

import pytest

from tailrace.hdl.boards.litedram import ControlWrite
from tailrace.hdl.boards.sdram_start import SdramStart
from verification.unit.hdl.simulate import simulate

WRITES = (ControlWrite(0x80C, 0x400), ControlWrite(0x800, 14, wait=20), ControlWrite(0x808, 1, wait=1), ControlWrite(0, 1))


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_writes_in_order_with_their_pauses(seed: int | None) -> None:
    """Whatever time the slave takes (none without a seed)."""
    dut = SdramStart(WRITES)
    chance = random.Random(seed)
    seen: list[tuple[int, int, int]] = []

    async def slave(ctx: object) -> None:
        cycle, delay = 0, chance.randrange(4) if seed else 0
        while not ctx.get(dut.done):
            request = ctx.get(dut.request)
            acknowledge = request and not delay
            ctx.set(dut.acknowledge, acknowledge)
            if acknowledge:
                seen.append((cycle, ctx.get(dut.address), ctx.get(dut.data)))
                delay = chance.randrange(4) if seed else 0
            elif request:
                delay -= 1
            await ctx.tick()
            cycle += 1
        assert [(4 * address, value) for _, address, value in seen] == [(w.address, w.value) for w in WRITES], f"seed {seed}"
        for (first, *_), (second, *_), write in zip(seen, seen[1:], WRITES):
            gap = second - first
            assert gap >= write.wait + 2 if seed else gap == write.wait + 2, f"seed {seed}"
        for _ in range(30):
            await ctx.tick()
            assert ctx.get(dut.done)
            assert not ctx.get(dut.request)

    simulate(dut, slave)


def test_not_done_while_nothing_is_acknowledged() -> None:
    dut = SdramStart(WRITES)

    async def watch(ctx: object) -> None:
        for _ in range(50):
            assert ctx.get(dut.request)
            assert not ctx.get(dut.done)
            await ctx.tick()

    simulate(dut, watch)


def test_parameters() -> None:
    with pytest.raises(ValueError) as error:
        SdramStart([])
    assert str(error.value) == "there must be at least one write"
    with pytest.raises(ValueError) as error:
        SdramStart([ControlWrite(0x802, 1)])
    assert str(error.value) == "the address of a write must be a multiple of 4, not 0x802"
