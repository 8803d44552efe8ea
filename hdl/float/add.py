"""Sum of two float32."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class FloatAdd(wiring.Component):
    """`tailrace.spec.floats.add`: the sum, rounded once.

    Latency: 5 enabled cycles (order, alignment, sum, normalisation, rounding). Throughput: one sum a cycle.

    Attributes
    ----------
    enable : In(1)
        The pipeline advances. 0: everything holds. 1 if not connected.
    valid : In(1)
        There are operands. Stages without operands keep their values. 1 if not connected.
    a, b : In(32)
    subtract : In(1)
        ``a - b`` instead of ``a + b``: the sign of `b` is changed first.
    o : Out(32)
    o_valid : Out(1)
        `valid`, `latency` enabled cycles ago: `o` is a sum.
    """

    #: Enabled cycles from operands to `o`.
    latency = 5

    enable: In(1, init=1)
    valid: In(1, init=1)
    a: In(32)
    b: In(32)
    subtract: In(1)
    o: Out(32)
    o_valid: Out(1)

    def elaborate(self, platform: object) -> Module:
        raise NotImplementedError
