"""The exact accumulator of a row."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.numerics import ACCUMULATOR_BITS


class Accumulator(wiring.Component):
    """Adds terms to a sum of 120 bits, which can not overflow, so that the order of the terms does not matter.

    Latency: 1 cycle. Throughput: one term a cycle.

    Parameters
    ----------
    width : int
        Bits of a term, sign included; 1 to 120.

    Attributes
    ----------
    term : In(signed(width))
    valid : In(1)
        There is a term.
    first : In(1)
        It is a row's first one: the sum restarts with it.
    sum : Out(signed(120))
    """

    #: Cycles from a term to the sum that contains it.
    latency = 1

    def __init__(self, width: int) -> None:
        if not 1 <= width <= ACCUMULATOR_BITS:
            raise ValueError(f"width must be between 1 and {ACCUMULATOR_BITS}, not {width}")
        super().__init__({"term": In(signed(width)), "valid": In(1), "first": In(1), "sum": Out(signed(ACCUMULATOR_BITS))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = Signal(signed(ACCUMULATOR_BITS), reset_less=True)
        with m.If(self.valid):
            m.d.sync += total.eq(Mux(self.first, 0, total) + self.term)
        m.d.comb += self.sum.eq(total)
        return m
