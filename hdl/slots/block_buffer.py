"""Words of elements, gathered to blocks whose largest exponent is known."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK

from ..fifo import StreamFifo
from ..float.float32 import BIASED_BITS, exponent_field
from ..stream_register import StreamRegister
from .memory import slot_shape
from .vector_block import SETS

#: Blocks that may wait for their turn.
BLOCKS_QUEUED = 4


def quantise_word_layout(config: Config) -> data.StructLayout:
    """A word of elements on its way into a slot.

    `data` and `mask`: float32 bits, and which of them are there; the others count as zero. `slot`, `set`: where it goes.
    `first`: the word begins a vector, or a segment of one, at `block` of the slot. `last`: it is the vector's or segment's
    last one; its block is padded with zeros. `final`: it is the command's last one (and a `last` one); the bases of the
    slots that were written to are set then. `duplicate`: blocks have 16 elements, and are written twice. `join`: a base
    becomes no smaller than it was before.
    """
    return data.StructLayout(
        {
            "data": data.ArrayLayout(32, config.word_elements),
            "mask": config.word_elements,
            "slot": slot_shape(config),
            "set": range(SETS),
            "block": range(config.vector_blocks),
            "first": 1,
            "last": 1,
            "final": 1,
            "duplicate": 1,
            "join": 1,
        }
    )


def block_layout(config: Config) -> data.StructLayout:
    """A block in the buffer: its largest biased exponent, the words of it that are there, less one, and where it goes."""
    return data.StructLayout(
        {
            "largest": BIASED_BITS,
            "last_word": range(BLOCK // config.word_elements),
            "slot": slot_shape(config),
            "block": range(config.vector_blocks),
            "duplicate": 1,
        }
    )


class BlockBuffer(wiring.Component):
    """Holds the words of a block back until the block's largest exponent is known, and fills it up with zeros.

    Throughput: one word a cycle; a block that is not full takes as long as a full one. Latency: 4 cycles from the last word
    of a block to its first one at `elements`.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    i : In(stream.Signature(quantise_word_layout(config)))
        `set`, `final` and `join` are not looked at.
    valid : Out(1)
        There is a word at `elements`. It can not be refused.
    elements : Out(ArrayLayout(32, word_elements))
    block : Out(block_layout(config))
        The block that the word belongs to.
    first : Out(1)
        It is the block's first word.
    busy : Out(1)
        Something is in the buffer.
    """

    #: Cycles from the last word of a block to its first one at `elements`.
    latency = 4

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(quantise_word_layout(config))),
                "valid": Out(1),
                "elements": Out(data.ArrayLayout(32, config.word_elements)),
                "block": Out(block_layout(config)),
                "first": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        words = BLOCK // config.word_elements
        # One block, and what comes while its exponent is on the way to the other end.
        m.submodules.elements = elements = StreamFifo(data.ArrayLayout(32, config.word_elements), 2 * words)
        m.submodules.blocks = blocks = StreamFifo(block_layout(config), BLOCKS_QUEUED)

        # Distributed RAM, then comparisons: a register between them.
        m.submodules.block = next_block = StreamRegister(block_layout(config))
        wiring.connect(m, blocks.o, next_block.i)
        waiting = next_block.o

        def last_place(duplicate: Value) -> Value:
            """Last word of a full block."""
            return Mux(duplicate, words // 2 - 1, words - 1)

        # In: the largest exponent of a word, and in the cycle after that of the block.
        i = self.i.payload
        word = Signal(quantise_word_layout(config), reset_less=True)
        word_largest = Signal(BIASED_BITS, reset_less=True)
        word_valid, moves = Signal(), Signal()
        values = [Mux(i.mask[n], i.data[n], 0) for n in range(config.word_elements)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                word.eq(i),
                word_valid.eq(1),
                word_largest.eq(_maximum([exponent_field(value) for value in values])),
                *(word.data[n].eq(value) for n, value in enumerate(values)),
            ]
        with m.Elif(moves):
            m.d.sync += word_valid.eq(0)

        place = Signal(range(words))
        block, this_block = Signal(range(config.vector_blocks), reset_less=True), Signal(range(config.vector_blocks))
        largest, new_largest = Signal(BIASED_BITS), Signal(BIASED_BITS)
        ends = Signal()
        m.d.comb += [
            moves.eq(word_valid & elements.i.ready & blocks.i.ready),
            self.i.ready.eq(~word_valid | moves),
            ends.eq(word.last | (place == last_place(word.duplicate))),
            this_block.eq(Mux(word.first, word.block, block)),
            new_largest.eq(_maximum([word_largest, largest])),
            elements.i.valid.eq(moves),
            elements.i.payload.eq(word.data),
            blocks.i.valid.eq(moves & ends),
            blocks.i.payload.largest.eq(new_largest),
            blocks.i.payload.last_word.eq(place),
            # With one slot only, its number still takes a bit.
            blocks.i.payload.slot.eq(word.slot if config.right_hand_sides > 1 else 0),
            blocks.i.payload.block.eq(this_block),
            blocks.i.payload.duplicate.eq(word.duplicate),
        ]
        with m.If(moves):
            m.d.sync += [
                place.eq(Mux(ends, 0, place + 1)),
                largest.eq(Mux(ends, 0, new_largest)),
                block.eq(this_block + ends),
            ]

        # Out.
        given = Signal(range(words))
        there = given <= waiting.payload.last_word
        gives, last = Signal(), Signal()
        m.d.comb += [
            gives.eq(waiting.valid & (elements.o.valid | ~there)),
            last.eq(given == last_place(waiting.payload.duplicate)),
            elements.o.ready.eq(waiting.valid & there),
            waiting.ready.eq(gives & last),
            self.busy.eq(word_valid | blocks.o.valid | waiting.valid | (elements.level != 0) | self.valid),
        ]
        m.d.sync += self.valid.eq(gives)
        with m.If(gives):
            m.d.sync += [
                given.eq(Mux(last, 0, given + 1)),
                self.elements.eq(Mux(there, elements.o.payload.as_value(), 0)),
                self.block.eq(waiting.payload),
                self.first.eq(given == 0),
            ]
        return m


def _maximum(values: list[Value]) -> Value:
    """Largest of unsigned values."""
    while len(values) > 1:
        values = [Mux(a > b, a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]
