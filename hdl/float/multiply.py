"""Product of two float32."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class FloatMultiply(wiring.Component):
    """`tailrace.spec.floats.multiply`: the product, rounded once.

    Latency: 4 enabled cycles (partial products, their sum, rounding, packing). Throughput: one product a cycle.

    Attributes
    ----------
    enable : In(1)
        The pipeline advances. 0: everything holds. 1 if not connected.
    valid : In(1)
        There are operands. Stages without operands keep their values. 1 if not connected.
    a, b : In(32)
    o : Out(32)
    o_valid : Out(1)
        `valid`, `latency` enabled cycles ago: `o` is a product.
    """

    #: Enabled cycles from operands to `o`.
    latency = 4

    enable: In(1, init=1)
    valid: In(1, init=1)
    a: In(32)
    b: In(32)
    o: Out(32)
    o_valid: Out(1)

    def elaborate(self, platform: object) -> Module:
        raise NotImplementedError
