"""The largest result of each slot, on the way to the activation buffer."""

from amaranth.hdl import Array, C, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

from ..float.compare import from_order, order
from ..float.float32 import MINUS_INFINITY
from ..float.pipeline import Pipeline
from ..vector.activation_buffer import FLOAT_BITS, BufferWrite, matrix_place_elements, matrix_word_layout
from .command import maxima_gap
from .serialiser import word_place_layout


class Maxima(wiring.Component):
    """Writes words of results, remembers the largest result of each slot, and puts it in the words that are kept for it.

    Results that are masked are minus infinity, which is written and compared in their place.

    The results of a word are compared in pairs, then with the largest of their slot so far, as integers of the same order.

    Latency: none for results. `latency` cycles must lie between the last word of a slot's results and the word that is kept
    for its maximum. Throughput: one word a cycle.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    valid : In(1)
        There is a word.
    results : In(matrix_word_layout(config))
        Bits of float32, flushed. Those that `place.mask` leaves out may be anything, as those in `place.hidden`, and all of a
        word with `place.maximum`.
    place : In(word_place_layout(config))
    write : Out(BufferWrite(config, lanes))
    finished : Out(1)
        The last word of a command is written in this cycle.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.latency = maxima_gap(config) + 1
        super().__init__(
            {
                "valid": In(1),
                "results": In(matrix_word_layout(config)),
                "place": In(word_place_layout(config)),
                "write": Out(BufferWrite(config, config.lanes, matrix_place_elements(config))),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, place = self.config, self.place
        slot = Signal(range(config.right_hand_sides))
        with m.If(self.valid):
            m.d.sync += slot.eq(Mux(place.last, 0, slot + 1))

        masks = place.hidden if len(place.hidden) else C(0, config.lanes)
        results = [Mux(hidden, MINUS_INFINITY, x) for hidden, x in zip(masks, self.results, strict=True)]
        # Where there is no row is below every number.
        keys = [Mux(place.mask[n], order(x), 0) for n, x in enumerate(results)]
        pipeline = Pipeline(m, Signal(init=1), self.valid & ~place.maximum)
        first, of_slot = place.first, slot
        while len(keys) > 1:
            stage = pipeline.stage(
                first=first, slot=of_slot, keys=[Mux(b > a, b, a) for a, b in zip(keys[::2], keys[1::2], strict=True)]
            )
            first, of_slot, keys = stage.first, stage.slot, stage.keys
        [key] = keys
        largest = Array(Signal(FLOAT_BITS, name=f"largest_{n}", reset_less=True) for n in range(config.right_hand_sides))
        with m.If(pipeline.valid & (first | (key > largest[of_slot]))):
            m.d.sync += largest[of_slot].eq(key)

        m.d.comb += [
            self.write.enable.eq(self.valid),
            self.write.address.eq(place.address),
            self.write.mask.eq(place.mask),
            *(self.write.data[n].eq(x) for n, x in enumerate(results)),
            self.finished.eq(self.valid & place.final),
        ]
        with m.If(place.maximum):
            m.d.comb += self.write.data[0].eq(from_order(largest[slot]))
        return m
