"""One port on two of a memory controller, which take the memory's rows in turn."""

from typing import Any

from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..axi.signature import PAGE_BITS, AxiRead, AxiWrite, address_layout
from ..fifo import StreamFifo
from ..stream_register import StreamRegister

#: The ports of the controller.
PORTS = 2
#: Beats of reads, and of writes, on their way: more than two ports of LiteDRAM take, so that their places are never short.
IN_FLIGHT = 64


class RowPorts(wiring.Component):
    """Cut bursts into beats, send those of even rows to one port and those of odd rows to the other, and keep their order.

    A port of LiteDRAM's crossbar waits for the last command of a bank before it asks the next bank, which then opens its row
    while nothing is transferred. Here the next row belongs to the other port, and is opened meanwhile. Beats are asked for one
    by one, in order, so a port gets the next row when the other one has no room for more of this one.

    Reads are answered in order. A burst written is answered when all its beats are, in order, with OKAY. Reads and writes do
    not wait for each other. What lies at an address is always behind the same port, so a read that is asked for after a write
    has been answered finds what was written if this is true of each port.

    No deadlock: answers to writes are always taken, and the first read on its way is also the first one of its port.

    Latency: 2 cycles from `read.ar` to `reads`, none back. Throughput: one beat a cycle each way.

    Parameters
    ----------
    address_width, data_width : int
    row_bytes : int
        Bytes of a row of one bank: a power of two, and at least a beat.

    Attributes
    ----------
    read : AxiRead(address_width, data_width), in
    write : AxiWrite(address_width, data_width), in
        Bursts of addresses that go up, within 4 KiB.
    reads : array of AxiRead, out
    writes : array of AxiWrite, out
        The ports, with bursts of one beat. Their answers to writes are not looked at.
    """

    #: Cycles from `read.ar` to `reads`.
    latency = 2

    def __init__(self, address_width: int, data_width: int, row_bytes: int) -> None:
        self._widths, self._port_bit = (address_width, data_width), exact_log2(row_bytes)
        read, write = AxiRead(address_width, data_width), AxiWrite(address_width, data_width)
        super().__init__(
            {"read": In(read), "write": In(write), "reads": Out(read).array(PORTS), "writes": Out(write).array(PORTS)}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._read(m)
        self._write(m)
        return m

    def _read(self, m: Module) -> None:
        read = self.read
        m.submodules.read_beats = beats = _Beats(*self._widths)
        m.submodules.read_order = order = StreamFifo(_PLACE, IN_FLIGHT)
        wiring.connect(m, wiring.flipped(read.ar), beats.i)
        port = beats.o.p.address[self._port_bit]
        asked = [self._addresses(m, f"ar_{number}", one.ar) for number, one in enumerate(self.reads)]
        for number, one in enumerate(asked):
            m.d.comb += [
                one.valid.eq(beats.o.valid & order.i.ready & (port == number)),
                one.p.address.eq(beats.o.p.address),
            ]
        go = Signal()
        m.d.comb += [
            go.eq(order.i.ready & _choose(port, [one.ready for one in asked])),
            beats.o.ready.eq(go),
            order.i.valid.eq(beats.o.valid & go),
            order.i.p.port.eq(port),
            order.i.p.last.eq(beats.o.p.last),
        ]

        turn = order.o.p
        for number, one in enumerate(self.reads):
            m.d.comb += one.r.ready.eq(order.o.valid & read.r.ready & (turn.port == number))
        m.d.comb += [
            read.r.valid.eq(order.o.valid & _choose(turn.port, [one.r.valid for one in self.reads])),
            read.r.p.data.eq(_choose(turn.port, [one.r.p.data for one in self.reads])),
            read.r.p.response.eq(_choose(turn.port, [one.r.p.response for one in self.reads])),
            read.r.p.last.eq(turn.last),
            order.o.ready.eq(read.r.valid & read.r.ready),
        ]

    def _write(self, m: Module) -> None:
        write = self.write
        m.submodules.write_beats = beats = _Beats(*self._widths)
        m.submodules.write_order = order = StreamFifo(_PLACE, IN_FLIGHT)
        wiring.connect(m, wiring.flipped(write.aw), beats.i)
        port = beats.o.p.address[self._port_bit]
        asked = [self._addresses(m, f"aw_{number}", one.aw) for number, one in enumerate(self.writes)]
        # Which port a beat of data goes to is in its address, so both go on together.
        both, done, address_sent, data_sent = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            both.eq(beats.o.valid & write.w.valid & order.i.ready),
            done.eq(
                both
                & (address_sent | _choose(port, [one.ready for one in asked]))
                & (data_sent | _choose(port, [one.w.ready for one in self.writes]))
            ),
            beats.o.ready.eq(done),
            write.w.ready.eq(done),
            order.i.valid.eq(done),
            order.i.p.port.eq(port),
            order.i.p.last.eq(beats.o.p.last),
        ]
        m.d.sync += [
            address_sent.eq(both & ~done & (address_sent | _choose(port, [one.ready for one in asked]))),
            data_sent.eq(both & ~done & (data_sent | _choose(port, [one.w.ready for one in self.writes]))),
        ]

        turn = order.o.p
        answered = [Signal(range(IN_FLIGHT + 1), name=f"answered_{number}") for number in range(PORTS)]
        taken = Signal()
        for number, (address, one, count) in enumerate(zip(asked, self.writes, answered, strict=True)):
            of_it = port == number
            m.d.comb += [
                address.valid.eq(both & of_it & ~address_sent),
                address.p.address.eq(beats.o.p.address),
                one.w.valid.eq(both & of_it & ~data_sent),
                one.w.p.data.eq(write.w.p.data),
                one.w.p.strobe.eq(write.w.p.strobe),
                one.w.p.last.eq(1),
                # LiteDRAM loses the answers that it has no room for.
                one.b.ready.eq(1),
            ]
            m.d.sync += count.eq(count + one.b.valid - (taken & (turn.port == number)))
        first = Signal()
        m.d.comb += [
            first.eq(order.o.valid & _choose(turn.port, [count != 0 for count in answered])),
            write.b.valid.eq(first & turn.last),
            taken.eq(first & (write.b.ready | ~turn.last)),
            order.o.ready.eq(taken),
        ]

    def _addresses(self, m: Module, name: str, channel: Any) -> Any:
        """The stream of addresses of a port. LiteDRAM takes them or not at the end of a long way through its crossbar."""
        m.submodules[name] = register = StreamRegister(address_layout(self._widths[0]))
        wiring.connect(m, register.o, wiring.flipped(channel))
        return register.i


#: Which port a beat went to, and whether it is its burst's last.
_PLACE = data.StructLayout({"port": 1, "last": 1})


class _Beats(wiring.Component):
    """The beats of bursts, one a cycle. Latency: 1 cycle."""

    def __init__(self, address_width: int, data_width: int) -> None:
        self._beat_bits = exact_log2(data_width // 8)
        beat = data.StructLayout({"address": address_width, "last": 1})
        super().__init__({"i": In(stream.Signature(address_layout(address_width))), "o": Out(stream.Signature(beat))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        i, o = self.i, self.o
        left = Signal(len(i.p.length))
        # A burst lies in a page.
        place = o.p.address[self._beat_bits : PAGE_BITS]
        with m.If(o.ready | ~o.valid):
            m.d.comb += i.ready.eq(left == 0)
            with m.If(left == 0):
                m.d.sync += [
                    o.valid.eq(i.valid),
                    o.p.address.eq(i.p.address),
                    o.p.last.eq(i.p.length == 0),
                ]
                with m.If(i.valid):
                    m.d.sync += left.eq(i.p.length)
            with m.Else():
                m.d.sync += [place.eq(place + 1), o.p.last.eq(left == 1), left.eq(left - 1)]
        return m


def _choose(port: Value, values: list[Any]) -> Any:
    return Array(values)[port]
