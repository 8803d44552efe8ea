"""The link's endpoint: from bytes of a line to registers and memory, and back."""

from amaranth.hdl import Module, Mux
from amaranth.lib import stream, wiring
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
from .uart_receiver import received_byte_layout
from .word_access import WATCHDOG_CYCLES, WordAccess


class LinkEndpoint(wiring.Component):
    """Serve a host as `tailrace.spec.link` says, whatever carries the bytes.

    One request at a time; what arrives before the last byte of its response has been taken is ignored. A reset ends the
    session. The memory's first byte is at address 0.

    Latency: the response begins 8 cycles after the end of a request of no words. A word takes 6 cycles, if the bus answers in
    the cycle after it is asked. Throughput: 4 bytes of a response in 7 cycles.

    Parameters
    ----------
    clock_hz : int
        The clock, which a host is told; below 2**32.
    memory_bytes : int
        The memory, which a host is told and can not reach beyond; a multiple of 4 below 2**32.
    watchdog_cycles : int
        Cycles after which an access that is not answered counts as failed.

    Attributes
    ----------
    i : stream of `received_byte_layout`, in
        Without `ready`.
    o : stream of 8, out
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

    def __init__(self, clock_hz: int, memory_bytes: int, *, watchdog_cycles: int = WATCHDOG_CYCLES) -> None:
        if not isinstance(clock_hz, int) or not 0 < clock_hz < 1 << 32:
            raise ValueError(f"clock_hz must be a positive whole number below 2**32, not {clock_hz!r}")
        if not isinstance(memory_bytes, int) or not 0 < memory_bytes < 1 << 32 or memory_bytes % WORD_BYTES:
            raise ValueError(f"memory_bytes must be a positive multiple of {WORD_BYTES} below 2**32, not {memory_bytes!r}")
        self.clock_hz, self.memory_bytes = clock_hz, memory_bytes
        self.access = WordAccess(watchdog_cycles)
        super().__init__(
            {
                "i": In(stream.Signature(received_byte_layout(), always_ready=True)),
                "o": Out(stream.Signature(8)),
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
        m.submodules.decoder = decoder = SlipDecoder()
        m.submodules.receiver = receiver = RequestReceiver()
        m.submodules.buffer = buffer = PayloadBuffer()
        m.submodules.executor = executor = Executor(self.clock_hz, self.memory_bytes)
        m.submodules.access = access = self.access
        m.submodules.responder = responder = Responder()
        m.submodules.encoder = encoder = SlipEncoder()
        m.d.comb += [
            executor.interrupt.eq(self.interrupt),
            executor.memory_ready.eq(self.memory_ready),
            self.active.eq(receiver.receiving | receiver.o.valid),
            self.open.eq(executor.open),
        ]
        for source, sink in (
            (wiring.flipped(self.i), decoder.i),
            (decoder.o, receiver.i),
            (receiver.o, executor.request),
            (executor.access, access.i),
            (access.o, executor.outcome),
            (executor.response, responder.i),
            (responder.o, encoder.i),
            (encoder.o, wiring.flipped(self.o)),
            (access.control, wiring.flipped(self.control)),
            (access.read, wiring.flipped(self.read)),
            (access.write, wiring.flipped(self.write)),
        ):
            wiring.connect(m, source, sink)

        # The buffer belongs to the receiver until there is a request, and to the responder once there is a response.
        m.d.comb += [
            buffer.write.enable.eq(Mux(receiver.o.valid, executor.buffer_write.enable, receiver.write.enable)),
            buffer.write.index.eq(Mux(receiver.o.valid, executor.buffer_write.index, receiver.write.index)),
            buffer.write.data.eq(Mux(receiver.o.valid, executor.buffer_write.data, receiver.write.data)),
            buffer.read.index.eq(Mux(executor.response.valid, responder.buffer_read.index, executor.buffer_read.index)),
            executor.buffer_read.data.eq(buffer.read.data),
            responder.buffer_read.data.eq(buffer.read.data),
        ]
        return m
