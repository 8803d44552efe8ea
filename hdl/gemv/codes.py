"""The codes of a nibble beat as the signed numbers that the multipliers take."""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.formats import BLOCK, CODEBOOKS, LANE_BYTES, ScaleKind

from .side_band import HIGH_BITS, LANE_BITS
from .traits import CODE_BITS, NIBBLE_BITS, SCALE_KINDS, lane_traits_layout

#: Upper bits of a code, at most.
_UPPER_BITS = HIGH_BITS // BLOCK


class Reading(IntEnum):
    """How a code is read, with `CODEBOOKS` from the last one of these on."""

    #: As a number without a sign.
    PLAIN = 0
    #: As a two's complement number of 4 bits.
    SIGNED = 1
    #: With an offset of half its range: 4, 5 and 6 bits.
    CENTRED = 2
    FIVE_BITS_CENTRED = 3
    SIX_BITS = 4
    #: 5 bits without a sign.
    FIVE_BITS = 5
    CODEBOOK = 6


_READINGS = Reading.CODEBOOK + len(CODEBOOKS) - 1
_READING_BITS = (_READINGS - 1).bit_length()


def value(reading: int, nibble: int, upper: int) -> int:
    """The number that a code stands for; `upper` are its upper bits."""
    if reading >= Reading.CODEBOOK:
        return CODEBOOKS[reading - Reading.CODEBOOK + 1][nibble]
    match Reading(reading):
        case Reading.SIGNED:
            return nibble - 16 * (nibble >> 3)
        case Reading.CENTRED:
            return nibble - 8
        case Reading.FIVE_BITS | Reading.FIVE_BITS_CENTRED:
            return nibble + 16 * (upper & 1) - 16 * (reading == Reading.FIVE_BITS_CENTRED)
        case Reading.SIX_BITS:
            return nibble + 16 * upper - 32
        case _:
            return nibble


def _table() -> list[int]:
    """Every code as every reading has it: nibble lowest, then upper bits, then the reading."""
    return [
        value(reading, nibble, upper) & (1 << CODE_BITS) - 1
        for reading in range(_READINGS)
        for upper in range(1 << _UPPER_BITS)
        for nibble in range(1 << NIBBLE_BITS)
    ]


class CodeDecoder(wiring.Component):
    """Makes signed numbers of 8 bits of the codes of a nibble beat, whatever their format.

    They are looked up in block RAM, two in each: whatever formats there are, and whatever their codebooks, costs no logic. A
    register stands between block RAM and the multipliers, as both are slow.

    Latency: 2 cycles. Throughput: one beat a cycle. Without a beat the codes stay.

    Attributes
    ----------
    data : In(128)
        The lane's share of a beat.
    high : In(64)
        Upper bits of the codes, as in a high beat.
    traits : In(lane_traits_layout)
    upper : In(1)
        The nibbles are the upper ones of 8-bit codes.
    valid : In(1)
        There is a nibble beat.
    codes : Out(data.ArrayLayout(signed(8), 32))
    """

    #: Cycles from a beat to its codes.
    latency = 2

    data: In(LANE_BITS)
    high: In(HIGH_BITS)
    traits: In(lane_traits_layout)
    upper: In(1)
    valid: In(1)
    codes: Out(data.ArrayLayout(signed(CODE_BITS), BLOCK))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        found = Signal()
        m.d.sync += found.eq(self.valid)
        readings = [self._reading(m, half) for half in range(2)]
        table = _table()
        for pair in range(LANE_BYTES):
            # Byte j holds the nibbles of elements j and j + 16.
            m.submodules[f"table_{pair}"] = memory = Memory(
                shape=unsigned(CODE_BITS), depth=len(table), init=table, attrs={"ram_style": "block"}
            )
            for half, reading in enumerate(readings):
                element = pair + half * LANE_BYTES
                nibble = self.data.word_select(2 * pair + half, NIBBLE_BITS)
                first = Mux(self.traits.high_bits[1], self.high[2 * element], self.high[element])
                read = memory.read_port()
                code = Signal(signed(CODE_BITS), name=f"code_{element}", reset_less=True)
                m.d.comb += [
                    read.en.eq(self.valid),
                    read.addr.eq(Cat(nibble, first, self.high[2 * element + 1], reading)),
                    self.codes[element].eq(code),
                ]
                with m.If(found):
                    m.d.sync += code.eq(read.data)
        return m

    def _reading(self, m: Module, half: int) -> Signal:
        """Combinational: how the codes of elements 0 to 15, or 16 to 31, are read."""
        traits = self.traits
        reading = Signal(_READING_BITS, name=f"reading_{half}")
        # The upper nibbles of format I8 lie beside the lower ones.
        unit = (traits.scale_kind == SCALE_KINDS.index(ScaleKind.UNIT)) & half
        with m.If(traits.codebook != 0):
            m.d.comb += reading.eq(traits.codebook + (Reading.CODEBOOK - 1))
        with m.Elif(traits.high_bits == 1):
            m.d.comb += reading.eq(Mux(traits.centred, Reading.FIVE_BITS_CENTRED, Reading.FIVE_BITS))
        with m.Elif(traits.high_bits == 2):
            # Codes of 6 bits are always centred.
            m.d.comb += reading.eq(Reading.SIX_BITS)
        with m.Elif(traits.centred):
            m.d.comb += reading.eq(Reading.CENTRED)
        with m.Elif(self.upper | unit):
            m.d.comb += reading.eq(Reading.SIGNED)
        return reading
