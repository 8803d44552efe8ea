"""The link bridge: from two wires to registers and memory."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.link import WORD_BYTES
from tailrace.spec.registers import ADDRESS_BITS

from ..axi.lite import AxiLite
from ..axi.signature import AxiRead, AxiWrite
from .executor import Executor
from .payload_buffer import PayloadBuffer
from .request_receiver import RequestReceiver
from .responder import Responder
from .slip_decoder import SlipDecoder
from .slip_encoder import SlipEncoder
from .uart_receiver import UartReceiver, check_clocks_per_bit
from .uart_transmitter import UartTransmitter
from .word_access import WATCHDOG_CYCLES, WordAccess


class LinkBridge(wiring.Component):
    """Serve a host on a serial line as `tailrace.spec.link` says.

    One request at a time; what arrives before its response has been handed to the transmitter is ignored. A reset ends the
    session. The memory's first byte is at address 0.

    Latency: about 10 cycles a word between a request and its response, and what the bus takes. Throughput: the line's, less
    22 bytes for each access; `docs/blocks/link.md` has the numbers.

    Parameters
    ----------
    clocks_per_bit : int
        Clock cycles that a bit on the line lasts, at least 4.
    clock_hz : int
        The clock, which a host is told; below 2**32.
    memory_bytes : int
        The memory, which a host is told and which it can't reach beyond; a multiple of 4 below 2**32.
    watchdog_cycles : int
        Cycles after which an access that is not answered counts as failed.

    Attributes
    ----------
    rx : Signal(), in
        In no clock's domain.
    tx : Signal(), out
    control : AxiLite(ADDRESS_BITS), out
        The registers.
    read : AxiRead(32, 32), out
    write : AxiWrite(32, 32), out
        The memory, in bursts of one beat.
    interrupt, memory_ready : Signal(), in
        What the flags of each response say. Memory that is not ready is not accessed.
    active : Signal(), out
        A frame is arriving, or being answered.
    open : Signal(), out
        There is a session.

    Raises
    ------
    ValueError
        If a parameter is not such a number.
    """

    def __init__(
        self, clocks_per_bit: int, clock_hz: int, memory_bytes: int, *, watchdog_cycles: int = WATCHDOG_CYCLES
    ) -> None:
        self.clocks_per_bit = check_clocks_per_bit(clocks_per_bit)
        if not isinstance(clock_hz, int) or not 0 < clock_hz < 1 << 32:
            raise ValueError(f"clock_hz must be a positive whole number below 2**32, not {clock_hz!r}")
        if not isinstance(memory_bytes, int) or not 0 < memory_bytes < 1 << 32 or memory_bytes % WORD_BYTES:
            raise ValueError(f"memory_bytes must be a positive multiple of {WORD_BYTES} below 2**32, not {memory_bytes!r}")
        self.clock_hz, self.memory_bytes = clock_hz, memory_bytes
        self.access = WordAccess(watchdog_cycles)
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
        m.submodules.uart_receiver = uart_receiver = UartReceiver(self.clocks_per_bit)
        m.submodules.decoder = decoder = SlipDecoder()
        m.submodules.receiver = receiver = RequestReceiver()
        m.submodules.buffer = buffer = PayloadBuffer()
        m.submodules.executor = executor = Executor(self.clock_hz, self.memory_bytes)
        m.submodules.access = access = self.access
        m.submodules.responder = responder = Responder()
        m.submodules.encoder = encoder = SlipEncoder()
        m.submodules.uart_transmitter = uart_transmitter = UartTransmitter(self.clocks_per_bit)
        m.d.comb += [
            uart_receiver.rx.eq(self.rx),
            self.tx.eq(uart_transmitter.tx),
            executor.interrupt.eq(self.interrupt),
            executor.memory_ready.eq(self.memory_ready),
            self.active.eq(receiver.receiving | receiver.o.valid),
            self.open.eq(executor.open),
        ]
        for source, sink in (
            (uart_receiver.o, decoder.i),
            (decoder.o, receiver.i),
            (receiver.o, executor.request),
            (executor.access, access.i),
            (access.o, executor.outcome),
            (executor.response, responder.i),
            (responder.o, encoder.i),
            (encoder.o, uart_transmitter.i),
            (access.control, wiring.flipped(self.control)),
            (access.read, wiring.flipped(self.read)),
            (access.write, wiring.flipped(self.write)),
        ):
            wiring.connect(m, source, sink)

        # The buffer belongs to the receiver until there is a request, and to the responder once there is a response.
        for member in ("enable", "index", "data"):
            mine, theirs = getattr(executor.buffer_write, member), getattr(receiver.write, member)
            m.d.comb += getattr(buffer.write, member).eq(Mux(receiver.o.valid, mine, theirs))
        m.d.comb += buffer.read.index.eq(Mux(executor.response.valid, responder.buffer_read.index, executor.buffer_read.index))
        m.d.comb += [executor.buffer_read.data.eq(buffer.read.data), responder.buffer_read.data.eq(buffer.read.data)]
        return m
