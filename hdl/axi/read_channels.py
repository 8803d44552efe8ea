"""The read masters of all channels, as one."""

from dataclasses import replace

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tailrace.spec.config import Config

from .channel_masters import add_masters, stand_for
from .read_master import ReadMaster
from .signature import PAGE_BITS, AxiRead, ReadKind, bus_error_layout, read_beat_layout, read_request_layout


class ReadChannels(wiring.Component):
    """Reads memory that is striped over channels, as `ReadMaster` reads that of one.

    Part n of every beat, `bus_width` bits, lies in channel n. So a request is one of as many beats to every channel, at its
    address divided by the number of channels, and all channels read the parts of the same beats in the same order. A beat is
    on `o` when all its parts are there.

    Channels do not wait for each other: each takes a request when it can, and keeps what it reads in its own buffer. So one
    may be ahead of another by as much as its buffer holds. Nor can they lock up. A channel asks for what its own buffer has
    room for, and takes that whatever the others do. Beats leave all buffers together, so the channel that is furthest behind
    has the fewest in its buffer: if it has none, it has room, it has taken all requests but the one that is on offer, and
    it waits for its own memory alone.

    With one channel this is a `ReadMaster` and nothing else.

    Latency: that of `ReadMaster`. Throughput: one beat a cycle, if every channel's memory delivers one.

    Errors: as of `ReadMaster`. Of several parts that fail, the one that is first in the stream is reported, whichever failed
    first: when all beats before it have left by `o`, with the address of the whole beat.

    Parameters
    ----------
    config : Config
        `channels`, and what `ReadMaster` uses.

    Attributes
    ----------
    i, o, flush, idle, error, beat, beat_kind, waiting, blocked
        As of `ReadMaster`, of whole beats. A beat arrives when the last of its parts does.
    axi : AxiRead for each channel, out
    first_page : Signal(address_width - 12) for each channel, in
    last_page : Signal(address_width - 12), in
        As of `ReadMaster`; pages are those of a channel.
    level : Signal(16), out
        Whole beats that wait at `o`. Undefined from a part that fails to the next `flush`.
    """

    def __init__(self, config: Config) -> None:
        address_width, pages = config.address_width, config.address_width - PAGE_BITS
        super().__init__(
            {
                "i": In(stream.Signature(read_request_layout(address_width))),
                "o": Out(stream.Signature(read_beat_layout(config.beat_width))),
                "axi": Out(AxiRead(address_width, config.bus_width)).array(config.channels),
                "flush": In(1),
                "first_page": In(pages).array(config.channels),
                "last_page": In(pages, init=(1 << pages) - 1),
                "idle": Out(1),
                "error": Out(bus_error_layout(address_width)),
                "level": Out(16),
                "beat": Out(1),
                "beat_kind": Out(ReadKind),
                "waiting": Out(1),
                "blocked": Out(1),
            }
        )
        self._masters = [ReadMaster(replace(config, channels=1)) for _ in range(config.channels)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        add_masters(m, self, self._masters)
        if len(self._masters) == 1:
            stand_for(m, self, self._masters[0], ("idle", "error", "level", "beat", "beat_kind", "waiting", "blocked"))
            connect(m, self._masters[0].o, flipped(self.o))
        else:
            self._ask(m)
            self._join(m)
            self._count(m)
        return m

    def _ask(self, m: Module) -> None:
        """Give a request to every channel, once."""
        masters = self._masters
        taken, takes = Signal(len(masters)), Signal(len(masters))
        for n, master in enumerate(masters):
            m.d.comb += [
                master.i.valid.eq(self.i.valid & ~taken[n]),
                master.i.payload.eq(self.i.payload),
                master.i.payload.address.eq(self.i.payload.address >> exact_log2(len(masters))),
                takes[n].eq(taken[n] | master.i.ready),
            ]
        m.d.comb += self.i.ready.eq(takes.all())
        m.d.sync += taken.eq(Mux(self.i.valid & ~self.i.ready & ~self.flush, takes, 0))

    def _join(self, m: Module) -> None:
        """Make a beat of its parts, and an error of the first one that will never be whole."""
        masters = self._masters
        parts = [master.o.payload for master in masters]
        m.d.comb += [
            self.o.valid.eq(Cat(master.o.valid for master in masters).all()),
            self.o.payload.data.eq(Cat(part.data for part in parts)),
            self.o.payload.kind.eq(parts[0].kind),
            self.o.payload.last.eq(parts[0].last),
            *(master.o.ready.eq(self.o.valid & self.o.ready) for master in masters),
            self.idle.eq(Cat(master.idle for master in masters).all()),
        ]
        with m.If(self.flush):
            m.d.sync += self.error.valid.eq(0)
        for master in masters:
            # All that came before the part that failed has left this buffer, and so the same parts have left the others.
            with m.Elif(master.error.valid & (master.level == 0) & ~self.error.valid):
                m.d.sync += [
                    self.error.eq(master.error),
                    self.error.address.eq(master.error.address << exact_log2(len(masters))),
                ]

    def _count(self, m: Module) -> None:
        """Facts of the cycle."""
        masters = self._masters
        arrived, behind = Signal(len(masters)), Signal(len(masters))
        m.d.comb += [self.beat_kind.eq(masters[0].beat_kind), self.level.eq(masters[0].level)]
        for n, master in enumerate(masters):
            # Parts that have come, of beats that are not whole.
            ahead = Signal(range(master.capacity + 1), name=f"ahead_{n}")
            m.d.sync += ahead.eq(Mux(self.flush, 0, ahead + master.beat - self.beat))
            m.d.comb += [behind[n].eq(ahead == 0), arrived[n].eq(~behind[n] | master.beat)]
            # One that is ahead is at another beat already; one that is behind holds parts of whole beats only.
            with m.If(behind[n]):
                m.d.comb += [self.beat_kind.eq(master.beat_kind), self.level.eq(master.level)]
        m.d.comb += [
            self.beat.eq(arrived.all()),
            self.waiting.eq(~self.beat & Cat(master.waiting | master.beat for master in masters).any()),
            self.blocked.eq(~self.beat & ~self.waiting & Cat(master.blocked for master in masters).any()),
        ]
