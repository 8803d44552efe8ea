"""The functions of the vector unit, from a table and a parabola."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.floats import LOG2_E, SEGMENT_BITS, SEGMENTS, TABLE, VALUE_BITS, Function

from ..wide_product import joined, partial_products
from .float16 import FLOAT16_FRACTION_BITS, FLOAT16_MAX, FLOAT16_NORMAL, FLOAT16_SIGNIFICAND_BITS
from .float32 import BIAS, INFINITY, SIGN, SIGNIFICAND_BITS, exponent_field, significand
from .pipeline import Pipeline
from .rounding import EXPONENT_BITS, normalise_and_round, rounds_up

#: Bits of a value, and of a magnitude that goes into the table's functions.
_WIDTH = VALUE_BITS + 1
#: Exponent fields from which on the result of exp and of sigmoid is known.
_EXP_LIMIT, _SIGMOID_LIMIT = BIAS + 7, BIAS + 4
#: Fraction bits of the position of exp and of sigmoid.
_EXP_FRACTION, _SIGMOID_FRACTION = 24, 22
#: Bits of a float32's significand below those of a float16's.
_HALF_DROPPED = SIGNIFICAND_BITS - FLOAT16_SIGNIFICAND_BITS
#: Where a float16's significand is in a value.
_HALF_PLACE = VALUE_BITS - FLOAT16_SIGNIFICAND_BITS
#: The largest float16 as a float32, without the bits that it lacks.
_HALF_MAX = FLOAT16_MAX + (FLOAT16_NORMAL - 1 << FLOAT16_FRACTION_BITS)
#: Bits of LOG2_E in the first of two multipliers.
_LOW_BITS = 16
_ONE = 1 << VALUE_BITS


def _shape(column: int) -> tuple[int, bool]:
    """Bits of a column of the table, and whether it is signed."""
    low, high = int(TABLE[:, column].min()), int(TABLE[:, column].max())
    return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + (low < 0), low < 0


_COLUMNS = tuple(_shape(column) for column in range(3))


def _rows() -> list[int]:
    """The table's rows as the memory holds them: the coefficients side by side, c0 lowest."""
    rows = []
    for coefficients in TABLE.tolist():
        row = place = 0
        for value, (width, _) in zip(coefficients, _COLUMNS, strict=True):
            row |= (value & (1 << width) - 1) << place
            place += width
        rows.append(row)
    return rows


def _coefficients(row: Value) -> list[Value]:
    values, place = [], 0
    for width, is_signed in _COLUMNS:
        value = row[place : place + width]
        values.append(value.as_signed() if is_signed else value)
        place += width
    return values


class FunctionUnit(wiring.Component):
    """`tailrace.spec.floats.apply`: any function of `tailrace.spec.floats.Function`, chosen for each element.

    Every function becomes a number of 31 bits and an exponent, which are normalised, rounded and packed at the end. The table's
    functions get the number from the parabola, the others bring it along.

    Latency: 14 enabled cycles, whatever the function: unpacking, shift, log2(e) (three), table, coefficients, products (two),
    sum, complement, normalisation (two), rounding. Throughput: one element a cycle.

    Attributes
    ----------
    enable : In(1)
        The pipeline advances. 0: everything holds. 1 if not connected.
    valid : In(1)
        There is an element. Stages without one keep their values. 1 if not connected.
    function : In(Function)
    x : In(32)
    o : Out(32)
    o_valid : Out(1)
        `valid`, `latency` enabled cycles ago: `o` is a result.
    """

    #: Enabled cycles from `x` to `o`.
    latency = 14

    enable: In(1, init=1)
    valid: In(1, init=1)
    function: In(Function)
    x: In(32)
    o: Out(32)
    o_valid: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipeline = Pipeline(m, self.enable, self.valid)

        # Places by which a significand at the top of the magnitude is shifted to the right.
        exponent = exponent_field(self.x)
        first, places, shift = Signal(8), Signal(signed(9)), Signal(5)
        limit = Signal()
        m.d.comb += places.eq(first - exponent)
        with m.If(places >= 0):
            m.d.comb += shift.eq(Mux(places[5:].any(), 31, places[:5]))
        with m.Switch(self.function):
            with m.Case(Function.EXP):
                m.d.comb += [first.eq(_EXP_LIMIT - 1), limit.eq(exponent >= _EXP_LIMIT)]
            with m.Case(Function.SIGMOID):
                # Two fraction bits less than exp has.
                m.d.comb += [first.eq(_EXP_LIMIT - 1 + _EXP_FRACTION - _SIGMOID_FRACTION), limit.eq(exponent >= _SIGMOID_LIMIT)]
            with m.Case(Function.HALF):
                m.d.comb += [first.eq(FLOAT16_NORMAL), limit.eq(self.x[_HALF_DROPPED:SIGN] >= _HALF_MAX)]
        unpacked = pipeline.stage(
            function=self.function,
            sign=self.x[SIGN],
            exponent=exponent,
            significand=significand(self.x),
            shift=shift,
            limit=limit,
        )

        top = Cat(C(0, _WIDTH - SIGNIFICAND_BITS), unpacked.significand)
        shifted = pipeline.stage(
            function=unpacked.function,
            sign=unpacked.sign,
            exponent=unpacked.exponent,
            significand=unpacked.significand,
            magnitude=top >> unpacked.shift,
            limit=unpacked.limit,
        )

        magnitude, fraction = shifted.magnitude, shifted.significand[:-1]
        odd = ~shifted.exponent[0]
        position = Mux(
            shifted.function == Function.SIGMOID,
            magnitude[: _SIGMOID_FRACTION + 4],
            Cat(C(0, 1), fraction, odd & (shifted.function == Function.RECIPROCAL_SQUARE_ROOT)),
        )
        # A float16 is rounded as an integer, in two stages. Bits that the shift dropped were below the rounding bit.
        kept, rest = magnitude[-FLOAT16_SIGNIFICAND_BITS:], magnitude[:-FLOAT16_SIGNIFICAND_BITS]
        lost = shifted.significand[: FLOAT16_SIGNIFICAND_BITS - (_WIDTH - SIGNIFICAND_BITS)]
        direct, round_up = Signal(_WIDTH), Signal()
        with m.Switch(shifted.function):
            with m.Case(Function.IDENTITY):
                m.d.comb += direct.eq(magnitude)
            with m.Case(Function.HALF):
                half = Mux(shifted.limit, (1 << FLOAT16_SIGNIFICAND_BITS) - 1, kept)
                m.d.comb += [
                    direct.eq(Cat(C(0, _HALF_PLACE), half)),
                    round_up.eq(~shifted.limit & rounds_up(kept, Cat(lost, rest))),
                ]
            with m.Case(Function.SIGMOID):
                m.d.comb += direct.eq(_ONE)
        from_table = Signal()
        m.d.comb += from_table.eq(
            (shifted.function != Function.IDENTITY)
            & (shifted.function != Function.HALF)
            & ~((shifted.function == Function.SIGMOID) & shifted.limit)
        )
        low_factor, high_factor = (
            C(LOG2_E & (1 << _LOW_BITS) - 1, _LOW_BITS),
            C(LOG2_E >> _LOW_BITS, VALUE_BITS + 1 - _LOW_BITS),
        )
        multiplied = pipeline.stage(
            function=shifted.function,
            sign=shifted.sign,
            exponent=shifted.exponent,
            limit=shifted.limit,
            low=partial_products(magnitude, low_factor),
            high=partial_products(magnitude, high_factor),
            position=position,
            direct=direct,
            round_up=round_up,
            from_table=from_table,
        )
        half = multiplied.direct[_HALF_PLACE:]
        partial = pipeline.stage(
            function=multiplied.function,
            sign=multiplied.sign,
            exponent=multiplied.exponent,
            limit=multiplied.limit,
            low=joined(multiplied.low)[: _WIDTH + _LOW_BITS],
            high=joined(multiplied.high)[: _WIDTH + len(high_factor)],
            position=multiplied.position,
            direct=Cat(multiplied.direct[:_HALF_PLACE], (half + multiplied.round_up)[: len(half)]),
            from_table=multiplied.from_table,
        )

        # Towards minus infinity: of -y it is the complement of the whole part of y less one unit in the last place.
        below = Signal(signed(len(partial.low) + 1))
        scaled = Signal(signed(_WIDTH + 2))
        m.d.comb += [
            below.eq(partial.low - partial.sign),
            scaled.eq(((below >> _LOW_BITS) + partial.high) >> VALUE_BITS - _LOW_BITS ^ partial.sign.replicate(_WIDTH + 2)),
        ]
        is_exp = partial.function == Function.EXP
        result_exponent, zero, infinite, sign = Signal(signed(EXPONENT_BITS)), Signal(), Signal(), Signal()
        no_number = (partial.exponent == 0) | (partial.exponent == INFINITY)
        with m.Switch(partial.function):
            with m.Case(Function.IDENTITY):
                m.d.comb += [
                    result_exponent.eq(partial.exponent),
                    infinite.eq(partial.exponent == INFINITY),
                    sign.eq(partial.sign),
                ]
            with m.Case(Function.HALF):
                normal = Mux(partial.exponent < FLOAT16_NORMAL, FLOAT16_NORMAL, partial.exponent)
                # The largest float16's exponent, if the limit applies.
                m.d.comb += [
                    result_exponent.eq(Mux(partial.limit, (_HALF_MAX >> FLOAT16_FRACTION_BITS) + 1, normal + 1)),
                    sign.eq(partial.sign),
                ]
            with m.Case(Function.SIGMOID):
                m.d.comb += result_exponent.eq(BIAS)
            with m.Case(Function.RECIPROCAL):
                m.d.comb += [result_exponent.eq(2 * BIAS - partial.exponent), zero.eq(no_number), sign.eq(partial.sign)]
            with m.Case(Function.RECIPROCAL_SQUARE_ROOT):
                m.d.comb += [
                    # BIAS - ((exponent - BIAS) >> 1)
                    result_exponent.eq(BIAS + BIAS // 2 + 1 - (partial.exponent + 1 >> 1)),
                    zero.eq(no_number),
                ]
        placed = pipeline.stage(
            function=partial.function,
            position=Mux(is_exp, scaled[:_EXP_FRACTION], partial.position),
            # Of the whole part, if it is an exponential.
            n=scaled[_EXP_FRACTION:].as_signed(),
            limit=is_exp & partial.limit,
            below=is_exp & partial.sign,
            exponent=result_exponent,
            zero=zero,
            infinite=infinite,
            sign=sign,
            complement=(partial.function == Function.SIGMOID) & partial.sign,
            direct=partial.direct,
            from_table=partial.from_table,
        )

        m.submodules.table = table = Memory(
            shape=unsigned(sum(width for width, _ in _COLUMNS)), depth=len(TABLE), init=_rows(), attrs={"ram_style": "block"}
        )
        read = table.read_port()
        m.d.comb += read.en.eq(pipeline.advance)
        with m.Switch(placed.function):
            for function, (first_row, count) in SEGMENTS.items():
                with m.Case(function):
                    segment = placed.position[SEGMENT_BITS : SEGMENT_BITS + (count - 1).bit_length()]
                    m.d.comb += read.addr.eq(first_row | segment)
        is_exp = placed.function == Function.EXP
        # Beyond the limit the whole part means nothing. Up to it, the last stage sees an exponent out of range.
        looked_up = pipeline.stage(
            d=Mux(placed.from_table, placed.position[:SEGMENT_BITS], 0),
            exponent=Mux(is_exp, placed.n + BIAS, placed.exponent),
            zero=placed.zero | (placed.limit & placed.below),
            infinite=placed.infinite | (placed.limit & ~placed.below),
            sign=placed.sign,
            complement=placed.complement,
            direct=placed.direct,
            from_table=placed.from_table,
        )

        c0, c1, c2 = _coefficients(read.data)
        coefficients = pipeline.stage(
            c0=Mux(looked_up.from_table, c0, looked_up.direct),
            c1=c1,
            c2=c2,
            d=looked_up.d,
            square=(looked_up.d * looked_up.d)[SEGMENT_BITS:],
            exponent=looked_up.exponent,
            zero=looked_up.zero,
            infinite=looked_up.infinite,
            sign=looked_up.sign,
            complement=looked_up.complement,
        )
        halves = pipeline.stage(
            c0=coefficients.c0,
            linear=partial_products(coefficients.c1, coefficients.d),
            quadratic=coefficients.c2 * coefficients.square >> SEGMENT_BITS,
            exponent=coefficients.exponent,
            zero=coefficients.zero,
            infinite=coefficients.infinite,
            sign=coefficients.sign,
            complement=coefficients.complement,
        )
        products = pipeline.stage(
            c0=halves.c0,
            linear=joined(halves.linear) >> SEGMENT_BITS,
            quadratic=halves.quadratic,
            exponent=halves.exponent,
            zero=halves.zero,
            infinite=halves.infinite,
            sign=halves.sign,
            complement=halves.complement,
        )
        summed = pipeline.stage(
            value=(products.c0 + products.linear + products.quadratic)[:_WIDTH],
            exponent=products.exponent,
            zero=products.zero,
            infinite=products.infinite,
            sign=products.sign,
            complement=products.complement,
        )
        value = Mux(summed.zero, 0, Mux(summed.complement, _ONE - summed.value, summed.value))
        whole = pipeline.stage(value=value[:_WIDTH], exponent=summed.exponent, infinite=summed.infinite, sign=summed.sign)
        result = normalise_and_round(m, pipeline, whole.sign, whole.value, whole.exponent, whole.infinite)
        m.d.comb += [self.o.eq(result), self.o_valid.eq(pipeline.valid)]
        assert pipeline.latency == self.latency
        return m
