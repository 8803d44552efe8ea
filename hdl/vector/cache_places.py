"""Where keys and values lie in memory."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK, LANE_BYTES, Q8_0
from tailrace.spec.isa import ADDRESS_UNIT, COMMAND_BYTES, MAX_HEAD, Cache, Opcode

from ..control.layout import command_layout
from .append_operation import Step, append_operation_layout

#: A period of the keys' stream: a beat of scales, and the blocks that it serves.
_PERIOD_BLOCKS = Q8_0.scale_blocks
_PERIOD_BEATS = 1 + _PERIOD_BLOCKS * Q8_0.nibble_beats
_FLOAT_BYTES = 4
#: Bits of the number of blocks of a head, and of the number of a block in all rows of its keys.
_BLOCKS_BITS = (MAX_HEAD // BLOCK).bit_length()
_BLOCK_NUMBER_BITS = 32 + _BLOCKS_BITS


class CachePlaces(wiring.Component):
    """Address and strobe of each write of an `APPEND`, as `tailrace.spec.kv_cache` lays the cache out.

    The first place needs a product, of the row and the blocks of a head; it is found in `setup` cycles by adding shifted
    rows. From there on each place is the one before it plus a stride. Addresses are modulo ``2**address_width``.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(512)
    begun : In(1)
        A command is there. 0 in the cycle before a command begins.
    ready : Out(1)
        Places are known: `setup` cycles after `begun` became 1.
    operation : In(append_operation_layout(config))
    mask : In(lanes)
        The lanes that a beat of values has a value of.
    advance : In(1)
        The operation is done.
    address : Out(address_width)
        Of the bus beat. Combinational from `operation`.
    strobe : Out(beat_bytes)
        Combinational from `operation`.
    """

    #: Cycles from `begun` to `ready`: one for each bit that a row is multiplied with, and what is before and behind them.
    setup = _BLOCKS_BITS + 3

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(8 * COMMAND_BYTES),
                "begun": In(1),
                "ready": Out(1),
                "operation": In(append_operation_layout(config)),
                "mask": In(config.lanes),
                "advance": In(1),
                "address": Out(config.address_width),
                "strobe": Out(config.beat_bytes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, operation = self._config, self.operation
        command = data.View(command_layout(Opcode.APPEND), self.command)
        values = command.cache == Cache.VALUES.value
        beat_bytes = config.beat_bytes

        # The place of the head's first block or row, of the current one, and of the head's scale (values only).
        head = Signal(config.address_width, reset_less=True)
        place = Signal(config.address_width, reset_less=True)
        scale = Signal(config.address_width, reset_less=True)
        phase = Signal(range(_PERIOD_BLOCKS), reset_less=True)
        starts, first, first_phase = self._start(m, command, values, scale)

        next_head, next_place = Signal.like(head), Signal.like(head)
        m.d.comb += [
            next_head.eq(head + command.head_stride * ADDRESS_UNIT),
            next_place.eq(place + Mux(values, command.row_stride * ADDRESS_UNIT, _PERIOD_BEATS * beat_bytes)),
        ]
        # What comes next does not depend on whether it comes now, which is known late.
        block_ends = (operation.step == Step.KEY_SCALE) & (phase == _PERIOD_BLOCKS - 1)
        moves = operation.head_ends | ((operation.step == Step.VALUES) & operation.writes) | block_ends
        goes_on = self.ready & self.advance
        with m.If(starts | (goes_on & operation.head_ends)):
            m.d.sync += head.eq(Mux(starts, first, next_head))
        with m.If(starts | (goes_on & moves)):
            m.d.sync += place.eq(Mux(starts, first, Mux(operation.head_ends, next_head, next_place)))
        with m.If(starts | (goes_on & (operation.head_ends | (operation.step == Step.KEY_SCALE)))):
            m.d.sync += phase.eq(Mux(starts | operation.head_ends, first_phase, phase + 1))
        with m.If(goes_on & (operation.step == Step.VALUE_SCALE)):
            m.d.sync += scale.eq(scale + command.scale_stride * ADDRESS_UNIT)

        lane_bits = (config.lanes - 1).bit_length()
        lane = command.token[:lane_bits]
        lane_strobe, byte_strobe = Signal(LANE_BYTES), Signal(LANE_BYTES)
        m.d.comb += [
            self.address.eq(place),
            # Keys: one lane. Values: one byte of each lane.
            self.strobe.eq(lane_strobe << lane * LANE_BYTES),
            byte_strobe.eq(1 << command.token[: (LANE_BYTES - 1).bit_length()]),
        ]
        with m.Switch(operation.step):
            with m.Case(Step.UPPER, Step.LOWER):
                lower = operation.step == Step.LOWER
                m.d.comb += [
                    # Behind the beat of scales and the blocks before this one; a nibble beat is half of a block.
                    self.address.eq(place + (Cat(lower, phase) + 1) * beat_bytes),
                    lane_strobe.eq((1 << LANE_BYTES) - 1),
                ]
            with m.Case(Step.KEY_SCALE):
                m.d.comb += lane_strobe.eq(3 << phase * 2)
            with m.Case(Step.VALUES):
                m.d.comb += self.strobe.eq(Cat(Mux(bit, byte_strobe, 0) for bit in self.mask))
            with m.Case(Step.VALUE_SCALE):
                byte_bits = (beat_bytes - 1).bit_length()
                m.d.comb += [
                    self.address.eq(Cat(scale[:byte_bits] & 0, scale[byte_bits:])),
                    self.strobe.eq(((1 << _FLOAT_BYTES) - 1) << scale[:byte_bits]),
                ]
        return m

    def _start(self, m: Module, command: data.View, values: Value, scale: Signal) -> tuple[Value, Value, Signal]:
        """Find the first places. Returns whether to take them now, the first one, and the phase of a head's first block."""
        lane_bits, lane_byte_bits = (self._config.lanes - 1).bit_length(), (LANE_BYTES - 1).bit_length()
        blocks = Signal(_BLOCKS_BITS)
        number = Signal(_BLOCK_NUMBER_BITS, reset_less=True)
        rows = Signal(_BLOCK_NUMBER_BITS, reset_less=True)
        beats = Signal(self._config.address_width, reset_less=True)
        first_phase = Signal(range(_PERIOD_BLOCKS), reset_less=True)
        step = Signal(range(self.setup + 1))
        m.d.comb += [
            blocks.eq((command.count + BLOCK - 1) >> (BLOCK - 1).bit_length()),
            self.ready.eq(step == self.setup),
        ]
        with m.If(~self.begun):
            m.d.sync += step.eq(0)
        with m.Elif(~self.ready):
            m.d.sync += step.eq(step + 1)
        with m.Switch(step):
            with m.Case(0):
                m.d.sync += [number.eq(0), rows.eq(command.token >> lane_bits)]
            for n, bit in enumerate(blocks):
                with m.Case(1 + n):
                    m.d.sync += rows.eq(rows << 1)
                    with m.If(bit):
                        m.d.sync += number.eq(number + rows)
            with m.Case(self.setup - 2):
                period = number >> (_PERIOD_BLOCKS - 1).bit_length()
                m.d.sync += [
                    first_phase.eq(number),
                    beats.eq(Mux(values, command.token >> lane_byte_bits, period + period * (_PERIOD_BEATS - 1))),
                    scale.eq(command.scales * ADDRESS_UNIT + command.token * _FLOAT_BYTES),
                ]
        first = command.destination * ADDRESS_UNIT + beats * self._config.beat_bytes
        return step == self.setup - 1, first, first_phase
