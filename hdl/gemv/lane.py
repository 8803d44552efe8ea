"""A lane: 128 bits of the weight stream against the vectors."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import LANE_BYTES, ScaleKind
from tailrace.spec.numerics import ACCUMULATOR_BITS

from ..slots.vector_block import vector_block_layout
from .accumulator import Accumulator
from .codes import CodeDecoder
from .delay import delayed
from .dot_product import DotProduct
from .factors import Factors
from .scaler import TERM_BITS, Scaler
from .sequencer import beat_control_layout
from .side_band import SideBand
from .traits import SCALE_KINDS


def beat_layout(config: Config) -> data.StructLayout:
    """What a lane still has to know of a beat when its codes are decoded."""
    return data.StructLayout(
        {
            "nibble": 1,
            "lower": 1,
            "term": 1,
            "first": 1,
            "last": 1,
            "has_minimum": 1,
            "halves": 1,
            "slots": config.right_hand_sides,
        }
    )


class Lane(wiring.Component):
    """Multiplies the rows of one lane's stream with R vectors and sums each exactly.

    A pipeline of fixed length, without back-pressure: beats enter when there is room for what comes out.

    Latency: 14 cycles (`CodeDecoder`, `DotProduct`, `Scaler`, `Accumulator`) from a row's last beat to ``done``.
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
        The vectors' blocks for the beat of two cycles before.
    done : Out(1)
        ``sums`` holds the sums of a row, in this cycle only.
    sums : Out(data.ArrayLayout(signed(120), R))
    """

    #: Cycles from a row's last beat to its sums.
    latency = CodeDecoder.latency + DotProduct.latency + Scaler.latency + Accumulator.latency

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
        m.submodules.codes = codes = CodeDecoder()
        m.submodules.factors = factors = Factors()
        m.d.comb += [
            side_band.data.eq(self.data),
            side_band.traits.eq(control.traits),
            side_band.load_scale.eq(control.scale),
            side_band.load_subscale.eq(control.subscale),
            side_band.load_high.eq(control.high),
            side_band.nibble.eq(control.nibble),
            side_band.advance.eq(control.nibble & control.term),
            side_band.superblock.eq(control.superblock),
            side_band.upper.eq(control.upper),
            codes.data.eq(self.data),
            codes.high.eq(side_band.high),
            codes.traits.eq(control.traits),
            codes.upper.eq(control.upper),
            codes.valid.eq(control.nibble),
            factors.scales.eq(side_band.scales),
            factors.valid.eq(delayed(m, control.nibble, SideBand.latency, name="told", reset=True)),
        ]

        taken = Signal(beat_layout(self.config))
        m.d.comb += [taken[key].eq(control[key]) for key in ("nibble", "lower", "term", "first", "last", "slots")]
        m.d.comb += [
            taken.halves.eq(control.traits.scale_kind == SCALE_KINDS.index(ScaleKind.FLOAT8)),
            taken.has_minimum.eq(control.traits.has_minimum | taken.halves),
        ]
        decoded = delayed(m, taken, CodeDecoder.latency, name="decoded", reset=True)
        dotted = delayed(m, decoded, DotProduct.latency, name="dotted", reset=True)
        scaled = delayed(m, dotted, Scaler.latency, name="scaled", reset=True)

        for n in range(self.config.right_hand_sides):
            vector = self.vector[n]
            m.submodules[f"dot_product_{n}"] = dot_product = DotProduct()
            m.submodules[f"scaler_{n}"] = scaler = Scaler()
            m.submodules[f"accumulator_{n}"] = accumulator = Accumulator(TERM_BITS)
            m.d.comb += [
                dot_product.valid.eq(decoded.nibble & decoded.slots[n]),
                dot_product.codes.eq(codes.codes),
                dot_product.mantissas.eq(vector.mantissas),
                scaler.valid.eq(dot_product.sums_valid),
                scaler.sums.eq(dot_product.sums),
                scaler.factors.eq(factors.factors),
                scaler.lower.eq(dotted.lower),
                scaler.complete.eq(dotted.term),
                scaler.has_minimum.eq(dotted.has_minimum),
                scaler.halves.eq(dotted.halves),
                scaler.totals.eq(delayed(m, vector.totals, DotProduct.latency, name=f"totals_{n}")),
                scaler.exponent.eq(delayed(m, vector.exponent, DotProduct.latency, name=f"exponent_{n}")),
                scaler.zero.eq(delayed(m, vector.zero, DotProduct.latency, name=f"zero_{n}")),
                accumulator.valid.eq(scaler.term_valid),
                accumulator.term.eq(scaler.term),
                accumulator.first.eq(scaled.first),
                self.sums[n].eq(accumulator.sum),
            ]
        row_end = scaled.nibble & scaled.term & scaled.last
        m.d.comb += self.done.eq(delayed(m, row_end, Accumulator.latency, name="done", reset=True))
        return m
