from typing import Any

import pytest
from amaranth.hdl import Module, Signal

from tailrace.hdl.sticky_shift import shift_losing, shift_sticky

from .simulate import simulate


@pytest.mark.parametrize("unit", [1, 2, 4])
@pytest.mark.parametrize("width", [1, 5, 8])
def test_every_value_and_distance(width: int, unit: int) -> None:
    """Also by more places than there are bits."""
    value, places, shifted = Signal(width), Signal(3), Signal(width)
    m = Module()
    m.d.comb += shifted.eq(shift_sticky(value, places, unit))

    async def testbench(ctx: Any) -> None:
        for number in range(1 << width):
            for distance in range(1 << len(places)):
                ctx.set(value, number)
                ctx.set(places, distance)
                kept, lost = number >> distance * unit, number & (1 << distance * unit) - 1
                assert ctx.get(shifted) == kept | (lost != 0), (number, distance)

    simulate(m, testbench)


@pytest.mark.parametrize("unit", [1, 2])
def test_losses_in_parts(unit: int) -> None:
    """Together, the parts are what the other shift gathers."""
    value, places, shifted, lost = Signal(7), Signal(3), Signal(7), Signal(3)
    m = Module()
    m.d.comb += [signal.eq(part) for signal, part in zip((shifted, lost), shift_losing(value, places, unit), strict=True)]

    async def testbench(ctx: Any) -> None:
        for number in range(1 << len(value)):
            for distance in range(1 << len(places)):
                ctx.set(value, number)
                ctx.set(places, distance)
                dropped = number & (1 << distance * unit) - 1
                assert ctx.get(shifted) == number >> distance * unit, (number, distance)
                assert bool(ctx.get(lost)) == bool(dropped), (number, distance)

    simulate(m, testbench)
