"""The functions of the vector unit, from a table and a parabola."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.floats import Function


class FunctionUnit(wiring.Component):
    """`tailrace.spec.floats.apply`: any function of `tailrace.spec.floats.Function`, chosen for each element.

    Latency: 11 enabled cycles, whatever the function. Throughput: one element a cycle.

    Attributes
    ----------
    enable : In(1)
        The pipeline advances. 0: everything holds. 1 if not connected.
    valid : In(1)
        There is an element. Stages without one keep their values. 1 if not connected.
    function : In(Function)
    x : In(32)
    o : Out(32)
    o_valid : Out(1)
        `valid`, `latency` enabled cycles ago: `o` is a result.
    """

    #: Enabled cycles from `x` to `o`.
    latency = 11

    enable: In(1, init=1)
    valid: In(1, init=1)
    function: In(Function)
    x: In(32)
    o: Out(32)
    o_valid: Out(1)

    def elaborate(self, platform: object) -> Module:
        raise NotImplementedError
