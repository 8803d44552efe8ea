import numpy as np
import pytest

from tailrace.hdl.gemv.shifter import SHIFT_MAX, WIDTH_MAX, Shifter

from ..simulate import simulate
from . import bench


@pytest.mark.parametrize("width", [1, 33, 41, WIDTH_MAX])
def test_every_shift(width: int, rng: np.random.Generator) -> None:
    dut = Shifter(width)
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    terms = [(term, shift) for shift in range(SHIFT_MAX + 1) for term in (low, high, int(rng.integers(low, high + 1)))]
    sent = [(*term, rng.random() < 0.8) for term in terms]

    async def drive(ctx: bench.Context) -> None:
        held = None
        for n in range(len(sent) + dut.latency):
            if n >= dut.latency:
                term, shift, valid = sent[n - dut.latency]
                held = term << shift if valid else held
                if held is not None:
                    assert ctx.get(dut.placed) == held, (term, shift)
            term, shift, valid = sent[n] if n < len(sent) else (0, 0, False)
            ctx.set(dut.term, term)
            ctx.set(dut.shift, shift)
            ctx.set(dut.valid, valid)
            await ctx.tick()

    simulate(dut, drive)


@pytest.mark.parametrize("width", [0, WIDTH_MAX + 1])
def test_width_out_of_range(width: int) -> None:
    with pytest.raises(ValueError, match=f"^width must be between 1 and 49, not {width}$"):
        Shifter(width)
