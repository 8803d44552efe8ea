"""The activation buffer: float32 activations, attention scores and results that stay on the device."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.config import Config
from tailrace.spec.isa import BUFFER_UNIT

#: Bits of an entry: a float32.
FLOAT_BITS = 32


def word_layout(config: Config) -> data.ArrayLayout:
    """A word of the vector unit: entry ``e`` is element ``e % word_elements`` of word ``e // word_elements``."""
    return data.ArrayLayout(FLOAT_BITS, config.word_elements)


def buffer_words(config: Config) -> int:
    """Words of the vector unit in the buffer."""
    return config.buffer_entries // config.word_elements


def matrix_word_layout(config: Config) -> data.ArrayLayout:
    """A word of the matrix unit, with a result of each lane."""
    return data.ArrayLayout(FLOAT_BITS, config.lanes)


def matrix_place_elements(config: Config) -> int:
    """Entries that the places of the matrix unit's words are counted in: a word, or `BUFFER_UNIT` if a word has more."""
    return min(config.lanes, BUFFER_UNIT)


class BufferWrite(wiring.Signature):
    """Write port, seen from the writer: the floats of `data` whose bit in `mask` is set go to `address` and behind it.

    Parameters
    ----------
    config : Config
    elements : int
        Floats in the writer's words.
    place_elements : int or None
        Entries that `address` counts; None: as many as are in a word.
    """

    def __init__(self, config: Config, elements: int, place_elements: int | None = None) -> None:
        super().__init__(
            {
                "enable": Out(1),
                "address": Out(range(config.buffer_entries // (place_elements or elements))),
                "data": Out(data.ArrayLayout(FLOAT_BITS, elements)),
                "mask": Out(elements),
            }
        )


class BufferRead(wiring.Signature):
    """Read port, seen from the reader: `data` is the word at the `address` of the last cycle in which `enable` was 1."""

    def __init__(self, config: Config) -> None:
        super().__init__({"enable": Out(1), "address": Out(range(buffer_words(config))), "data": In(word_layout(config))})


class ActivationBuffer(wiring.Component):
    """`Config.buffer_entries` float32 entries in block RAM, in words of the vector unit and of the matrix unit.

    Two words are read in a cycle and one is written. The memory is there twice, once for each read port, because block RAM
    has one read and one write port. It is as wide as the wider of the two units: the other one's words are parts of its words.
    Words of the matrix unit that have more than `BUFFER_UNIT` entries begin at any multiple of these: each column has an
    address of its own, that of a row or the next one.

    The matrix unit's results have priority over the vector unit's: its pipeline can not wait.

    What is written in a cycle can be read from the cycle after the next one on: the choice between the writers is a register,
    as memories of this size lie far from them, and from each other. What is read while it is being written is undefined.
    Programs order their commands so that this never matters, and it spares an FPGA the logic that would keep the old value.

    Latency of a read: 1 cycle. If there are more lanes than elements in a word of the vector unit, a word is chosen behind the
    block RAM: register it.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    matrix : In(BufferWrite)
        Never refused.
    vector : In(BufferWrite)
        Takes place in a cycle in which `vector_ready` is 1; to be held until then.
    vector_ready : Out(1)
        The matrix unit does not write in this cycle.
    a, b : In(BufferRead)
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "matrix": In(BufferWrite(config, config.lanes, matrix_place_elements(config))),
                "vector": In(BufferWrite(config, config.word_elements)),
                "vector_ready": Out(1),
                "a": In(BufferRead(config)),
                "b": In(BufferRead(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.d.comb += self.vector_ready.eq(~self.matrix.enable)
        width = max(config.lanes, config.word_elements)
        rows = config.buffer_entries // width
        mask = Signal(width)
        row = Signal(range(rows), reset_less=True)
        word = Signal(data.ArrayLayout(FLOAT_BITS, width), reset_less=True)
        # Columns whose part of a word that begins within a row lies in the row behind it.
        behind = Signal(width, reset_less=True) if matrix_place_elements(config) < config.lanes else None
        m.d.sync += mask.eq(0)
        for writer, elements in ((self.vector, config.word_elements), (self.matrix, config.lanes)):
            part_bits = exact_log2(width // elements)
            with m.If(writer.enable):
                if writer is self.matrix and behind is not None:
                    m.d.sync += self._turned(mask, row, word, behind)
                    continue
                m.d.sync += [
                    mask.eq(writer.mask << writer.address[:part_bits] * elements),
                    row.eq(writer.address[part_bits:]),
                    word.eq(Value.cast(writer.data).replicate(width // elements)),
                ]
                if behind is not None:
                    m.d.sync += behind.eq(0)
        for name, port in (("a", self.a), ("b", self.b)):
            part_bits = exact_log2(width // config.word_elements)
            shown = Signal(data.ArrayLayout(FLOAT_BITS, width), name=f"shown_{name}")
            part = Signal(part_bits, name=f"part_{name}", reset_less=True)
            with m.If(port.enable):
                m.d.sync += part.eq(port.address[:part_bits])
            m.d.comb += port.data.eq(Value.cast(shown).word_select(part, len(Value.cast(port.data))))
            for n in range(width):
                m.submodules[f"memory_{name}_{n}"] = memory = Memory(
                    shape=unsigned(FLOAT_BITS), depth=rows, init=[], attrs={"no_rw_check": True}
                )
                write, read = memory.write_port(), memory.read_port()
                m.d.comb += [
                    write.en.eq(mask[n]),
                    write.addr.eq(row if behind is None else row + behind[n]),
                    write.data.eq(word[n]),
                    read.addr.eq(port.address[part_bits:]),
                    read.en.eq(port.enable),
                    shown[n].eq(read.data),
                ]
        return m

    def _turned(self, mask: Signal, row: Signal, word: Signal, behind: Signal) -> list[Any]:
        """Take a word of the matrix unit that is wider than the unit of its places: turned by the place within a row."""
        config, writer = self._config, self.matrix
        places = config.lanes // matrix_place_elements(config)
        place = writer.address[: exact_log2(places)]
        elements = matrix_place_elements(config)
        return [
            mask.eq(_turned(writer.mask, place, elements)),
            word.as_value().eq(_turned(Value.cast(writer.data), place, elements * FLOAT_BITS)),
            behind.eq(Cat((place > n).replicate(elements) for n in range(places))),
            row.eq(writer.address[exact_log2(places) :]),
        ]


def _turned(value: Value, by: Value, unit: int) -> Value:
    """The units of a value, turned to the left by so many of them."""
    for n, bit in enumerate(by):
        value = Mux(bit, value.rotate_left(unit << n), value)
    return value
