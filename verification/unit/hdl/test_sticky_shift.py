from typing import Any

import pytest
from amaranth.hdl import Module, Signal

from tailrace.hdl.sticky_shift import shift_sticky

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
