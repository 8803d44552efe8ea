"""The half of the stream contract that every part keeps, whatever it computes: an offer stands until it is taken."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Signal
from amaranth.hdl._ast import AnySeq
from amaranth.lib import stream
from amaranth.lib.wiring import Flow


class SteadyStreams(Elaboratable):
    """Claims that what a component offers on a stream stays there until it is taken.

    Streams that come in keep to it too. All other inputs are free, but for what `surroundings` assumes of them.
    """

    def __init__(self, component, surroundings: Callable[[Module, Any], None] | None = None) -> None:
        self.component, self.surroundings = component, surroundings

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.component = self.component
        for name, member in self.component.signature.members.items():
            port = getattr(self.component, name)
            if member.is_port:
                if member.flow is Flow.In:
                    m.d.comb += Cat(port).eq(AnySeq(len(Cat(port))))
            elif isinstance(member.signature, stream.Signature):
                self._stream(m, name, port, incoming=member.flow is Flow.In)
            else:
                # A port to a memory of its own, say: whatever comes in there is free.
                for _, inner, value in member.signature.flatten(port):
                    if (inner.flow is Flow.In) == (member.flow is Flow.Out):
                        m.d.comb += Cat(value).eq(AnySeq(len(Cat(value))))
        if self.surroundings:
            self.surroundings(m, self.component)
        return m

    def _stream(self, m: Module, name: str, port, incoming: bool) -> None:
        payload, stalled = Cat(port.payload), Signal(name=f"{name}_stalled")
        before = Signal(len(payload), name=f"{name}_before")
        m.d.sync += [stalled.eq(port.valid & ~port.ready), before.eq(payload)]
        stands = port.valid & (payload == before)
        if incoming:
            m.d.comb += [port.valid.eq(AnySeq(1)), payload.eq(AnySeq(len(payload))), Assume(~stalled | stands)]
        else:
            m.d.comb += [port.ready.eq(AnySeq(1)), Assert(~stalled | stands, "what was on offer changed before it was taken")]
