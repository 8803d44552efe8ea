"""The codes of a nibble beat as the signed numbers that the multipliers take."""

from amaranth.hdl import C, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.formats import BLOCK, CODEBOOKS, LANE_BYTES, ScaleKind

from .side_band import HIGH_BITS, LANE_BITS
from .traits import CODE_BITS, NIBBLE_BITS, SCALE_KINDS, lane_traits_layout

#: Bytes that are handled together: as many as a simulator's machine words have.
WORD_BYTES = 8


def every(byte: int) -> Const:
    """A byte repeated over a word."""
    return C(int.from_bytes(bytes([byte]) * WORD_BYTES, "little"), 8 * WORD_BYTES)


def monomials(codebook: tuple[int, ...], bit: int) -> list[int]:
    """The exclusive or of which products of a nibble's bits is that bit of its value in a codebook (algebraic normal form).

    Each product is given by the set of its factors, a mask.
    """
    return [
        mask
        for mask in range(1 << NIBBLE_BITS)
        if sum(codebook[n] >> bit & 1 for n in range(1 << NIBBLE_BITS) if n & ~mask == 0) & 1
    ]


def looked_up(codebook: tuple[int, ...], nibbles: Value) -> Value:
    """A codebook's value of the nibble in each byte of a word, in that byte."""
    result: Value = every(0)
    for bit in range(CODE_BITS):
        for mask in monomials(codebook, bit):
            product: Value = every(1)
            for n in range(NIBBLE_BITS):
                if mask >> n & 1:
                    product = product & nibbles.shift_right(n)
            result = result ^ product.shift_left(bit)[: 8 * WORD_BYTES]
    return result


def extended(nibbles: Value) -> Value:
    """The nibble in each byte of a word as a signed one of 8 bits."""
    signs = nibbles & every(1 << (NIBBLE_BITS - 1))
    result: Value = nibbles
    for places in range(1, CODE_BITS - NIBBLE_BITS + 1):
        result = result | signs.shift_left(places)[: 8 * WORD_BYTES]
    return result


class CodeDecoder(wiring.Component):
    """Makes signed numbers of 8 bits of the codes of a nibble beat, whatever their format.

    A code that has an offset of half its range is a two's complement number when its top bit is inverted. Upper nibbles of
    8-bit codes are two's complement numbers already, other nibbles have no sign. Those of a codebook
    are looked up.

    All elements are handled at once, each in a byte of its own: as words in a simulator, and a few gates for a bit in hardware.

    Latency: 1 cycle. Throughput: one beat a cycle. Without a beat the codes stay.

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
    latency = 1

    data: In(LANE_BITS)
    high: In(HIGH_BITS)
    traits: In(lane_traits_layout)
    upper: In(1)
    valid: In(1)
    codes: Out(data.ArrayLayout(signed(CODE_BITS), BLOCK))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        traits = self.traits
        unit = Signal()
        m.d.comb += unit.eq(traits.scale_kind == SCALE_KINDS.index(ScaleKind.UNIT))

        for start in range(0, BLOCK, WORD_BYTES):
            # Byte j holds the nibbles of elements j and j + 16.
            half, byte = divmod(start, LANE_BYTES)
            elements = range(start, start + WORD_BYTES)
            pair = self.data[8 * byte :][: 8 * WORD_BYTES]
            nibbles = pair.shift_right(NIBBLE_BITS * half) & every((1 << NIBBLE_BITS) - 1)
            codes = Signal(8 * WORD_BYTES, name=f"codes_{start}", reset_less=True)
            with m.If(self.valid):
                with m.If(traits.codebook != 0), m.Switch(traits.codebook):
                    for n, codebook in enumerate(CODEBOOKS[1:], 1):
                        with m.Case(n):
                            m.d.sync += codes.eq(looked_up(codebook, nibbles))
                with m.Elif(traits.high_bits == 1):
                    bits = self.high ^ Mux(traits.centred, C((1 << BLOCK) - 1, BLOCK), 0)
                    high = Cat(Cat(C(0, NIBBLE_BITS), bits[j], (bits[j] & traits.centred).replicate(3)) for j in elements)
                    m.d.sync += codes.eq(nibbles | high)
                with m.Elif(traits.high_bits == 2):
                    # Codes of 6 bits are always centred.
                    bits = self.high ^ C(int("10" * BLOCK, 2), HIGH_BITS)
                    high = Cat(Cat(C(0, NIBBLE_BITS), bits[2 * j : 2 * j + 2], bits[2 * j + 1].replicate(2)) for j in elements)
                    m.d.sync += codes.eq(nibbles | high)
                with m.Elif(traits.centred):
                    m.d.sync += codes.eq(extended(nibbles ^ every(1 << (NIBBLE_BITS - 1))))
                # The upper nibbles of format I8 lie beside the lower ones.
                with m.Elif(self.upper | (unit & half)):
                    m.d.sync += codes.eq(extended(nibbles))
                with m.Else():
                    m.d.sync += codes.eq(nibbles)
            m.d.comb += [self.codes[j].eq(codes.word_select(n, CODE_BITS)) for n, j in enumerate(elements)]
        return m
