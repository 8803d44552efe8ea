"""The UART receiver: bytes from a serial line."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

#: Fewest clock cycles that a bit may last.
MIN_CLOCKS_PER_BIT = 4


def check_clocks_per_bit(clocks_per_bit: int) -> int:
    """Return `clocks_per_bit`, or raise ValueError if it is not a whole number of at least `MIN_CLOCKS_PER_BIT`."""
    if not isinstance(clocks_per_bit, int) or isinstance(clocks_per_bit, bool) or clocks_per_bit < MIN_CLOCKS_PER_BIT:
        raise ValueError(f"clocks_per_bit must be a whole number of at least {MIN_CLOCKS_PER_BIT}, not {clocks_per_bit!r}")
    return clocks_per_bit


def received_byte_layout() -> data.StructLayout:
    """A byte from the line. `damaged`: its stop bit was missing, and `data` means nothing."""
    return data.StructLayout({"data": 8, "damaged": 1})


class UartReceiver(wiring.Component):
    """Receive bytes of one start bit, eight data bits (lowest first) and one stop bit.

    A start bit is looked at again in its middle; where the line is high again, it was none. Every other bit is sampled in
    its middle, counted from the cycle in which the start bit is seen. So a bit of the sender may last up to 5 % more or less,
    if bytes follow without a gap 10 % / `clocks_per_bit` less than that. After a missing stop bit the line must be high
    before a byte can begin.

    Latency: a byte is on `o` half a bit after its stop bit began, and 2 cycles for the synchroniser. Throughput: the line's.

    Parameters
    ----------
    clocks_per_bit : int
        Clock cycles that a bit lasts, at least `MIN_CLOCKS_PER_BIT`.

    Attributes
    ----------
    rx : Signal(), in
        The line, in no clock's domain.
    o : stream of `received_byte_layout`, out
        For one cycle a byte: there is no `ready`.

    Raises
    ------
    ValueError
        If `clocks_per_bit` is not such a number.
    """

    def __init__(self, clocks_per_bit: int) -> None:
        self.clocks_per_bit = check_clocks_per_bit(clocks_per_bit)
        super().__init__({"rx": In(1, init=1), "o": Out(stream.Signature(received_byte_layout(), always_ready=True))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, line, init=1)
        whole, half = self.clocks_per_bit, self.clocks_per_bit // 2
        # Cycles until the next sample, and data bits until the stop bit.
        wait, left = Signal(range(whole)), Signal(range(8))
        byte = Signal(8)
        sample = wait == 0
        m.d.comb += self.o.payload.data.eq(byte)
        with m.If(sample):
            m.d.sync += wait.eq(whole - 1)
        with m.Else():
            m.d.sync += wait.eq(wait - 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [wait.eq(half - 1), left.eq(7)]
                with m.If(~line):
                    m.next = "START"
            with m.State("START"), m.If(sample):
                with m.If(line):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "DATA"
            with m.State("DATA"), m.If(sample):
                m.d.sync += [byte.eq(Cat(byte[1:], line)), left.eq(left - 1)]
                with m.If(left == 0):
                    m.next = "STOP"
            with m.State("STOP"), m.If(sample):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.damaged.eq(~line)]
                with m.If(line):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "BROKEN"
            with m.State("BROKEN"), m.If(line):
                m.next = "IDLE"
        return m
