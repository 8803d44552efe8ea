"""A lane: 128 bits of the weight stream against the vectors."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK, FORMATS, LANE_BYTES
from tailrace.spec.numerics import ACCUMULATOR_BITS, MANTISSA_BITS

from ..vector.layout import vector_block_layout
from .accumulator import Accumulator
from .delay import delayed, delayed_valid
from .dot_product import DotProduct
from .sequencer import beat_control_layout
from .shifter import POSITION_MAX, Shifter
from .side_band import SideBand
from .traits import NIBBLE_BITS, OFFSETS

#: Bits of a float16's fraction.
FRACTION_BITS = 10
SIGNIFICAND_BITS = FRACTION_BITS + 2
#: Bits of the sum over a block of codes, upper and lower nibbles together, times mantissas.
BLOCK_SUM_BITS = max(f.nibble_beats for f in FORMATS) * NIBBLE_BITS + MANTISSA_BITS + BLOCK.bit_length() - 1


def float16_parts(bits: Value) -> tuple[Value, Value]:
    """Signed significand and position (0 to 30) of a float16, as `tailrace.spec.numerics` defines them."""
    exponent = bits[FRACTION_BITS:15]
    magnitude = Cat(bits[:FRACTION_BITS], exponent.any())
    significand = Mux(bits[15], -magnitude, magnitude)
    return significand, (exponent - exponent.any())[: POSITION_MAX.bit_length()]


class Lane(wiring.Component):
    """Multiplies the rows of one lane's stream with R vectors and sums each exactly.

    A pipeline of fixed length without back-pressure. Stages keep their values while they have nothing to do.

    Latency: 9 cycles from a row's last beat to ``done``. Throughput: one beat a cycle.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    control : In(beat_control_layout(config))
        What the beat is; no kind set where there is none.
    data : In(128)
        The lane's share of the beat.
    vector : In(data.ArrayLayout(vector_block_layout, R))
        The vectors' blocks for the beat of the cycle before.
    done : Out(1)
        ``sums`` holds the sums of a row. In this cycle only.
    sums : Out(data.ArrayLayout(signed(112), R))
    """

    #: Cycles from a row's last beat to its sums.
    latency = 1 + DotProduct.latency + 1 + 1 + Shifter.latency + Accumulator.latency

    def __init__(self, config: Config) -> None:
        self.config = config
        slots = config.right_hand_sides
        super().__init__(
            {
                "control": In(beat_control_layout(config)),
                "data": In(8 * LANE_BYTES),
                "vector": In(data.ArrayLayout(vector_block_layout, slots)),
                "done": Out(1),
                "sums": Out(data.ArrayLayout(signed(ACCUMULATOR_BITS), slots)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = self.control

        m.submodules.side_band = side_band = SideBand()
        m.d.comb += [
            side_band.data.eq(self.data),
            side_band.load_scale.eq(control.scale),
            side_band.load_high.eq(control.high),
            side_band.advance.eq(control.nibble & control.term),
            side_band.has_minimum.eq(control.has_minimum),
        ]

        # Operands. The top bit of a signed nibble is inverted, which makes it unsigned with an offset of 8.
        nibbles = Signal(8 * LANE_BYTES, reset_less=True)
        high = Signal(BLOCK, reset_less=True)
        with m.If(control.nibble):
            sign = Mux(control.upper, int("8" * 2 * LANE_BYTES, 16), 0)
            m.d.sync += [nibbles.eq(self.data ^ sign), high.eq(Mux(control.has_high, side_band.high, 0))]
        codes = [
            Cat(nibbles[8 * (j % LANE_BYTES) + NIBBLE_BITS * (j // LANE_BYTES) :][:NIBBLE_BITS], high[j]) for j in range(BLOCK)
        ]

        dot_at = 1
        block_at = dot_at + DotProduct.latency
        scaled_at = block_at + 1
        shifted_at = scaled_at + 1
        summed_at = shifted_at + Shifter.latency

        nibble = delayed_valid(m, control.nibble, block_at, name="nibble")
        term = delayed_valid(m, control.nibble & control.term, summed_at, name="term")
        lower = delayed(m, control.lower, block_at, name="lower")
        offset = delayed(m, control.offset, block_at, name="offset")
        slots = [control.slots]
        for _ in range(summed_at):
            slots.append(delayed(m, slots[-1], 1, name="slots"))
        has_minimum = [control.has_minimum]
        for _ in range(summed_at):
            has_minimum.append(delayed(m, has_minimum[-1], 1, name="has_minimum"))
        first = delayed(m, control.first, summed_at, name="first")
        last = delayed_valid(m, control.nibble & control.term & control.last, self.latency, name="last")
        scale, scale_position = float16_parts(delayed(m, side_band.scale, block_at, name="scale"))
        minimum, minimum_position = float16_parts(delayed(m, side_band.minimum, block_at, name="minimum"))
        scale = delayed(m, scale, 1, name="scale_significand")
        minimum = delayed(m, minimum, 1, name="minimum_significand")
        scale_position = delayed(m, scale_position, 1, name="scale_position")
        minimum_position = delayed(m, minimum_position, 1, name="minimum_position")

        for slot in range(self.config.right_hand_sides):
            vector = self.vector[slot]
            nibble_here = [n & s[slot] for n, s in zip(nibble, slots)]
            term_here = [t & s[slot] for t, s in zip(term, slots)]
            minimum_here = [t & h for t, h in zip(term_here, has_minimum)]
            exponent = delayed(m, vector.exponent, scaled_at - dot_at, name=f"exponent_{slot}")
            block_total = delayed(m, vector.total, block_at - dot_at, name=f"total_{slot}")
            scaled_total = delayed(m, block_total, 1, name=f"total_{slot}")

            m.submodules[f"dot_product_{slot}"] = dot_product = DotProduct()
            m.d.comb += [
                dot_product.valid.eq(Cat(nibble_here[dot_at:block_at])),
                dot_product.mantissas.eq(vector.mantissas),
                *(dot_product.codes[j].eq(code) for j, code in enumerate(codes)),
            ]

            block_sum = Signal(signed(BLOCK_SUM_BITS), name=f"block_sum_{slot}", reset_less=True)
            correction = Signal(signed(len(vector.total) + max(OFFSETS).bit_length()), name=f"correction_{slot}")
            with m.Switch(offset):
                for n, value in enumerate(OFFSETS):
                    with m.Case(n):
                        m.d.comb += correction.eq(block_total * value)
            upper_sum = Mux(lower, block_sum << NIBBLE_BITS, 0)
            with m.If(nibble_here[block_at]):
                m.d.sync += block_sum.eq(dot_product.sum - correction + upper_sum)

            scaled = Signal(signed(BLOCK_SUM_BITS + SIGNIFICAND_BITS), name=f"scaled_{slot}", reset_less=True)
            shift = Signal(range(62), name=f"shift_{slot}", reset_less=True)
            offsets = Signal(signed(len(vector.total) + SIGNIFICAND_BITS), name=f"minima_{slot}", reset_less=True)
            offsets_shift = Signal(range(62), name=f"minima_shift_{slot}", reset_less=True)
            with m.If(term_here[scaled_at]):
                m.d.sync += [scaled.eq(block_sum * scale), shift.eq(scale_position + exponent)]
            with m.If(minimum_here[scaled_at]):
                m.d.sync += [offsets.eq(scaled_total * minimum), offsets_shift.eq(minimum_position + exponent)]

            m.submodules[f"scale_shifter_{slot}"] = scale_shifter = Shifter(len(scaled))
            m.submodules[f"minimum_shifter_{slot}"] = minimum_shifter = Shifter(len(offsets))
            m.d.comb += [
                scale_shifter.term.eq(scaled),
                scale_shifter.shift.eq(shift),
                scale_shifter.valid.eq(Cat(term_here[shifted_at:summed_at])),
                minimum_shifter.term.eq(offsets),
                minimum_shifter.shift.eq(offsets_shift),
                minimum_shifter.valid.eq(Cat(minimum_here[shifted_at:summed_at])),
            ]
            m.submodules[f"accumulator_{slot}"] = accumulator = Accumulator(len(scale_shifter.placed) + 1)
            m.d.comb += [
                accumulator.term.eq(
                    scale_shifter.placed + Mux(has_minimum[summed_at], minimum_shifter.placed, C(0, signed(1)))
                ),
                accumulator.valid.eq(term_here[summed_at]),
                accumulator.first.eq(first),
                self.sums[slot].eq(accumulator.sum),
            ]
        m.d.comb += self.done.eq(last[self.latency])
        return m
