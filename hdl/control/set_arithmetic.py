"""What `SET` works out from two registers."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.isa import COMMAND_BYTES, Opcode, SetMode

from .layout import command_layout
from .register_file import REGISTER_BITS

#: Products of halves of registers fit the multipliers of FPGAs.
HALF_BITS = REGISTER_BITS // 2


class SetArithmetic(wiring.Component):
    """Work out ``limit((x * factor + y + addend) >> shift)`` modulo 2**32, as `spec.isa` says of `SET`.

    Latency: `latency` cycles from `x` to `o`; `y` is looked at one cycle after `x`, as a register file with one read port gives
    them. Both and `command` are to be held from then on until `o` has been taken.

    Attributes
    ----------
    enable : in
        1 in these cycles; at 0 everything stays as it is.
    command : in
        512 bits, a `SET`.
    x, y : in
        The registers that it names.
    o : out
        What it writes. Not a register.
    """

    #: Cycles from `x` to `o`.
    latency = 5

    enable: In(1)
    command: In(8 * COMMAND_BYTES)
    x: In(REGISTER_BITS)
    y: In(REGISTER_BITS)
    o: Out(REGISTER_BITS)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        command = command_layout(Opcode.SET)(self.command)
        low, middle = Signal(REGISTER_BITS), [Signal(HALF_BITS, name=f"middle_{n}") for n in range(2)]
        product, addend, total = Signal(REGISTER_BITS), Signal(REGISTER_BITS), Signal(REGISTER_BITS)
        shifted, above, equal = Signal(REGISTER_BITS), Signal(), Signal()
        x, factor = (value[:HALF_BITS] for value in (self.x, command.factor))
        x_high, factor_high = (value[HALF_BITS:] for value in (self.x, command.factor))
        with m.If(self.enable):
            m.d.sync += [
                low.eq(x * factor),
                middle[0].eq(x_high * factor),
                middle[1].eq(x * factor_high),
                product.eq(low + ((middle[0] + middle[1]) << HALF_BITS)),
                addend.eq(self.y + command.addend),
                total.eq(product + addend),
                shifted.eq(total >> command.shift),
                above.eq((command.limit - shifted)[-1]),
                equal.eq(shifted == command.limit),
            ]
        minimum, wrap = command.mode == SetMode.MINIMUM, command.mode == SetMode.WRAP
        m.d.comb += self.o.eq(Mux(minimum & above, command.limit, Mux(wrap & (above | equal), 0, shifted)))
        return m
