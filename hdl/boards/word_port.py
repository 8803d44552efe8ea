"""Words of 32 bits on a port of wider beats."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..axi.signature import AxiRead, AxiWrite
from .dram import HOST_WIDTH


class WordPort(wiring.Component):
    """Carry out accesses of one word, as `tailrace.hdl.link.word_access.WordAccess` makes them, on a port of wider beats.

    A read takes its word from the beat, a write lets the beat's other bytes alone. With LiteDRAM's own converter, which gathers
    words to beats, a board in simulation ended in a bus error while a model was loaded.

    Latency: none for what is asked, and none for what is answered. A read is taken when the one before is answered.

    Parameters
    ----------
    address_width : int
    data_width : int
        Bits of a beat: a multiple of 32, by a power of two.

    Attributes
    ----------
    host_read : AxiRead(address_width, 32), in
    host_write : AxiWrite(address_width, 32), in
        Bursts of one beat.
    read : AxiRead(address_width, data_width), out
    write : AxiWrite(address_width, data_width), out
    """

    def __init__(self, address_width: int, data_width: int) -> None:
        self._words = data_width // HOST_WIDTH
        super().__init__(
            {
                "host_read": In(AxiRead(address_width, HOST_WIDTH)),
                "host_write": In(AxiWrite(address_width, HOST_WIDTH)),
                "read": Out(AxiRead(address_width, data_width)),
                "write": Out(AxiWrite(address_width, data_width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = self._words
        first, end = exact_log2(HOST_WIDTH // 8), exact_log2(words * HOST_WIDTH // 8)
        asked, answer = self.host_read, self.read
        word, waiting = Signal(range(words)), Signal()
        m.d.comb += [
            answer.ar.valid.eq(asked.ar.valid & ~waiting),
            asked.ar.ready.eq(answer.ar.ready & ~waiting),
            answer.ar.p.address.eq(asked.ar.p.address & -(1 << end)),
            asked.r.valid.eq(answer.r.valid),
            answer.r.ready.eq(asked.r.ready),
            asked.r.p.response.eq(answer.r.p.response),
            asked.r.p.last.eq(answer.r.p.last),
            asked.r.p.data.eq(answer.r.p.data.word_select(word, HOST_WIDTH)),
        ]
        with m.If(answer.ar.valid & answer.ar.ready):
            m.d.sync += [word.eq(asked.ar.p.address[first:end]), waiting.eq(1)]
        with m.If(answer.r.valid & answer.r.ready):
            m.d.sync += waiting.eq(0)

        # A word's place is in its address, so both go on together.
        given, taken = self.host_write, self.write
        both, done = Signal(), Signal()
        address_sent, data_sent = Signal(), Signal()
        m.d.comb += [
            both.eq(given.aw.valid & given.w.valid),
            taken.aw.valid.eq(both & ~address_sent),
            taken.aw.p.address.eq(given.aw.p.address & -(1 << end)),
            taken.w.valid.eq(both & ~data_sent),
            taken.w.p.data.eq(given.w.p.data.replicate(words)),
            taken.w.p.strobe.word_select(given.aw.p.address[first:end], HOST_WIDTH // 8).eq(given.w.p.strobe),
            taken.w.p.last.eq(1),
            done.eq(both & (address_sent | taken.aw.ready) & (data_sent | taken.w.ready)),
            given.aw.ready.eq(done),
            given.w.ready.eq(done),
            given.b.valid.eq(taken.b.valid),
            given.b.p.eq(taken.b.p),
            taken.b.ready.eq(given.b.ready),
        ]
        m.d.sync += [
            address_sent.eq(both & ~done & (address_sent | taken.aw.ready)),
            data_sent.eq(both & ~done & (data_sent | taken.w.ready)),
        ]
        return m
