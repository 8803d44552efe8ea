"""What command fetch owes to the read stream that it shares, and to the sequencer."""

from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Signal, Value
from amaranth.hdl._ast import AnySeq

from tailrace.hdl.control.command_fetch import CommandFetch
from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES


class CommandFetchRules(Elaboratable):
    """Command fetch between a memory that answers each request once, at any time, and a free sequencer.

    The sequencer starts it anew only after a command has come since the start before.

    Parameters
    ----------
    dut : CommandFetch
    config : Config
    ahead : int
        Commands that it asks for ahead.
    inductive : bool
        Also claim what the registers always satisfy, which induction needs.
    """

    def __init__(self, dut: CommandFetch, config: Config, ahead: int, inductive: bool = True) -> None:
        self.dut, self.ahead, self.inductive = dut, ahead, inductive
        self.beats = COMMAND_BYTES // config.bus_bytes

    def state(self, claim: Value, text: str) -> object:
        """Claim about the registers."""
        return Assert(claim, text, src_loc_at=1) if self.inductive else []

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        drop = dut.drop
        request, i, o, beats, ahead = dut.request, dut.i, dut.o, self.beats, self.ahead
        for free in (dut.start, request.ready, i.valid, o.ready):
            m.d.comb += free.eq(AnySeq(1))
        for free in (dut.address, dut.length, dut.index, i.payload):
            m.d.comb += free.eq(AnySeq(len(free)))

        # What the memory owes: the beats of the requests that it has taken.
        owed = Signal(16)
        m.d.sync += owed.eq(owed + (request.valid & request.ready) * beats - (i.valid & i.ready))
        m.d.comb += Assume(~i.valid | (owed != 0))
        m.d.comb += Assert(~i.valid | (i.ready & (drop | dut.fifo.i.ready)), "a command's beat finds no room")

        came = Signal(init=1)
        with m.If(dut.start):
            m.d.sync += came.eq(0)
        with m.Elif(i.valid & i.ready & ~drop):
            m.d.sync += came.eq(1)
        m.d.comb += Assume(~dut.start | came)

        for name, stream, dropped in (("request", request, 0), ("o", o, dut.start)):
            stalled, before = Signal(name=f"{name}_stalled"), Signal.like(Cat(stream.payload), name=f"{name}_before")
            m.d.sync += [stalled.eq(stream.valid & ~stream.ready & ~dropped), before.eq(Cat(stream.payload))]
            stands = stream.valid & (Cat(stream.payload) == before)
            m.d.comb += Assert(~stalled | stands, "what was on offer changed before it was taken")

        useful = dut.outstanding - dut.useless
        held = dut.fifo.level + dut.position + dut.full * beats
        m.d.comb += [
            Assert(dut.room <= ahead, "there is more room than there is"),
            self.state(drop == (dut.useless != 0), "what is useless is dropped"),
            self.state(dut.outstanding >= dut.useless, "what is useless is outstanding"),
            self.state((ahead - dut.room) * beats == useful + held, "what was asked for is outstanding, or here"),
            self.state(
                owed + dut.requests.level * beats == dut.outstanding, "what is outstanding is owed, or not yet requested"
            ),
            self.state(dut.useless <= ahead * beats * (2 - came), "useless beats come from two starts at most"),
            self.state((useful + dut.place)[: (beats - 1).bit_length()] == 0, "commands arrive whole"),
            self.state((dut.fifo.level + dut.position)[: (beats - 1).bit_length()] == dut.place, "commands are kept whole"),
            self.state(dut.position < beats, "position"),
            self.state(dut.place < beats, "place"),
        ]
        return m
