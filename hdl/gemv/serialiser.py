"""Groups of sums to a stream of sums, in the order of the results in memory."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.numerics import ACCUMULATOR_BITS

from .rounding import sum_layout
from .sequencer import group_layout


def group_sums_layout(config: Config) -> data.StructLayout:
    """The sums of a group of rows, lane by lane and in a lane slot by slot, and how many of them count."""
    sums = data.ArrayLayout(signed(ACCUMULATOR_BITS), config.right_hand_sides)
    return data.StructLayout({"sums": data.ArrayLayout(sums, config.lanes), "group": group_layout(config)})


class Serialiser(wiring.Component):
    """Emits the sums of a group row by row, and in a row slot by slot; sums of missing rows and slots are dropped.

    A shift register, not a multiplexer of wide sums.

    Latency: 1 cycle to the first sum. Throughput: one sum a cycle, without a gap between groups.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    i : In(stream.Signature(group_sums_layout(config)))
    o : Out(stream.Signature(sum_layout))
    busy : Out(1)
        A sum is inside.
    """

    #: Cycles from a group to its first sum.
    latency = 1

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(group_sums_layout(config))),
                "o": Out(stream.Signature(sum_layout)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, slots = self.config.lanes, self.config.right_hand_sides
        valid = Signal()
        sums = [
            [Signal(signed(ACCUMULATOR_BITS), name=f"sum_{lane}_{slot}", reset_less=True) for slot in range(slots)]
            for lane in range(lanes)
        ]
        group = Signal(group_layout(self.config), reset_less=True)
        slot = Signal(range(slots), reset_less=True)

        final_slot = Signal()
        final = Signal()
        m.d.comb += [
            self.o.valid.eq(valid),
            self.busy.eq(valid),
            self.o.payload.sum.eq(sums[0][0]),
            self.o.payload.base.eq(group.bases[slot]),
            final_slot.eq(slot == group.slots),
            final.eq(final_slot & (group.rows == 0)),
            self.i.ready.eq(~valid | (self.o.ready & final)),
        ]
        with m.If(self.i.ready):
            m.d.sync += valid.eq(self.i.valid)
            with m.If(self.i.valid):
                m.d.sync += [group.eq(self.i.payload.group), slot.eq(0)]
                m.d.sync += [sums[lane][n].eq(self.i.payload.sums[lane][n]) for lane in range(lanes) for n in range(slots)]
        with m.Elif(self.o.ready & final_slot):
            m.d.sync += [slot.eq(0), group.rows.eq(group.rows - 1)]
            m.d.sync += [sums[lane][n].eq(sums[lane + 1][n]) for lane in range(lanes - 1) for n in range(slots)]
        with m.Elif(self.o.ready):
            m.d.sync += slot.eq(slot + 1)
            m.d.sync += [sums[0][n].eq(sums[0][n + 1]) for n in range(slots - 1)]
        return m
