"""The link bridge: from two wires to registers and memory."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.registers import ADDRESS_BITS

from ..axi.lite import AxiLite
from ..axi.signature import AxiRead, AxiWrite
from .endpoint import LinkEndpoint
from .uart_receiver import UartReceiver
from .uart_transmitter import UartTransmitter
from .word_access import WATCHDOG_CYCLES


class LinkBridge(wiring.Component):
    """Serve a host on a serial line as `tailrace.spec.link` says: `LinkEndpoint` between a UART's receiver and transmitter.

    Latency: that of the endpoint, which is short against a byte on the line. Throughput: the line's, less what a request and
    its response take beside their payload; `docs/blocks/link.md` has the numbers.

    Parameters
    ----------
    clocks_per_bit : int
        Clock cycles that a bit on the line lasts, at least 4.
    clock_hz, memory_bytes, watchdog_cycles : int
        As of `LinkEndpoint`.

    Attributes
    ----------
    rx : Signal(), in
        In no clock's domain.
    tx : Signal(), out
    control : AxiLite(ADDRESS_BITS), out
    read : AxiRead(32, 32), out
    write : AxiWrite(32, 32), out
    interrupt, memory_ready : Signal(), in
    active, open : Signal(), out
        As of `LinkEndpoint`.

    Raises
    ------
    ValueError
        If a parameter is not such a number.
    """

    def __init__(
        self, clocks_per_bit: int, clock_hz: int, memory_bytes: int, *, watchdog_cycles: int = WATCHDOG_CYCLES
    ) -> None:
        self.receiver, self.transmitter = UartReceiver(clocks_per_bit), UartTransmitter(clocks_per_bit)
        self.endpoint = LinkEndpoint(clock_hz, memory_bytes, watchdog_cycles=watchdog_cycles)
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "control": Out(AxiLite(ADDRESS_BITS)),
                "read": Out(AxiRead(32, 32)),
                "write": Out(AxiWrite(32, 32)),
                "interrupt": In(1),
                "memory_ready": In(1),
                "active": Out(1),
                "open": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = self.receiver
        m.submodules.endpoint = endpoint = self.endpoint
        m.submodules.transmitter = transmitter = self.transmitter
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            endpoint.interrupt.eq(self.interrupt),
            endpoint.memory_ready.eq(self.memory_ready),
            self.active.eq(endpoint.active),
            self.open.eq(endpoint.open),
        ]
        wiring.connect(m, receiver.o, endpoint.i)
        wiring.connect(m, endpoint.o, transmitter.i)
        wiring.connect(m, endpoint.control, wiring.flipped(self.control))
        wiring.connect(m, endpoint.read, wiring.flipped(self.read))
        wiring.connect(m, endpoint.write, wiring.flipped(self.write))
        return m
