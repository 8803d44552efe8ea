"""The UART transmitter: bytes to a serial line."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .uart_receiver import check_clocks_per_bit

#: A start bit, the byte, a stop bit.
FRAME_BITS = 10


class UartTransmitter(wiring.Component):
    """Send bytes as one start bit, eight data bits (lowest first) and one stop bit.

    Latency: the start bit begins in the cycle after the byte was taken. Throughput: a byte every
    ``10 * clocks_per_bit`` cycles, without a gap.

    Parameters
    ----------
    clocks_per_bit : int
        Clock cycles that a bit lasts, at least `MIN_CLOCKS_PER_BIT`.

    Attributes
    ----------
    i : stream of 8, in
    tx : Signal(), out
        The line, from a register.

    Raises
    ------
    ValueError
        If `clocks_per_bit` is not such a number.
    """

    def __init__(self, clocks_per_bit: int) -> None:
        self.clocks_per_bit = check_clocks_per_bit(clocks_per_bit)
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = Signal(FRAME_BITS - 1)
        # Cycles until the next bit, and bits that are still to begin.
        wait, left = Signal(range(self.clocks_per_bit)), Signal(range(FRAME_BITS))
        m.d.comb += self.i.ready.eq((left == 0) & (wait == 0))
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(left != 0):
            m.d.sync += [wait.eq(self.clocks_per_bit - 1), left.eq(left - 1), Cat(self.tx, bits).eq(Cat(bits, 1))]
        with m.Elif(self.i.valid):
            m.d.sync += [
                wait.eq(self.clocks_per_bit - 1),
                left.eq(FRAME_BITS - 1),
                Cat(self.tx, bits).eq(Cat(Const(0, 1), self.i.payload, Const(1, 1))),
            ]
        return m
