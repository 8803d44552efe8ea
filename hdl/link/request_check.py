"""The request check: tells what can not be done."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.link import MAX_PAYLOAD, WORD_BYTES, Kind
from tailrace.spec.registers import ADDRESS_BITS

from .headers import request_layout


class RequestCheck(wiring.Component):
    """Tell requests that are answered with `Status.BAD_REQUEST`, whatever the session.

    Latency: `latency` cycles from a request to what is said of it. Throughput: one a cycle.

    Parameters
    ----------
    memory_bytes : int
        A multiple of 4 below 2**32; not checked here.

    Attributes
    ----------
    request : Signal(request_layout), in
    bad : Signal(), out
    """

    #: Cycles from `request` to `bad`.
    latency = 2

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        super().__init__({"request": In(request_layout()), "bad": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        r = self.request
        end = Signal(33)
        nothing, unaligned, too_long, not_one, wrong_payload = (
            Signal(name=name) for name in ("nothing", "unaligned", "too_long", "not_one", "wrong_payload")
        )
        kind, session = Signal(8), Signal(16)
        m.d.sync += [
            kind.eq(r.kind),
            session.eq(r.session),
            end.eq(r.address + r.length),
            nothing.eq((r.address == 0) & (r.length == 0)),
            unaligned.eq((r.address % WORD_BYTES != 0) | (r.length % WORD_BYTES != 0)),
            too_long.eq((r.length == 0) | (r.length > MAX_PAYLOAD)),
            not_one.eq(r.length != WORD_BYTES),
            wrong_payload.eq(r.payload != ((r.kind == Kind.WRITE_MEMORY) | (r.kind == Kind.WRITE_REGISTER))),
        ]
        with m.Switch(kind):
            with m.Case(Kind.OPEN):
                m.d.sync += self.bad.eq(~nothing | wrong_payload | (session == 0))
            with m.Case(Kind.STATUS):
                m.d.sync += self.bad.eq(~nothing | wrong_payload)
            with m.Case(Kind.READ_MEMORY, Kind.WRITE_MEMORY):
                m.d.sync += self.bad.eq(unaligned | too_long | wrong_payload | (end > self.memory_bytes))
            with m.Case(Kind.READ_REGISTER, Kind.WRITE_REGISTER):
                m.d.sync += self.bad.eq(unaligned | not_one | wrong_payload | (end > 1 << ADDRESS_BITS))
            with m.Case(Kind.READ_REGISTERS):
                m.d.sync += self.bad.eq(unaligned | too_long | wrong_payload | (end > 1 << ADDRESS_BITS))
            with m.Default():
                m.d.sync += self.bad.eq(1)
        return m
