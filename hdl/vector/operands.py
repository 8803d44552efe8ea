"""From what has been read to the factors and addends of the elementwise pipeline."""

from typing import Any

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.commands import float_bits
from tailrace.spec.config import Config
from tailrace.spec.isa import Combine, Multiplier

from .activation_buffer import FLOAT_BITS, word_layout
from .elementwise_sequencer import Scalars, fetch_layout, place_layout
from .elementwise_settings import ROTATE_PAIRS, SCALARS, scalars_layout, settings_layout


def operand_layout(config: Config) -> data.StructLayout:
    """What a word of results is computed from.

    ``t = x[0] * y[0] + x[1] * y[1]``, or the difference with `subtract`, or the lesser of both products with `lesser`;
    ``v = function(t) * factor + addend``.
    """
    word = word_layout(config)
    pair = data.ArrayLayout(word, 2)
    return data.StructLayout({"x": pair, "y": pair, "subtract": 1, "lesser": 1, "factor": word, "addend": word})


class OperandFetch(wiring.Component):
    """Collect the words and scalars that a word of results needs.

    So that all ways to combine operands are the sum of two products, or the lesser of them, an addend ``q`` becomes ``q * 1``,
    and where there is no second product it is ``0 * 0``: neither changes a bit (`tailrace.spec.floats`). The factor and the
    addend of the later stages are chosen here too, scalars included, and travel along; so a segment's scalars can be read
    while words of the segment before are still in the pipeline.

    Latency: 3 enabled cycles from a read to its operands: the buffer, a register beside it, and one for what was chosen.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    enable : In(1)
        The pipeline advances.
    start : In(1)
        Take `scalars`, some of which are then replaced by what is read.
    scalars : In(scalars_layout)
    settings : In(settings_layout)
    fetch : In(fetch_layout(config))
        What is read in this cycle.
    place : In(place_layout(config))
    streamed : In(word_layout(config))
        The word of the streamed operand that belongs to this cycle's step.
    a, b : In(word_layout(config))
        What was read in the last step.
    valid : Out(1)
    operands : Out(operand_layout(config))
    operands_place : Out(place_layout(config))
    start_value, start_index : Out(32)
        What a reduction resumes from: a number, and for an argmax its index.
    busy : Out(1)
        A word of results is on its way through this unit.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        word = word_layout(config)
        super().__init__(
            {
                "enable": In(1),
                "start": In(1),
                "scalars": In(scalars_layout),
                "settings": In(settings_layout),
                "fetch": In(fetch_layout(config)),
                "place": In(place_layout(config)),
                "streamed": In(word),
                "a": In(word),
                "b": In(word),
                "valid": Out(1),
                "operands": Out(operand_layout(config)),
                "operands_place": Out(place_layout(config)),
                "start_value": Out(FLOAT_BITS),
                "start_index": Out(FLOAT_BITS),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, elements = self._config, self._config.word_elements
        settings = self.settings

        # What is at the ports' data now, and one cycle later: the outputs of block RAM are too slow for logic behind them.
        read, fetch = Signal(fetch_layout(config)), Signal(fetch_layout(config))
        read_place, place = (Signal(place_layout(config), name=n, reset_less=True) for n in ("read_place", "place"))
        read_stream, streamed = (Signal(word_layout(config), name=n, reset_less=True) for n in ("read_stream", "streamed"))
        a_word, b_word = (Signal(word_layout(config), name=n, reset_less=True) for n in ("a_word", "b_word"))
        with m.If(self.enable):
            m.d.sync += [read.eq(self.fetch), fetch.eq(read)]
            with m.If(self.fetch.word):
                m.d.sync += [read_place.eq(self.place), read_stream.eq(self.streamed)]
            with m.If(read.word):
                m.d.sync += [place.eq(read_place), streamed.eq(read_stream)]
            m.d.sync += [a_word.eq(self.a), b_word.eq(self.b)]

        a_scalar = Array(a_word[n] for n in range(elements))[fetch.a_element]
        b_scalar = Array(b_word[n] for n in range(elements))[fetch.b_element]
        scalars = {name: Signal(FLOAT_BITS, name=name, reset_less=True) for name in SCALARS}
        start_value, start_index = (Signal(FLOAT_BITS, name=n, reset_less=True) for n in ("start_value", "start_index"))
        for case, first in ((Scalars.P_Q, 0), (Scalars.M_N, 2)):
            for n, found in ((first, a_scalar), (first + 1, b_scalar)):
                loads = self.enable & (fetch.scalars == case) & settings.load[n]
                with m.If(self.start | loads):
                    m.d.sync += scalars[SCALARS[n]].eq(Mux(loads, found, self.scalars[n]))
        with m.If(self.enable & (fetch.scalars == Scalars.START)):
            m.d.sync += [start_value.eq(a_scalar), start_index.eq(b_scalar)]
        m.d.comb += [self.start_value.eq(start_value), self.start_index.eq(start_index)]

        # Operand a, wherever it comes from.
        a = Signal(word_layout(config))
        m.d.comb += a.eq(a_word)
        with m.If(settings.a_stream):
            m.d.comb += a.eq(streamed)
        operands = Signal(operand_layout(config), reset_less=True)
        operands_place = Signal(place_layout(config), reset_less=True)
        valid = Signal()
        m.d.comb += [
            self.valid.eq(valid),
            self.operands.eq(operands),
            self.operands_place.eq(operands_place),
            self.busy.eq(read.word | fetch.word | valid),
        ]
        # The pair that is being rotated: first words of x and y.
        pair = Signal(data.ArrayLayout(word_layout(config), 2), reset_less=True)
        with m.If(self.enable & (settings.combine == ROTATE_PAIRS) & ~fetch.table):
            m.d.sync += [pair[0].eq(a_word), pair[1].eq(b_word)]
        chosen = self._choose(m, operands, a, b_word, streamed, scalars, pair, fetch.table)
        with m.If(self.enable):
            m.d.sync += valid.eq(fetch.word)
            with m.If(fetch.word):
                m.d.sync += [operands_place.eq(place), operands.eq(chosen)]
        return m

    def _choose(
        self,
        m: Module,
        operands: Any,
        a: Any,
        b: Any,
        streamed: Any,
        scalars: dict[str, Signal],
        pair: Any,
        table: Value,
    ) -> Any:
        """Combinational: the operands of the word that has been read, a view of `operand_layout`."""
        settings, elements = self.settings, self._config.word_elements
        chosen = Signal(operand_layout(self._config))

        def everywhere(value: Value | int) -> Value:
            one = Const(value, FLOAT_BITS) if isinstance(value, int) else value
            return one.replicate(elements)

        def put(target: Any, value: Any) -> None:
            m.d.comb += Value.cast(target).eq(Value.cast(value))

        p, q = everywhere(scalars["p"]), everywhere(scalars["q"])
        zero, one = everywhere(0), everywhere(float_bits(1.0))
        ways = {
            Combine.SCALE: ((a, p), (q, one)),
            Combine.SUM: ((a, p), (b, q)),
            Combine.PRODUCT: ((a, b), (zero, zero)),
            Combine.LIMIT: ((a, p), (q, one)),
        }
        with m.Switch(settings.combine):
            for way, products in ways.items():
                with m.Case(way):
                    for n, (x, y) in enumerate(products):
                        put(chosen.x[n], x)
                        put(chosen.y[n], y)
            with m.Default():
                # `ROTATE`: ``x * c - y * s`` when cosines and sines are read, ``y * c + x * s`` when the next pair is. The
                # second one follows from the first one, which the operands still hold.
                put(chosen.x[0], operands.x[1])
                put(chosen.x[1], operands.x[0])
                put(chosen.y, operands.y)
                with m.If(table):
                    put(chosen.x, pair)
                    put(chosen.y[0], a)
                    put(chosen.y[1], b)
                    put(chosen.subtract, 1)
        put(chosen.lesser, settings.combine == Combine.LIMIT)
        factors = {
            Multiplier.SCALAR: everywhere(scalars["m"]),
            Multiplier.STREAM: streamed,
            Multiplier.B: b,
            Multiplier.A: a,
        }
        with m.Switch(settings.multiplier):
            for choice, value in factors.items():
                with m.Case(choice):
                    put(chosen.factor, value)
        put(chosen.addend, everywhere(scalars["n"]))
        with m.If(settings.n_stream):
            put(chosen.addend, streamed)
        return chosen
