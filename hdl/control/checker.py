"""Decides whether this build can execute a command."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import BLOCK, FORMATS
from tailrace.spec.isa import COMMAND_BYTES, MAX_ROWS, MAX_STREAM_BLOCKS, MAX_STRIDE, Opcode, reserved_mask
from tailrace.spec.vector import ALIGNMENT

from .layout import command_layout


class CommandChecker(wiring.Component):
    """Check a command as `spec.isa.check` does, and count the bus beats that it reads.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    enable : in
        1 while a command is to be checked; at 0 `code` and `beats` stay as they are. A command is looked at for a few cycles
        and then waits, for thousands if the datapath is busy: there is no need to check it again in each of them.
    command : in
        512 bits, to be held steady for `LATENCY` cycles.
    code : out
        An `ErrorCode`, `LATENCY` cycles later.
    beats : out
        Bus beats of the command's vector or weights, `LATENCY` cycles later; meaningless for other commands.
    """

    #: Cycles from `command` to `code` and `beats`.
    LATENCY = 3

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__({"enable": In(1, init=1), "command": In(8 * COMMAND_BYTES), "code": Out(8), "beats": Out(32)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config

        def view(opcode: Opcode) -> Any:
            return command_layout(opcode)(self.command)

        fence, load = view(Opcode.FENCE), view(Opcode.LOAD_VECTOR)
        gemv, quantise, store = view(Opcode.GEMV), view(Opcode.QUANTISE), view(Opcode.STORE)

        def reserved(opcode: Opcode) -> Value:
            return (self.command & Const(reserved_mask(opcode), 8 * COMMAND_BYTES)).any()

        def outside(value: Value, low: int, high: int) -> Value:
            return (value < low) | (value > high)

        def high_address(address: Value) -> Value:
            return address[config.address_width :].any() if config.address_width < 64 else Const(0, 1)

        def misaligned(address: Value) -> Value:
            return address[: exact_log2(ALIGNMENT)].any()

        with m.If(self.enable):
            # Cycle 1: what a few comparators can tell.
            opcode_bad, field_bad, range_bad, alignment_bad = Signal(), Signal(), Signal(), Signal()
            entries = Signal(44)
            groups, blocks = Signal(24), Signal(13)
            m.d.sync += [opcode_bad.eq(0), field_bad.eq(0), range_bad.eq(0), alignment_bad.eq(0), entries.eq(0)]
            with m.Switch(fence.opcode):
                with m.Case(Opcode.FENCE):
                    m.d.sync += field_bad.eq(reserved(Opcode.FENCE))
                with m.Case(Opcode.LOAD_VECTOR):
                    m.d.sync += [
                        field_bad.eq(reserved(Opcode.LOAD_VECTOR) | (load.slot >= config.right_hand_sides)),
                        range_bad.eq(high_address(load.source) | outside(load.blocks, 1, config.vector_blocks)),
                        alignment_bad.eq(misaligned(load.source)),
                    ]
                with m.Case(Opcode.GEMV):
                    known = Signal()
                    with m.Switch(gemv.format):
                        with m.Case(*(f.number for f in FORMATS)):
                            m.d.comb += known.eq(1)
                    m.d.sync += [
                        field_bad.eq(reserved(Opcode.GEMV) | ~known | outside(gemv.slots, 1, config.right_hand_sides)),
                        range_bad.eq(
                            high_address(gemv.source)
                            | high_address(gemv.destination)
                            | outside(gemv.blocks, 1, config.vector_blocks)
                            | outside(gemv.rows, 1, MAX_ROWS)
                        ),
                        alignment_bad.eq(misaligned(gemv.source) | misaligned(gemv.destination)),
                        entries.eq(Mux(gemv.keep, gemv.offset + gemv.rows * gemv.slots[:3], 0)),
                    ]
                with m.Case(Opcode.QUANTISE):
                    m.d.sync += [
                        field_bad.eq(reserved(Opcode.QUANTISE) | (quantise.slot >= config.right_hand_sides)),
                        range_bad.eq(
                            outside(quantise.blocks, 1, config.vector_blocks) | outside(quantise.stride, 1, MAX_STRIDE)
                        ),
                        entries.eq(quantise.offset + quantise.blocks[:13] * quantise.stride[:3] * BLOCK),
                    ]
                with m.Case(Opcode.STORE):
                    m.d.sync += [
                        field_bad.eq(reserved(Opcode.STORE)),
                        range_bad.eq(high_address(store.destination) | outside(store.rows, 1, MAX_ROWS)),
                        alignment_bad.eq(misaligned(store.destination)),
                        entries.eq(store.offset + store.rows),
                    ]
                with m.Default():
                    m.d.sync += opcode_bad.eq(1)
            m.d.sync += [
                groups.eq((gemv.rows[:24] + Const(config.lanes - 1, 24)) >> exact_log2(config.lanes)),
                blocks.eq(gemv.blocks),
            ]

            # Cycle 2: the blocks in a lane's stream.
            stream_blocks, code = Signal(37), Signal(8)
            m.d.sync += stream_blocks.eq(groups * blocks)
            with m.If(opcode_bad):
                m.d.sync += code.eq(ErrorCode.BAD_OPCODE)
            with m.Elif(field_bad):
                m.d.sync += code.eq(ErrorCode.BAD_FIELD)
            with m.Elif(range_bad | (entries > config.result_entries)):
                m.d.sync += code.eq(ErrorCode.OUT_OF_RANGE)
            with m.Elif(alignment_bad):
                m.d.sync += code.eq(ErrorCode.MISALIGNED)
            with m.Else():
                m.d.sync += code.eq(ErrorCode.NONE)

            # Cycle 3: beats, by the format's periods.
            too_long = (fence.opcode == Opcode.GEMV) & (stream_blocks > MAX_STREAM_BLOCKS)
            m.d.sync += self.code.eq(
                Mux(too_long & ((code == ErrorCode.NONE) | (code == ErrorCode.MISALIGNED)), ErrorCode.OUT_OF_RANGE, code)
            )
            with m.If(fence.opcode == Opcode.LOAD_VECTOR):
                parts = 1 + ((load.blocks[:13] + ALIGNMENT - 1) >> exact_log2(ALIGNMENT)) + load.blocks[:13]
                m.d.sync += self.beats.eq(parts << exact_log2(ALIGNMENT // config.bus_bytes))
            with m.Else():
                with m.Switch(gemv.format):
                    for f in FORMATS:
                        with m.Case(f.number):
                            beats = (stream_blocks * f.nibble_beats) + _ceiling_divide(stream_blocks, f.blocks_per_scale_beat)
                            if f.high_bits:
                                beats += _ceiling_divide(stream_blocks, f.blocks_per_high_beat)
                            m.d.sync += self.beats.eq(beats)
        return m


def _ceiling_divide(value: Value, divisor: int) -> Value:
    return (value + divisor - 1) >> exact_log2(divisor)
