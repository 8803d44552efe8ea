"""Groups of sums to words of sums, slot by slot."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.isa import BUFFER_UNIT
from tailrace.spec.numerics import ACCUMULATOR_BITS

from ..vector.activation_buffer import matrix_place_elements
from .command import maxima_gap
from .sequencer import EXPONENT_SUM_BITS, group_layout, word_address_bits


def lane_sums_layout(config: Config) -> data.ArrayLayout:
    """The sums of a group of rows, lane by lane and in a lane slot by slot."""
    return data.ArrayLayout(data.ArrayLayout(signed(ACCUMULATOR_BITS), config.right_hand_sides), config.lanes)


def word_place_layout(config: Config) -> data.StructLayout:
    """Where the results of a group of rows for one slot go: a place in the activation buffer, and the lanes that count.

    ``first`` is the first group of a command, ``last`` the last slot of a group. ``maximum`` is a word without results, kept
    for the largest one of a slot. ``final`` is the last word of a command. ``hidden`` are lanes whose results are masked.
    """
    return data.StructLayout(
        {
            "address": word_address_bits(config),
            "mask": config.lanes,
            "hidden": config.lanes if config.right_hand_sides > 1 else 0,
            "first": 1,
            "last": 1,
            "maximum": 1,
            "final": 1,
        }
    )


class Serialiser(wiring.Component):
    """Emits the sums of a group slot by slot: those of all lanes at once, which are a word of the activation buffer.

    A shift register, not a multiplexer of wide sums. A group of n slots takes n cycles; if maxima are kept, a word for each of
    them follows the last group's, `maxima_gap` cycles later. The next group may come when all words are over, not earlier. That
    is the sender's duty.

    Latency: 1 cycle to the sums of slot 0. Throughput: the sums of one slot a cycle, without a gap between groups.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    valid : In(1)
        There is a group.
    sums : In(lane_sums_layout(config))
    group : In(group_layout(config))
    word_valid : Out(1)
    word : Out(data.ArrayLayout(signed(120), lanes))
        Sums of one slot.
    base : Out(signed(EXPONENT_SUM_BITS))
        Base exponent of that slot.
    place : Out(word_place_layout(config))
        Where their results go; or the maximum of a slot, with sums that do not matter.
    """

    #: Cycles from a group to its first sums.
    latency = 1

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "valid": In(1),
                "sums": In(lane_sums_layout(config)),
                "group": In(group_layout(config)),
                "word_valid": Out(1),
                "word": Out(data.ArrayLayout(signed(ACCUMULATOR_BITS), config.lanes)),
                "base": Out(signed(EXPONENT_SUM_BITS)),
                "place": Out(word_place_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, slots, gap = self.config.lanes, self.config.right_hand_sides, maxima_gap(self.config)
        valid, maxima = Signal(), Signal()
        waits = Signal(range(gap + 1))
        others = Signal(range(slots), reset_less=True)
        sums = [
            [Signal(signed(ACCUMULATOR_BITS), name=f"sum_{lane}_{slot}", reset_less=True) for slot in range(slots)]
            for lane in range(lanes)
        ]
        group = Signal(group_layout(self.config), reset_less=True)
        # How many of this slot's last results are masked.
        hidden = Signal(range(slots), reset_less=True)

        with m.If(self.valid):
            m.d.sync += [valid.eq(1), maxima.eq(0), others.eq(self.group.slots), group.eq(self.group)]
            m.d.sync += hidden.eq(self.group.masked)
            m.d.sync += [sums[lane][n].eq(self.sums[lane][n]) for lane in range(lanes) for n in range(slots)]
        with m.Elif(valid & group.keep_maxima & (group.slots == 0) & ~maxima):
            m.d.sync += [
                valid.eq(gap == 0),
                maxima.eq(1),
                waits.eq(gap),
                group.slots.eq(others),
                group.address.eq(group.maxima),
                group.stride.eq(BUFFER_UNIT // matrix_place_elements(self.config)),
                group.mask.eq(1),
            ]
        with m.Elif(waits != 0):
            m.d.sync += [waits.eq(waits - 1), valid.eq(waits == 1)]
        with m.Elif(group.slots == 0):
            m.d.sync += valid.eq(0)
        with m.Elif(valid):
            m.d.sync += [group.slots.eq(group.slots - 1), group.address.eq(group.address + group.stride)]
            m.d.sync += hidden.eq(Mux(hidden == 0, group.masked, hidden - 1))
            for n in range(slots - 1):
                m.d.sync += [
                    group.bases[n].eq(group.bases[n + 1]),
                    *(sums[lane][n].eq(sums[lane][n + 1]) for lane in range(lanes)),
                ]

        m.d.comb += [
            self.word_valid.eq(valid),
            *(self.word[lane].eq(sums[lane][0]) for lane in range(lanes)),
            self.base.eq(group.bases[0]),
            self.place.address.eq(group.address),
            self.place.mask.eq(group.mask),
            self.place.hidden.eq(Cat(group.behind < hidden + n for n in range(lanes))),
            self.place.first.eq(group.first),
            self.place.last.eq(group.slots == 0),
            self.place.maximum.eq(maxima),
            self.place.final.eq(group.final & (group.slots == 0) & (maxima | ~group.keep_maxima)),
        ]
        return m
