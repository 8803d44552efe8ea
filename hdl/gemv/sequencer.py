"""The beat sequencer: tells what each beat of a weight stream is, by counting."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

from .command import BASE_BITS, ROWS_BITS, gemv_command_layout
from .traits import OFFSETS, SIGNED_OFFSET, decode_traits, traits_layout


def beat_control_layout(config: Config) -> data.StructLayout:
    """What the lanes do with a beat.

    ``scale``, ``high`` and ``nibble`` say what the beat is, at most one of them. Of a nibble beat: ``upper`` is the first
    of two, with signed nibbles; ``lower`` is the second; ``term`` completes a block; ``first`` and ``last`` belong to the
    first block of a row and to its last. ``slots`` has a bit for each vector that takes part.
    """
    return data.StructLayout(
        {
            "scale": 1,
            "high": 1,
            "nibble": 1,
            "upper": 1,
            "lower": 1,
            "term": 1,
            "first": 1,
            "last": 1,
            "has_high": 1,
            "has_minimum": 1,
            "offset": range(len(OFFSETS)),
            "slots": config.right_hand_sides,
        }
    )


def group_layout(config: Config) -> data.StructLayout:
    """How the results of a group of rows, one row in each lane, are to be read.

    ``rows`` is the number of rows in the group less one, ``slots`` the number of slots less one.
    """
    return data.StructLayout(
        {
            "rows": range(config.lanes),
            "slots": range(config.right_hand_sides),
            "bases": data.ArrayLayout(BASE_BITS, config.right_hand_sides),
        }
    )


class BeatSequencer(wiring.Component):
    """Walks through the beats of one command after the other.

    While ``ready`` is high, ``control`` and ``block`` describe the next beat; the beat is taken in a cycle in which
    ``valid`` is high too. Then ``row_taken`` says that it was the last beat of a group of rows, described by ``group``, and
    ``taken`` that it was the last beat of its command. The last beat of a group waits for ``room``.

    A command is accepted while the one before it runs, so the beats of two commands follow each other without a gap.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(gemv_command_layout(config)))
    valid, ready : In(1), Out(1)
        Handshake of the beat stream. ``ready`` does not depend on ``valid``.
    room : In(1)
        A group of rows may be completed.
    control : Out(beat_control_layout(config))
        Zero kinds (``scale``, ``high``, ``nibble``) in cycles in which no beat is taken.
    block : Out(range(config.vector_blocks))
        Block of the vectors that the beat is multiplied with. Does not depend on ``valid``.
    row_taken, group, taken : Out
    busy : Out(1)
        A command has beats to come.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "command": In(stream.Signature(gemv_command_layout(config))),
                "valid": In(1),
                "ready": Out(1),
                "room": In(1),
                "control": Out(beat_control_layout(config)),
                "block": Out(range(config.vector_blocks)),
                "row_taken": Out(1),
                "group": Out(group_layout(config)),
                "taken": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config

        waiting = Signal()
        following = Signal(gemv_command_layout(config), reset_less=True)
        m.d.comb += self.command.ready.eq(~waiting)
        with m.If(self.command.valid & ~waiting):
            m.d.sync += [waiting.eq(1), following.eq(self.command.payload)]

        active = Signal()
        groups = Signal(ROWS_BITS, reset_less=True)
        last_rows = Signal(range(config.lanes), reset_less=True)
        last_block = Signal(range(config.vector_blocks), reset_less=True)
        slots = Signal(range(config.right_hand_sides), reset_less=True)
        active_slots = Signal(config.right_hand_sides, reset_less=True)
        bases = Signal.like(following.bases, reset_less=True)
        traits = Signal(traits_layout, reset_less=True)
        following_traits = Signal(traits_layout)
        decode_traits(m, following.format, following_traits)

        # What the next beat is, known a cycle ahead: the last of its block, of its row, of its command.
        scale = Signal(reset_less=True)
        high = Signal(reset_less=True)
        lower = Signal(reset_less=True)
        block = Signal(range(config.vector_blocks), reset_less=True)
        scale_blocks = Signal.like(traits.scale_blocks, reset_less=True)
        high_blocks = Signal.like(traits.high_blocks, reset_less=True)
        high_waits = Signal(reset_less=True)
        nibble = ~scale & ~high
        term = Signal()
        row_end = Signal()
        final = Signal()
        at_last_block = Signal()
        last_group = Signal()
        m.d.comb += [
            at_last_block.eq(block == last_block),
            last_group.eq(groups == 1),
            term.eq(nibble & (lower | ~traits.two_beats)),
            row_end.eq(term & at_last_block),
            final.eq(row_end & last_group),
            self.ready.eq(active & (self.room | ~row_end)),
        ]
        take = Signal()
        m.d.comb += take.eq(self.valid & self.ready)

        with m.If(take):
            m.d.sync += [scale.eq(0), high.eq(0)]
            with m.If(scale):
                m.d.sync += [scale_blocks.eq(traits.scale_blocks), high.eq(high_waits)]
            with m.Elif(high):
                m.d.sync += [high_blocks.eq(traits.high_blocks), high_waits.eq(0)]
            with m.Elif(~term):
                m.d.sync += lower.eq(1)
            with m.Else():
                # A count of 0 means that the block was the last one that the side beat served.
                scale_due = scale_blocks == 0
                high_due = traits.has_high & (high_blocks == 0)
                m.d.sync += [
                    lower.eq(0),
                    scale.eq(scale_due),
                    high.eq(high_due & ~scale_due),
                    scale_blocks.eq(scale_blocks - 1),
                    high_blocks.eq(high_blocks - 1),
                    high_waits.eq(high_due),
                    block.eq(block + 1),
                ]
                with m.If(at_last_block):
                    m.d.sync += [block.eq(0), groups.eq(groups - 1)]

        with m.If((~active | (take & final)) & waiting):
            m.d.sync += [
                waiting.eq(0),
                active.eq(1),
                groups.eq((following.rows + (config.lanes - 1)) >> (config.lanes.bit_length() - 1)),
                last_rows.eq(following.rows - 1),
                last_block.eq(following.blocks - 1),
                slots.eq(following.slots - 1),
                active_slots.eq((1 << following.slots) - 1),
                bases.eq(following.bases),
                traits.eq(following_traits),
                scale.eq(1),
                high.eq(0),
                lower.eq(0),
                block.eq(0),
                high_waits.eq(following_traits.has_high),
            ]
        with m.Elif(take & final):
            m.d.sync += active.eq(0)

        m.d.comb += [
            self.block.eq(block),
            self.control.scale.eq(take & scale),
            self.control.high.eq(take & high),
            self.control.nibble.eq(take & nibble),
            self.control.upper.eq(traits.two_beats & ~lower),
            self.control.lower.eq(lower),
            self.control.term.eq(term),
            self.control.first.eq(block == 0),
            self.control.last.eq(at_last_block),
            self.control.has_high.eq(traits.has_high),
            self.control.has_minimum.eq(traits.has_minimum),
            self.control.offset.eq(Mux(traits.two_beats & ~lower, OFFSETS.index(SIGNED_OFFSET), traits.offset)),
            self.control.slots.eq(active_slots),
            self.row_taken.eq(take & row_end),
            self.group.rows.eq(Mux(last_group, last_rows, config.lanes - 1)),
            self.group.slots.eq(slots),
            self.group.bases.eq(bases),
            self.taken.eq(take & final),
            self.busy.eq(active | waiting),
        ]
        return m
