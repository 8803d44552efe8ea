"""The GEMV engine: beats of weights in, float32 results out."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import LANE_BYTES

from ..slots.layout import vector_block_layout
from .command import gemv_command_layout
from .lane import Lane
from .rounding import RoundToFloat32
from .sequencer import BeatSequencer, beat_control_layout, group_layout
from .serialiser import Serialiser

#: Groups of rows between the last beat of a group and its results. Covers the lanes' latency for the shortest rows, and is
#: what one column of an FPGA's distributed memory holds.
GROUPS = 16


class GemvEngine(wiring.Component):
    """Multiplies matrices that arrive as weight streams (`tailrace.spec.formats`) with the vectors in the vector memory.

    Results equal `tailrace.spec.numerics` in every bit, whatever the configuration.

    Latency: `latency` cycles from the last beat of a group of rows to its first result. Throughput: one beat a cycle,
    across rows and commands, and one result a cycle. The stream of beats is held back, at the last beat of a row,
    only when `GROUPS` groups of rows wait for their results to be taken.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(gemv_command_layout(config)))
        A matrix. It is accepted while the one before it runs; from then on its beats may be taken and the vectors be read.
    i : In(stream.Signature(config.bus_width))
        The beats of the matrices' streams, one after the other.
    vector_block : Out(range(config.vector_blocks))
        Block of all vectors to read.
    vector : In(data.ArrayLayout(vector_block_layout, R))
        That block, one cycle later.
    o : Out(stream.Signature(32))
        Results: row ``r``, slot ``s`` is number ``r * slots + s``.
    taken : Out(1)
        The last beat of a command is taken in this cycle. The vectors may be overwritten from the next cycle on.
    idle : Out(1)
        No command, beat or result is inside.
    """

    #: Cycles from the last beat of a group of rows to its first result, if nothing waits: input register, lane, group
    #: FIFO, serialiser, rounding.
    latency = 1 + Lane.latency + 1 + Serialiser.latency + RoundToFloat32.latency

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "command": In(stream.Signature(gemv_command_layout(config))),
                "i": In(stream.Signature(config.bus_width)),
                "vector_block": Out(range(config.vector_blocks)),
                "vector": In(data.ArrayLayout(vector_block_layout, config.right_hand_sides)),
                "o": Out(stream.Signature(32)),
                "taken": Out(1),
                "idle": Out(1),
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
            self.taken.eq(sequencer.taken),
        ]

        # The beat waits for its vectors' blocks, and both for the multipliers.
        beat = Signal(config.bus_width, reset_less=True)
        control = Signal(beat_control_layout(config))
        vector = Signal.like(self.vector, reset_less=True)
        m.d.sync += control.eq(sequencer.control)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += beat.eq(self.i.payload)
        with m.If(control.nibble):
            m.d.sync += vector.eq(self.vector)

        lanes = []
        for n in range(config.lanes):
            m.submodules[f"lane_{n}"] = lane = Lane(config)
            m.d.comb += [
                lane.control.eq(control),
                lane.data.eq(beat.word_select(n, 8 * LANE_BYTES)),
                lane.vector.eq(vector),
            ]
            lanes.append(lane)

        # How to read a group is noted when its last beat is taken; its sums follow when they are ready.
        m.submodules.serialiser = serialiser = Serialiser(config)
        layout = serialiser.i.payload.shape()
        sums_layout, notes_layout = layout["sums"].shape, group_layout(config)
        m.submodules.sums = sums = SyncFIFO(width=sums_layout.size, depth=GROUPS)
        m.submodules.notes = notes = SyncFIFO(width=notes_layout.size, depth=GROUPS)
        m.d.comb += [
            notes.w_en.eq(sequencer.row_taken),
            notes.w_data.eq(sequencer.group),
            sequencer.room.eq(notes.w_rdy),
            sums.w_en.eq(lanes[0].done),
            *(sums_layout(sums.w_data)[n].eq(lane.sums) for n, lane in enumerate(lanes)),
            serialiser.i.valid.eq(sums.r_rdy),
            serialiser.i.payload.sums.eq(sums.r_data),
            serialiser.i.payload.group.eq(notes.r_data),
            sums.r_en.eq(serialiser.i.ready),
            notes.r_en.eq(serialiser.i.ready & sums.r_rdy),
        ]

        m.submodules.rounding = rounding = RoundToFloat32()
        wiring.connect(m, serialiser.o, rounding.i)
        wiring.connect(m, rounding.o, wiring.flipped(self.o))
        m.d.comb += self.idle.eq(~(sequencer.busy | notes.r_rdy | serialiser.busy | rounding.busy))
        return m
