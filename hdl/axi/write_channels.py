"""The write masters of all channels, as one."""

from dataclasses import replace

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

from ..fifo import StreamFifo
from .channel_masters import add_masters, stand_for
from .signature import PAGE_BITS, AxiWrite, beat_write_layout, bus_error_layout
from .write_master import WRITES_IN_FLIGHT, WriteMaster


class WriteChannels(wiring.Component):
    """Writes beats to memory that is striped over channels, as `WriteMaster` writes to that of one.

    Part n of every beat, `bus_width` bits, lies in channel n, at the beat's address divided by the number of channels. A
    channel is written to only where bytes of its part are: most of what is appended to a KV cache goes to one.

    Channels do not wait for each other: each takes its part of a beat when it can. What beats are under way is noted besides,
    in their order. One is done when every channel concerned has answered to as many parts of its own. So which one failed
    first is known, in whatever order the channels answer.

    With one channel this is a `WriteMaster` and nothing else.

    Latency, throughput: as of `WriteMaster`, a beat a cycle while at most 62 of them wait for answers.

    Errors: the first beat of which a part failed, in the order of the beats, is reported, with the address of the whole beat.
    At most 64 more are taken until `flush`.

    Flush: as of `WriteMaster`. Of a beat that is on offer when it begins, channels may have taken their part: that is written.

    Parameters
    ----------
    config : Config
        `channels`, and what `WriteMaster` uses.

    Attributes
    ----------
    i, flush, idle, error
        As of `WriteMaster`, of whole beats.
    axi : AxiWrite for each channel, out
    first_page : Signal(address_width - 12) for each channel, in
    last_page : Signal(address_width - 12), in
        As of `WriteMaster`; pages are those of a channel.
    beat : Signal(), out
        A beat has been written in this cycle: with several channels, the last answer to it is there.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        address_width, pages = config.address_width, config.address_width - PAGE_BITS
        super().__init__(
            {
                "i": In(stream.Signature(beat_write_layout(address_width, config.beat_width))),
                "axi": Out(AxiWrite(address_width, config.bus_width)).array(config.channels),
                "flush": In(1),
                "first_page": In(pages).array(config.channels),
                "last_page": In(pages, init=(1 << pages) - 1),
                "idle": Out(1),
                "error": Out(bus_error_layout(address_width)),
                "beat": Out(1),
            }
        )
        self._masters = [WriteMaster(replace(config, channels=1)) for _ in range(config.channels)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        add_masters(m, self, self._masters)
        if len(self._masters) == 1:
            stand_for(m, self, self._masters[0], ("idle", "error", "beat"))
        else:
            self._share(m)
        return m

    def _share(self, m: Module) -> None:
        i, masters, width = self.i, self._masters, self._config.bus_width
        fields = {"address": self._config.address_width, "command": 16, "channels": len(masters)}
        order = StreamFifo(data.StructLayout(fields), WRITES_IN_FLIGHT)
        m.submodules.order = ResetInserter(self.flush)(order)

        # Every channel concerned takes its part once, and the beat is noted once.
        concerned = Cat(i.payload.strobe.word_select(n, width // 8).any() for n in range(len(masters)))
        taken, takes = Signal(len(masters) + 1), Signal(len(masters) + 1)
        takers: list[WriteMaster | StreamFifo] = [*masters, order]
        for n, (taker, wanted) in enumerate(zip(takers, [*concerned, Const(1)], strict=True)):
            m.d.comb += [
                taker.i.valid.eq(i.valid & wanted & ~taken[n]),
                takes[n].eq(taken[n] | taker.i.ready | ~wanted),
            ]
        for n, master in enumerate(masters):
            m.d.comb += [
                master.i.payload.address.eq(i.payload.address // len(masters)),
                master.i.payload.data.eq(i.payload.data.word_select(n, width)),
                master.i.payload.strobe.eq(i.payload.strobe.word_select(n, width // 8)),
            ]
        m.d.comb += [
            order.i.payload.address.eq(i.payload.address),
            order.i.payload.command.eq(i.payload.command),
            order.i.payload.channels.eq(concerned),
            i.ready.eq(takes.all() | self.flush),
        ]
        m.d.sync += taken.eq(Mux(i.valid & ~i.ready, takes, 0))

        # Parts that each channel has written, of beats that are not done.
        done, failed = Signal(len(masters)), Signal(len(masters))
        first = order.o.payload
        for n, master in enumerate(masters):
            written = Signal(range(WRITES_IN_FLIGHT + 2), name=f"written_{n}")
            answer = master.axi.b
            good = answer.valid & ~answer.payload.response[1] & ~master.error.valid
            with m.If(self.flush):
                m.d.sync += written.eq(0)
            with m.Else():
                m.d.sync += written.eq(written + good - (self.beat & first.channels[n]))
            m.d.comb += [
                done[n].eq((written != 0) | ~first.channels[n]),
                failed[n].eq(~done[n] & master.error.valid),
            ]
        m.d.comb += [
            self.beat.eq(order.o.valid & done.all()),
            order.o.ready.eq(done.all()),
            self.idle.eq(Cat(master.idle for master in masters).all() & (order.level == 0)),
        ]
        with m.If(self.flush):
            m.d.sync += self.error.valid.eq(0)
        with m.Elif(order.o.valid & failed.any() & ~self.error.valid):
            m.d.sync += [
                self.error.valid.eq(1),
                self.error.address.eq(first.address),
                self.error.command.eq(first.command),
            ]
