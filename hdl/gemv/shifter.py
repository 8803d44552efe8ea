"""Puts a term at its binary place in the accumulator."""

from amaranth.hdl import C, Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.numerics import EXPONENT_MAX

from ..float.float16 import POSITION_MAX
from .delay import delayed

#: Largest shift: of a scale's position and a block's exponent.
SHIFT_MAX = POSITION_MAX + EXPONENT_MAX
#: Bits of a shift that the first stage handles.
FINE_BITS = 4
WIDTH_MAX = 64 - ((1 << FINE_BITS) - 1)


class Shifter(wiring.Component):
    """Shifts a signed term left by 0 to 61 places: by up to 15 places, then by a multiple of 16.

    After the first stage the term still fits the 64 bits that a simulator shifts with one instruction; the second
    only places words.

    Latency: 2 cycles. Throughput: one term a cycle.

    Parameters
    ----------
    width : int
        Bits of the term, sign included; 1 to 49.

    Attributes
    ----------
    term : In(signed(width))
    shift : In(range(62))
    valid : In(1)
        There is a term. Stages without one keep their values.
    placed : Out(signed(width + 61))
    """

    #: Cycles from `term` and `shift` to `placed`.
    latency = 2

    def __init__(self, width: int) -> None:
        if not 1 <= width <= WIDTH_MAX:
            raise ValueError(f"width must be between 1 and {WIDTH_MAX}, not {width}")
        self.width = width
        super().__init__(
            {
                "term": In(signed(width)),
                "shift": In(range(SHIFT_MAX + 1)),
                "valid": In(1),
                "placed": Out(signed(width + SHIFT_MAX)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fine = Signal(signed(self.width + (1 << FINE_BITS) - 1), reset_less=True)
        coarse = Signal(len(self.shift) - FINE_BITS, reset_less=True)
        placed = Signal.like(self.placed, reset_less=True)
        fine_valid = delayed(m, self.valid, 1, name="fine_valid", reset=True)
        with m.If(self.valid):
            m.d.sync += [fine.eq(self.term << self.shift[:FINE_BITS]), coarse.eq(self.shift[FINE_BITS:])]
        with m.If(fine_valid), m.Switch(coarse):
            for n in range(1 << len(coarse)):
                with m.Case(n):
                    m.d.sync += placed.eq(Cat(C(0, n << FINE_BITS), fine).as_signed())
        m.d.comb += self.placed.eq(placed)
        return m
