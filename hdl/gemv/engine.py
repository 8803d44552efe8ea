"""The GEMV engine: beats of weights in, float32 results out."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import LANE_BYTES

from ..fifo import SMALL_DEPTH, StreamFifo
from ..slots.vector_block import vector_block_layout
from ..vector.activation_buffer import BufferWrite, matrix_place_elements
from .command import gemv_command_layout
from .lane import Lane
from .maxima import Maxima
from .rounding import RoundToFloat32
from .sequencer import BeatSequencer, group_layout
from .serialiser import Serialiser, word_place_layout


class GemvEngine(wiring.Component):
    """Multiplies matrices that arrive as weight streams (`tailrace.spec.formats`) with the vectors in the vector memory.

    Results equal `tailrace.spec.numerics` in every bit, whatever the configuration.

    Latency: `latency` cycles from the last beat of a group of rows to the write of its results for slot 0; those of the other
    slots follow, one a cycle, and `maxima_gap` cycles behind the last of them the maxima that a command keeps. Throughput: one
    beat a cycle, across rows, commands and formats, as long as a row has as many beats as its command has slots; beats of
    shorter rows, and of those behind maxima, come as fast as results leave.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(gemv_command_layout(config)))
        A matrix. It is accepted while the one before it runs; from then on its beats may be taken and the vectors be read,
        which may be overwritten from the cycle after its last beat was taken on.
    i : In(stream.Signature(config.beat_width))
        The beats of the matrices' streams, one after the other.
    vector_block : Out(range(config.vector_blocks))
        Block of all slots to read.
    set : Out(2)
        Set of base exponents that this block's exponents are to be relative to.
    vector : In(data.ArrayLayout(vector_block_layout, R))
        That block, one cycle later.
    write : Out(BufferWrite(config, lanes))
        Results, in the order of rows and in a group of rows in that of the slots; then maxima. Can not be refused.
    finished : Out(1)
        The last word of a command is written in this cycle.
    """

    #: Cycles from the last beat of a group of rows to the write of its first results.
    latency = Lane.latency + Serialiser.latency + RoundToFloat32.latency

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "command": In(stream.Signature(gemv_command_layout(config))),
                "i": In(stream.Signature(config.beat_width)),
                "vector_block": Out(range(config.vector_blocks)),
                "set": Out(2),
                "vector": In(data.ArrayLayout(vector_block_layout, config.right_hand_sides)),
                "write": Out(BufferWrite(config, config.lanes, matrix_place_elements(config))),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config

        m.submodules.sequencer = sequencer = BeatSequencer(config)
        wiring.connect(m, wiring.flipped(self.command), sequencer.command)
        m.d.comb += [
            sequencer.valid.eq(self.i.valid),
            self.i.ready.eq(sequencer.ready),
            self.vector_block.eq(sequencer.block),
            self.set.eq(sequencer.set),
        ]

        # The vectors' blocks are there one cycle after the beat; they wait for its codes.
        asked = Signal()
        vector = Signal.like(self.vector, reset_less=True)
        m.d.sync += asked.eq(sequencer.control.nibble)
        with m.If(asked):
            m.d.sync += vector.eq(self.vector)

        lanes = []
        for n in range(config.lanes):
            m.submodules[f"lane_{n}"] = lane = Lane(config)
            m.d.comb += [
                lane.control.eq(sequencer.control),
                lane.data.eq(self.i.payload.word_select(n, 8 * LANE_BYTES)),
                lane.vector.eq(vector),
            ]
            lanes.append(lane)

        # What becomes of a group is noted when its last beat is taken; its sums follow when they are ready. There is room for
        # as many notes as groups can be on their way, so beats never wait for it.
        assert Lane.latency <= SMALL_DEPTH
        m.submodules.notes = notes = StreamFifo(group_layout(config), SMALL_DEPTH)
        m.submodules.serialiser = serialiser = Serialiser(config)
        done = lanes[0].done
        m.d.comb += [
            notes.i.valid.eq(sequencer.row_taken),
            notes.i.payload.eq(sequencer.group),
            notes.o.ready.eq(done),
            serialiser.valid.eq(done),
            serialiser.group.eq(notes.o.payload),
            *(serialiser.sums[n].eq(lane.sums) for n, lane in enumerate(lanes)),
        ]

        m.submodules.maxima = maxima = Maxima(config)
        for n in range(config.lanes):
            m.submodules[f"rounding_{n}"] = rounding = RoundToFloat32()
            m.d.comb += [
                rounding.valid.eq(serialiser.word_valid),
                rounding.sum.eq(serialiser.word[n]),
                rounding.base.eq(serialiser.base),
                maxima.results[n].eq(rounding.result),
            ]
        valid, place = serialiser.word_valid, serialiser.place
        for n in range(RoundToFloat32.latency):
            place_after = Signal(word_place_layout(config), name=f"place_{n}", reset_less=True)
            valid_after = Signal(name=f"valid_{n}")
            m.d.sync += valid_after.eq(valid)
            with m.If(valid):
                m.d.sync += place_after.eq(place)
            valid, place = valid_after, place_after
        wiring.connect(m, maxima.write, wiring.flipped(self.write))
        m.d.comb += [maxima.valid.eq(valid), maxima.place.eq(place), self.finished.eq(maxima.finished)]
        return m
