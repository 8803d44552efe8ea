"""Accesses to one word, on the control port or the memory bus, that end in any case."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.registers import ADDRESS_BITS

from ..axi.lite import AxiLite
from ..axi.signature import AxiRead, AxiWrite

#: Cycles after which an access counts as failed, if nothing else is said.
WATCHDOG_CYCLES = 1 << 20


def access_layout() -> data.StructLayout:
    """Write `data` to `address`, or read what is there; in `memory`, or a register at this byte offset."""
    return data.StructLayout({"memory": 1, "write": 1, "address": 32, "data": 32})


def outcome_layout() -> data.StructLayout:
    """What was read, and whether the access failed."""
    return data.StructLayout({"data": 32, "error": 1})


class WordAccess(wiring.Component):
    """Carry out one access at a time.

    An access fails if the bus answers with an error, or not within `watchdog_cycles`. A transfer on AXI can not be withdrawn:
    as long as the late one is not answered, every further access fails at once, on either port. If the answer does come, it
    is dropped and all is well again.

    Latency: an access taken in cycle t is on the bus in t+1; what the bus answers in cycle t is on `o` in t+1. Throughput: one
    access every 3 cycles, and what the bus takes.

    Parameters
    ----------
    watchdog_cycles : int
        At least 1.

    Attributes
    ----------
    i : stream of `access_layout`, in
    o : stream of `outcome_layout`, out
        One outcome for each access.
    control : AxiLite(ADDRESS_BITS), out
    read : AxiRead(32, 32), out
    write : AxiWrite(32, 32), out
        Bursts of one beat.

    Raises
    ------
    ValueError
        If `watchdog_cycles` is not a positive whole number.
    """

    def __init__(self, watchdog_cycles: int = WATCHDOG_CYCLES) -> None:
        if not isinstance(watchdog_cycles, int) or isinstance(watchdog_cycles, bool) or watchdog_cycles < 1:
            raise ValueError(f"watchdog_cycles must be a positive whole number, not {watchdog_cycles!r}")
        self.watchdog_cycles = watchdog_cycles
        super().__init__(
            {
                "i": In(stream.Signature(access_layout())),
                "o": Out(stream.Signature(outcome_layout())),
                "control": Out(AxiLite(ADDRESS_BITS)),
                "read": Out(AxiRead(32, 32)),
                "write": Out(AxiWrite(32, 32)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, o, control, read, write = self.i, self.o, self.control, self.read, self.write
        # An access was taken, and its outcome was not; its transfer has not been answered; nobody waits for the answer.
        busy, outstanding, late = Signal(), Signal(), Signal()
        access, cycles = Signal(access_layout()), Signal(range(self.watchdog_cycles))
        memory = access.memory

        # Each channel offers its part of the transfer until it is taken.
        offers = []
        for name, port, of_memory, is_write in (
            ("control_ar", control.ar, 0, 0),
            ("control_aw", control.aw, 0, 1),
            ("control_w", control.w, 0, 1),
            ("read_ar", read.ar, 1, 0),
            ("write_aw", write.aw, 1, 1),
            ("write_w", write.w, 1, 1),
        ):
            offered = Signal(name=f"{name}_offered")
            m.d.comb += port.valid.eq(offered)
            with m.If(port.ready):
                m.d.sync += offered.eq(0)
            offers.append((offered, (i.payload.memory == of_memory) & (i.payload.write == is_write)))
        m.d.comb += [
            *(channel.payload.address.eq(access.address) for channel in (control.ar, control.aw, read.ar, write.aw)),
            *(channel.payload.data.eq(access.data) for channel in (control.w, write.w)),
            *(channel.payload.strobe.eq(0b1111) for channel in (control.w, write.w)),
            write.w.payload.last.eq(1),
        ]

        answers = (
            (control.r, ~memory & ~access.write),
            (control.b, ~memory & access.write),
            (read.r, memory & ~access.write),
            (write.b, memory & access.write),
        )
        answered, response = Signal(), Signal(2)
        for channel, selected in answers:
            m.d.comb += channel.ready.eq(outstanding & selected)
            with m.If(channel.ready):
                m.d.comb += [answered.eq(channel.valid), response.eq(channel.payload.response)]

        m.d.comb += i.ready.eq(~busy)
        with m.If(answered):
            m.d.sync += [outstanding.eq(0), late.eq(0)]
        with m.If(outstanding & ~late):
            m.d.sync += cycles.eq(cycles + 1)
            with m.If(answered):
                m.d.sync += [
                    o.valid.eq(1),
                    o.payload.error.eq(response[1]),
                    o.payload.data.eq(Mux(memory, read.r.payload.data, control.r.payload.data)),
                ]
            with m.Elif(cycles == self.watchdog_cycles - 1):
                m.d.sync += [o.valid.eq(1), o.payload.error.eq(1), late.eq(1)]
        with m.If(i.valid & i.ready):
            m.d.sync += [busy.eq(1), cycles.eq(0)]
            with m.If(outstanding):
                m.d.sync += [o.valid.eq(1), o.payload.error.eq(1)]
            with m.Else():
                m.d.sync += [outstanding.eq(1), access.eq(i.payload)]
                m.d.sync += [offered.eq(concerned) for offered, concerned in offers]
        with m.If(o.valid & o.ready):
            m.d.sync += [o.valid.eq(0), busy.eq(0)]
        return m
