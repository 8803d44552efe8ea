"""The beat sequencer: tells what each beat of a weight stream is, by counting."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import BeatKind

from ..slots.vector_block import BASE_BITS
from ..vector.activation_buffer import matrix_place_elements
from .command import PLACE_BITS, ROWS_BITS, gemv_command_layout, maxima_gap
from .traits import SIDE_KINDS, decode_traits, lane_traits_layout, traits_layout

#: Bits of a base exponent and a command's exponent together.
EXPONENT_SUM_BITS = BASE_BITS + 1


def beat_control_layout(config: Config) -> data.StructLayout:
    """What the lanes do with a beat.

    ``scale``, ``subscale``, ``high`` and ``nibble`` say what the beat is, at most one of them. Of a nibble beat: ``upper`` is
    the first of two, with signed nibbles; ``lower`` is the second; ``term`` completes a block; ``superblock`` belongs to the
    last block that a subscale beat serves; ``first`` and ``last`` to the first block of a row and to its last. ``slots`` has a
    bit for each vector that takes part.
    """
    return data.StructLayout(
        {
            "scale": 1,
            "subscale": 1,
            "high": 1,
            "nibble": 1,
            "upper": 1,
            "lower": 1,
            "term": 1,
            "superblock": 1,
            "first": 1,
            "last": 1,
            "traits": lane_traits_layout,
            "slots": config.right_hand_sides,
        }
    )


def word_address_bits(config: Config) -> int:
    """Bits of the place of a word in the activation buffer."""
    return (config.buffer_entries // matrix_place_elements(config) - 1).bit_length()


def behind_bits(config: Config) -> int:
    """Bits of a number of rows behind the first one of a group, as far as that matters to what is masked."""
    return 0 if config.right_hand_sides == 1 else (config.right_hand_sides + config.lanes - 2).bit_length()


def group_layout(config: Config) -> data.StructLayout:
    """What becomes of the sums of a group of rows, one row in each lane.

    The results of slot 0 go to place ``address`` of the activation buffer, those of each next slot ``stride`` places further.
    ``mask`` has a bit for each lane that has a row, ``slots`` is the number of slots less one, ``bases`` are the slots' base
    exponents with the command's exponent. ``first`` is the first group of a command, ``final`` the last one. Behind that follow
    the slots' maxima with ``keep_maxima``, the first of which goes to place ``maxima``. ``masked`` is that of the command, and
    ``behind`` the rows behind that of lane 0, or all ones if they are too many to be masked.
    """
    address = word_address_bits(config)
    return data.StructLayout(
        {
            "address": address,
            "stride": address,
            "mask": config.lanes,
            "slots": range(config.right_hand_sides),
            "bases": data.ArrayLayout(signed(EXPONENT_SUM_BITS), config.right_hand_sides),
            "first": 1,
            "final": 1,
            "keep_maxima": 1,
            "maxima": address,
            "masked": range(config.right_hand_sides),
            "behind": behind_bits(config),
        }
    )


class BeatSequencer(wiring.Component):
    """Walks through the beats of one command after the other.

    While ``ready`` is high, ``control``, ``block`` and ``set`` describe the next beat; the beat is taken in a cycle in which
    ``valid`` is high too. Then ``row_taken`` says that it was the last beat of a group of rows, described by ``group``.

    The results of a group leave the engine slot by slot, one a cycle. So the last beat of a group waits, if need be, until as
    many cycles after the last beat of the group before as that one has slots; behind the last group of a command that keeps its
    maxima until `maxima_gap` and as many cycles again.

    A command is accepted while the one before it runs, so the beats of two commands follow each other without a gap. (After a
    command of a single beat there may be one cycle without a beat.)

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(gemv_command_layout(config)))
    valid, ready : In(1), Out(1)
        Handshake of the beat stream. ``ready`` does not depend on ``valid``.
    control : Out(beat_control_layout(config))
        Zero kinds (``scale``, ``subscale``, ``high``, ``nibble``) in cycles in which no beat is taken.
    block : Out(range(config.vector_blocks))
        Block of the slots that the beat is multiplied with. Does not depend on ``valid``.
    set : Out(2)
        The vectors' set of base exponents.
    row_taken, group : Out
    """

    #: Cycles from a beat to what is said of it.
    latency = 0

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "command": In(stream.Signature(gemv_command_layout(config))),
                "valid": In(1),
                "ready": Out(1),
                "control": Out(beat_control_layout(config)),
                "block": Out(range(config.vector_blocks)),
                "set": Out(2),
                "row_taken": Out(1),
                "group": Out(group_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        lanes, gap = config.lanes, maxima_gap(config)
        lane_bits, place_bits = lanes.bit_length() - 1, matrix_place_elements(config).bit_length() - 1

        # The command behind the one that runs, as what the registers below begin with.
        waiting = Signal()
        following = Signal(_beginning_layout(config), reset_less=True)
        m.d.comb += self.command.ready.eq(~waiting)
        with m.If(self.command.valid & ~waiting):
            m.d.sync += [waiting.eq(1), *self._begin(m, following)]

        active = Signal()
        groups = Signal(ROWS_BITS, reset_less=True)
        last_mask = Signal(lanes, reset_less=True)
        last_block = Signal(range(config.vector_blocks), reset_less=True)
        first_place = Signal(range(config.vector_blocks), reset_less=True)
        slots = Signal(range(config.right_hand_sides), reset_less=True)
        active_slots = Signal(config.right_hand_sides, reset_less=True)
        set_ = Signal(2, reset_less=True, name="set")
        address = Signal(word_address_bits(config), reset_less=True)
        stride = Signal(PLACE_BITS - place_bits, reset_less=True)
        bases = Signal(self.group.bases.shape(), reset_less=True)
        traits = Signal(traits_layout, reset_less=True)

        # The side beats that are due before the next nibble beat, and the blocks that the last ones serve after the next.
        due = Signal(len(SIDE_KINDS), reset_less=True)
        counts = [Signal.like(last, name=f"count_{n}", reset_less=True) for n, last in enumerate(traits.last)]
        lower = Signal(reset_less=True)
        # Blocks of the row behind this one; whether it is the first and the last one.
        left = Signal(range(config.vector_blocks), reset_less=True)
        first, at_last_block = Signal(reset_less=True), Signal(reset_less=True)
        place = Signal(range(config.vector_blocks), reset_less=True)
        # Cycles until a group may end. `may_end` says in a register that they are over: much of the engine waits for `ready`.
        pace, may_end = Signal(range(2 * config.right_hand_sides + gap)), Signal(init=1)
        # Planes of the block behind this one; whether it is the last block of the row, and of it the last plane.
        planes = Signal.like(traits.more_planes, name="planes", reset_less=True)
        at_end = Signal(reset_less=True)
        # `due` is zero, in a register of its own.
        nibble = Signal(reset_less=True)
        # The beat completes a block; a register too.
        term = Signal(reset_less=True)
        row_end = Signal()
        final = Signal()
        first_group, last_group = Signal(reset_less=True), Signal(reset_less=True)
        # The command keeps its maxima, and where the first of them goes.
        keeps, maxima = Signal(reset_less=True), Signal(word_address_bits(config), reset_less=True)
        masked = Signal(range(config.right_hand_sides), reset_less=True)
        behind, last_lane = Signal(behind_bits(config), reset_less=True), Signal(lane_bits, reset_less=True)
        superblock = Signal()
        take = Signal()
        m.d.comb += [
            row_end.eq(term & at_end),
            final.eq(row_end & last_group),
            superblock.eq(counts[1] == 0),
            self.ready.eq(active & (may_end | ~row_end)),
            take.eq(self.valid & self.ready),
        ]

        # Whether a beat is taken only says when, not what: it is known late.
        renews = waiting & (~active | final)
        with m.If(take | (waiting & ~active)):
            with m.If(renews):
                m.d.sync += [
                    waiting.eq(0),
                    active.eq(1),
                    groups.eq(following.groups),
                    first_group.eq(1),
                    last_group.eq(following.last_group),
                    keeps.eq(following.keeps),
                    maxima.eq(following.maxima),
                    last_mask.eq(following.last_mask),
                    masked.eq(following.masked),
                    behind.eq(following.behind),
                    last_lane.eq(following.last_lane),
                    last_block.eq(following.last_block),
                    first_place.eq(following.first_place),
                    slots.eq(following.slots),
                    active_slots.eq(following.active_slots),
                    set_.eq(following.set),
                    address.eq(following.address),
                    stride.eq(following.stride),
                    bases.eq(following.bases),
                    traits.eq(following.traits),
                    due.eq(following.traits.sides),
                    nibble.eq(following.nibble),
                    term.eq(following.nibble & ~following.traits.two_beats),
                    *(count.eq(last) for count, last in zip(counts, following.traits.last, strict=True)),
                    lower.eq(0),
                    left.eq(following.last_block),
                    at_last_block.eq(following.at_last_block),
                    planes.eq(following.traits.more_planes),
                    at_end.eq(following.at_last_block & (following.traits.more_planes == 0)),
                    first.eq(1),
                    place.eq(following.first_place),
                ]
            with m.Else():
                with m.If(~nibble):
                    # The lowest bit is the beat that was taken.
                    rest = due & (due - 1)
                    m.d.sync += [due.eq(rest), nibble.eq(rest == 0), term.eq((rest == 0) & ~traits.two_beats)]
                with m.Elif(~term):
                    m.d.sync += [lower.eq(1), term.eq(1)]
                with m.Else():
                    m.d.sync += [lower.eq(0), first.eq(0)]
                    with m.If(planes != 0):
                        m.d.sync += [planes.eq(planes - 1), at_end.eq(at_last_block & (planes == 1))]
                    with m.Else():
                        m.d.sync += [
                            planes.eq(traits.more_planes),
                            left.eq(left - 1),
                            at_last_block.eq(left == 1),
                            at_end.eq((left == 1) & (traits.more_planes == 0)),
                            place.eq(place + 1),
                        ]
                    none_due = ~Cat((count == 0) & traits.sides[n] for n, count in enumerate(counts)).any()
                    m.d.sync += [nibble.eq(none_due), term.eq(none_due & ~traits.two_beats)]
                    for n, count in enumerate(counts):
                        m.d.sync += count.eq(count - 1)
                        with m.If(count == 0):
                            m.d.sync += [due[n].eq(traits.sides[n]), count.eq(traits.last[n])]
                    with m.If(at_end):
                        m.d.sync += [
                            left.eq(last_block),
                            at_last_block.eq(last_block == 0),
                            at_end.eq((last_block == 0) & (traits.more_planes == 0)),
                            first.eq(1),
                            place.eq(first_place),
                            first_group.eq(0),
                            groups.eq(groups - 1),
                            last_group.eq(groups == 2),
                            behind.eq(_saturated(Cat(last_lane, (groups - 2)[:ROWS_BITS]), len(behind))),
                            address.eq(address + (1 << lane_bits - place_bits)),
                        ]

        with m.If(take & row_end):
            m.d.sync += [
                pace.eq(Mux(last_group & keeps, Cat(C(1, 1), slots) + gap, slots)),
                may_end.eq((slots == 0) & ~(last_group & keeps)),
            ]
        with m.Elif(~may_end):
            m.d.sync += [pace.eq(pace - 1), may_end.eq(pace == 1)]

        with m.If(take & final & ~waiting):
            m.d.sync += active.eq(0)

        sides = {
            BeatKind.SCALE: self.control.scale,
            BeatKind.SUBSCALE: self.control.subscale,
            BeatKind.HIGH: self.control.high,
        }
        m.d.comb += [
            self.block.eq(place),
            self.set.eq(set_),
            *(sides[kind].eq(take & due[n] & ~due[:n].any()) for n, kind in enumerate(SIDE_KINDS)),
            self.control.nibble.eq(take & nibble),
            self.control.upper.eq(traits.two_beats & ~lower),
            self.control.lower.eq(lower),
            self.control.term.eq(term),
            self.control.superblock.eq(superblock),
            self.control.first.eq(first),
            self.control.last.eq(at_end),
            self.control.traits.eq(traits.lane),
            self.control.slots.eq(active_slots),
            self.row_taken.eq(take & row_end),
            self.group.address.eq(address),
            self.group.stride.eq(stride),
            self.group.mask.eq(Mux(last_group, last_mask, (1 << lanes) - 1)),
            self.group.slots.eq(slots),
            self.group.bases.eq(bases),
            self.group.first.eq(first_group),
            self.group.final.eq(last_group),
            self.group.keep_maxima.eq(last_group & keeps),
            self.group.maxima.eq(maxima),
            self.group.masked.eq(masked),
            self.group.behind.eq(behind),
        ]
        return m

    def _begin(self, m: Module, following: data.View) -> list[Any]:
        """What a command begins with, from the command that is offered."""
        command, lanes = self.command.payload, self.config.lanes
        lane_bits, place_bits = lanes.bit_length() - 1, matrix_place_elements(self.config).bit_length() - 1
        traits = Signal(traits_layout, name="offered_traits")
        decode_traits(m, command.format, traits)
        last_row = (command.rows - 1)[:lane_bits] if lane_bits else 0
        return [
            following.groups.eq((command.rows + (lanes - 1)) >> lane_bits),
            following.last_group.eq(command.rows <= lanes),
            following.keeps.eq(command.keep_maxima),
            following.maxima.eq(command.maxima >> place_bits),
            following.last_mask.eq((2 << last_row) - 1),
            following.masked.eq(command.masked),
            following.behind.eq(_saturated(command.rows - 1, len(following.behind))),
            following.last_lane.eq(last_row),
            following.last_block.eq(command.blocks - 1),
            following.at_last_block.eq(command.blocks == 1),
            following.first_place.eq(command.first_block),
            following.slots.eq(command.slots - 1),
            following.active_slots.eq((1 << command.slots) - 1),
            following.set.eq(command.set),
            following.address.eq(command.offset >> place_bits),
            following.stride.eq(command.slot_stride >> place_bits),
            *(base.eq(given + command.exponent) for base, given in zip(following.bases, command.bases, strict=True)),
            following.traits.eq(traits),
            following.nibble.eq(traits.sides == 0),
        ]


def _beginning_layout(config: Config) -> data.StructLayout:
    """What the registers of `BeatSequencer` are at the first beat of a command, by their names there."""
    place_bits = matrix_place_elements(config).bit_length() - 1
    return data.StructLayout(
        {
            "groups": ROWS_BITS,
            "last_group": 1,
            "keeps": 1,
            "maxima": word_address_bits(config),
            "last_mask": config.lanes,
            "masked": range(config.right_hand_sides),
            "behind": behind_bits(config),
            "last_lane": config.lanes.bit_length() - 1,
            "last_block": range(config.vector_blocks),
            "at_last_block": 1,
            "first_place": range(config.vector_blocks),
            "slots": range(config.right_hand_sides),
            "active_slots": config.right_hand_sides,
            "set": 2,
            "address": word_address_bits(config),
            "stride": PLACE_BITS - place_bits,
            "bases": data.ArrayLayout(signed(EXPONENT_SUM_BITS), config.right_hand_sides),
            "traits": traits_layout,
            "nibble": 1,
        }
    )


def _saturated(value: Value, bits: int) -> Value:
    """A number, or all ones if it needs more bits."""
    return value[:bits] | value[bits:].any().replicate(bits)
