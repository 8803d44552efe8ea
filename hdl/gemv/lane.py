"""A lane: 128 bits of the weight stream against the vectors."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK, LANE_BYTES
from tailrace.spec.numerics import ACCUMULATOR_BITS

from ..slots.layout import vector_block_layout
from .accumulator import Accumulator
from .delay import delayed
from .dot_product import DotProduct
from .scaler import TERM_BITS, Scaler
from .sequencer import beat_control_layout
from .side_band import SideBand
from .traits import NIBBLE_BITS


class Lane(wiring.Component):
    """Multiplies the rows of one lane's stream with R vectors and sums each exactly.

    A pipeline of fixed length, without back-pressure: beats enter when there is room for what comes out.

    Latency: 10 cycles (operands, `DotProduct`, `Scaler`, `Accumulator`) from a row's last beat to ``done``.
    Throughput: one beat a cycle.

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
        ``sums`` holds the sums of a row, in this cycle only.
    sums : Out(data.ArrayLayout(signed(112), R))
    """

    #: Cycles from a row's last beat to its sums.
    latency = 1 + DotProduct.latency + Scaler.latency + Accumulator.latency

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

        # The top bit of a signed nibble is inverted, which makes it an unsigned one with an offset.
        signs = sum(1 << n for n in range(NIBBLE_BITS - 1, 8 * LANE_BYTES, NIBBLE_BITS))
        nibbles = Signal(8 * LANE_BYTES, reset_less=True)
        high = Signal(BLOCK, reset_less=True)
        with m.If(control.nibble):
            m.d.sync += [
                nibbles.eq(self.data ^ Mux(control.upper, signs, 0)),
                high.eq(Mux(control.has_high, side_band.high, 0)),
            ]
        # Element j is nibble 2 * j, element j + 16 nibble 2 * j + 1.
        order = [2 * (j % LANE_BYTES) + j // LANE_BYTES for j in range(BLOCK)]
        codes = [Cat(nibbles.word_select(n, NIBBLE_BITS), high[j]) for j, n in enumerate(order)]

        operands = delayed(m, control, 1, name="operands", reset=True)
        dotted = delayed(m, operands, DotProduct.latency, name="dotted", reset=True)
        scaled = delayed(m, dotted, Scaler.latency, name="scaled", reset=True)
        scale = delayed(m, side_band.scale, 1 + DotProduct.latency, name="scale")
        minimum = delayed(m, side_band.minimum, 1 + DotProduct.latency, name="minimum")

        for n in range(self.config.right_hand_sides):
            vector = self.vector[n]
            m.submodules[f"dot_product_{n}"] = dot_product = DotProduct()
            m.submodules[f"scaler_{n}"] = scaler = Scaler()
            m.submodules[f"accumulator_{n}"] = accumulator = Accumulator(TERM_BITS)
            m.d.comb += [
                dot_product.valid.eq(operands.nibble & operands.slots[n]),
                *(dot_product.codes[j].eq(code) for j, code in enumerate(codes)),
                dot_product.mantissas.eq(vector.mantissas),
                scaler.valid.eq(dot_product.sum_valid),
                scaler.sum.eq(dot_product.sum),
                scaler.lower.eq(dotted.lower),
                scaler.complete.eq(dotted.term),
                scaler.offset.eq(dotted.offset),
                scaler.has_minimum.eq(dotted.has_minimum),
                scaler.total.eq(delayed(m, vector.total, DotProduct.latency, name=f"total_{n}")),
                scaler.exponent.eq(delayed(m, vector.exponent, DotProduct.latency, name=f"exponent_{n}")),
                scaler.scale.eq(scale),
                scaler.minimum.eq(minimum),
                accumulator.valid.eq(scaler.term_valid),
                accumulator.term.eq(scaler.term),
                accumulator.first.eq(scaled.first),
                self.sums[n].eq(accumulator.sum),
            ]
        row_end = scaled.nibble & scaled.term & scaled.last
        m.d.comb += self.done.eq(delayed(m, row_end, Accumulator.latency, name="done", reset=True))
        return m
