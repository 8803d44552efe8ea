"""Product of two float32."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..wide_product import MULTIPLIER_BITS, partial_products
from .float32 import BIAS, FRACTION_BITS, INFINITY, SIGN, SIGNIFICAND_BITS, exponent_field
from .pipeline import Pipeline
from .rounding import EXPONENT_BITS, pack, rounds_up


class FloatMultiply(wiring.Component):
    """`tailrace.spec.floats.multiply`: the product, rounded once.

    Latency: 5 enabled cycles (unpacking, partial products, their sum, rounding, packing). Throughput: one product a cycle.

    Attributes
    ----------
    enable : In(1)
        The pipeline advances. 0: everything holds. 1 if not connected.
    valid : In(1)
        There are operands. Stages without operands keep their values. 1 if not connected.
    a, b : In(32)
    o : Out(32)
    o_valid : Out(1)
        `valid`, `latency` enabled cycles ago: `o` is a product.
    """

    #: Enabled cycles from operands to `o`.
    latency = 5

    enable: In(1, init=1)
    valid: In(1, init=1)
    a: In(32)
    b: In(32)
    o: Out(32)
    o_valid: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.enable, self.valid)
        exponents = [exponent_field(x) for x in (self.a, self.b)]
        # A zero is positive, which shows in its product with infinity.
        signs = [x[SIGN] & e.any() for x, e in zip((self.a, self.b), exponents, strict=True)]
        # Registers on both sides of the multipliers, which take half of a cycle.
        unpacked = pipeline.stage(
            sign=signs[0] ^ signs[1],
            # Also of a zero, whose product is told by `zero`.
            a=Cat(self.a[:FRACTION_BITS], C(1, 1)),
            b=Cat(self.b[:FRACTION_BITS], C(1, 1)),
            # Of a product whose top bit is not set: one more if it is.
            exponent=(exponents[0] + exponents[1] - BIAS)[:EXPONENT_BITS].as_signed(),
            zero=(exponents[0] == 0) | (exponents[1] == 0),
            infinite=(exponents[0] == INFINITY) | (exponents[1] == INFINITY),
        )

        a, b = unpacked.a, unpacked.b
        upper = b[MULTIPLIER_BITS:]
        partial = pipeline.stage(
            sign=unpacked.sign,
            low=partial_products(a, b[:MULTIPLIER_BITS]),
            high=partial_products(a, upper),
            exponent=unpacked.exponent,
            zero=unpacked.zero,
            infinite=unpacked.infinite,
        )

        # The two in the middle have the same place; the other two do not overlap.
        (lowest, low), (high, highest) = partial.low, partial.high
        outer = Cat(lowest, highest)
        exact = pipeline.stage(
            sign=partial.sign,
            product=Cat(outer[:MULTIPLIER_BITS], (outer[MULTIPLIER_BITS:] + (low + high))[: len(outer) - MULTIPLIER_BITS]),
            exponent=partial.exponent,
            zero=partial.zero,
            infinite=partial.infinite,
        )

        top = exact.product[-1]
        product = Signal.like(exact.product)
        exponent = Signal(signed(EXPONENT_BITS))
        m.d.comb += [product.eq(Mux(top, exact.product, exact.product << 1)), exponent.eq(exact.exponent + top)]
        kept, rest = product[SIGNIFICAND_BITS:], product[:SIGNIFICAND_BITS]
        rounded = pipeline.stage(
            sign=exact.sign,
            fraction=kept[:-1],
            round_up=rounds_up(kept, rest),
            exponent=exponent,
            # Before rounding: what rounds up to the smallest normal number is zero too.
            zero=exact.zero | (exponent < 1),
            infinite=exact.infinite | (~exact.zero & (exponent >= INFINITY)),
        )

        result = pack(rounded.sign, rounded.fraction, rounded.round_up, rounded.exponent, rounded.zero, rounded.infinite)
        m.d.comb += [self.o.eq(pipeline.stage(o=result).o), self.o_valid.eq(pipeline.valid)]
        assert pipeline.latency == self.latency
        return m
