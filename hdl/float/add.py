"""Sum of two float32, or the lesser one."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..sticky_shift import shift_losing
from .compare import exceeds
from .float32 import FRACTION_BITS, INFINITY, SIGN, SIGNIFICAND_BITS, exponent_field
from .pipeline import Pipeline
from .rounding import normalise_and_round

#: Places below the significand that decide the rounding: two, and one that says whether anything is below them.
_GUARD_BITS = 3
#: Bits of the distance by which the smaller operand is shifted: a longer one leaves nothing of it but that bit.
_DISTANCE_BITS = 5


class FloatAdd(wiring.Component):
    """`tailrace.spec.floats.add`: the sum, rounded once; or `tailrace.spec.floats.lesser`.

    A sum begins with a comparison of magnitudes. So the lesser operand is found on the way, and goes on as a sum with 0.

    Latency: 6 enabled cycles (order, alignment, sum, normalisation in two, rounding). Throughput: one sum a cycle.

    Attributes
    ----------
    enable : In(1)
        The pipeline advances. 0: everything holds. 1 if not connected.
    valid : In(1)
        There are operands. Stages without operands keep their values. 1 if not connected.
    a, b : In(32)
    subtract : In(1)
        ``a - b`` instead of ``a + b``: the sign of `b` is changed first.
    lesser : In(1)
        The lesser of `a` and `b` instead of their sum; not with `subtract`.
    o : Out(32)
    o_valid : Out(1)
        `valid`, `latency` enabled cycles ago: `o` is a sum.
    """

    #: Enabled cycles from operands to `o`.
    latency = 6

    enable: In(1, init=1)
    valid: In(1, init=1)
    a: In(32)
    b: In(32)
    subtract: In(1)
    lesser: In(1)
    o: Out(32)
    o_valid: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.enable, self.valid)
        a, b = self.a, Cat(self.b[:SIGN], self.b[SIGN] ^ self.subtract)
        a_exponent, b_exponent = exponent_field(a), exponent_field(b)
        swap, a_infinite, b_infinite = Signal(), Signal(), Signal()
        distance = Signal(8)
        m.d.comb += [
            swap.eq(exceeds(b[:SIGN], a[:SIGN])),
            distance.eq(Mux(swap, b_exponent - a_exponent, a_exponent - b_exponent)),
            a_infinite.eq(a_exponent == INFINITY),
            b_infinite.eq(b_exponent == INFINITY),
        ]
        far = distance[_DISTANCE_BITS:].any()
        # A significand is 0 where its number is: that is no logic where it only resets a register.
        a_significand, b_significand = (Cat(x[:FRACTION_BITS], C(1, 1)) for x in (a, b))
        a_zero, b_zero = ~a_exponent.any(), ~b_exponent.any()
        ordered = pipeline.stage(
            # The larger one's; of two infinities, the first one's. The lesser number is negative if one of them is.
            sign=Mux(self.lesser, a[SIGN] | b[SIGN], Mux(swap & ~a_infinite, b[SIGN], a[SIGN])),
            exponent=Mux(swap, b_exponent, a_exponent),
            other_exponent=Mux(swap, a_exponent, b_exponent),
            larger=Mux(a_zero & b_zero, 0, Mux(swap, b_significand, a_significand)),
            smaller=Mux(Mux(swap, a_zero, b_zero), 0, Mux(swap, a_significand, b_significand)),
            distance=Mux(far, C((1 << _DISTANCE_BITS) - 1, _DISTANCE_BITS), distance[:_DISTANCE_BITS]),
            opposite=(a[SIGN] ^ b[SIGN]) & ~self.lesser,
            infinite=a_infinite | b_infinite,
            both_infinite=a_infinite & b_infinite,
            lesser=self.lesser,
            # The one of the smaller magnitude is the lesser, unless the other one is negative.
            take_smaller=self.lesser & ~Mux(swap, b[SIGN], a[SIGN]),
        )

        # The last place is shifted beside the addition. Until then, what is below the places is told in parts.
        shifted, lost = shift_losing(Cat(C(0, _GUARD_BITS - 1), ordered.smaller), ordered.distance[1:], 2)
        aligned = pipeline.stage(
            sign=ordered.sign,
            exponent=Mux(ordered.take_smaller, ordered.other_exponent, ordered.exponent),
            larger=Mux(ordered.take_smaller, ordered.smaller, ordered.larger),
            # Nothing beside the lesser one.
            smaller=Mux(ordered.lesser, 0, shifted)[: len(shifted)],
            lost=Mux(ordered.lesser, 0, lost)[: len(lost)],
            distance=ordered.distance[0],
            opposite=ordered.opposite,
            infinite=Mux(ordered.take_smaller, ordered.both_infinite, ordered.infinite),
        )

        # One adder: the lowest bit of each operand makes the carry of a two's complement.
        total = Signal(2 + SIGNIFICAND_BITS + _GUARD_BITS)
        larger = Cat(C(1, 1), C(0, _GUARD_BITS), aligned.larger)
        places, lost = shift_losing(aligned.smaller, aligned.distance)
        smaller = Cat(aligned.lost.any() | lost, places[: len(shifted)])
        m.d.comb += total.eq(larger + (Cat(C(0, 1), smaller, C(0, 1)) ^ aligned.opposite.replicate(len(total))))
        exact = pipeline.stage(
            sign=aligned.sign,
            magnitude=total[1:],
            # Of the place of the carry.
            exponent=aligned.exponent + C(1, 1),
            infinite=aligned.infinite,
        )

        result = normalise_and_round(m, pipeline, exact.sign, exact.magnitude, exact.exponent, exact.infinite)
        m.d.comb += [self.o.eq(result), self.o_valid.eq(pipeline.valid)]
        assert pipeline.latency == self.latency
        return m
