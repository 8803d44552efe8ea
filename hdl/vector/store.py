"""The store: entries of the activation buffer on their way to memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.isa import ADDRESS_UNIT, COMMAND_BYTES, Opcode

from ..axi.signature import beat_write_layout
from ..control.layout import command_layout
from .activation_buffer import FLOAT_BITS, BufferRead, buffer_words


class Store(wiring.Component):
    """Carry out `STORE`: read entries of the activation buffer, pack them into bus beats, and send them to memory.

    A beat has ``unit_width / 32 / word_elements`` words of the buffer. The last one has strobes for exactly the bytes that are
    written. A command stays at `command` until its last beat is taken.

    While a beat waits nothing is read: the buffer's output holds the word that comes next, so that it needs no copy.

    Throughput: one word a cycle. Latency: from a command to its first beat the cycles of its words, and 2. A command takes a
    cycle for each word of its beats, and `overhead` more.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(512))
        The command, without modifiers and checked.
    index : In(16)
        Its index, which goes with the beats.
    a : Out(BufferRead(config))
    write : Out(stream.Signature(beat_write_layout(address_width, unit_width)))
    """

    #: Cycles of a command besides those of its beats.
    overhead = 3

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(8 * COMMAND_BYTES)),
                "index": In(16),
                "a": Out(BufferRead(config)),
                "write": Out(stream.Signature(beat_write_layout(config.address_width, config.unit_width))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, elements, write = self._config, self._config.word_elements, self.write
        command = data.View(command_layout(Opcode.STORE), self.command.payload)
        words = config.unit_width // (elements * FLOAT_BITS)

        # The word to ask for: how many entries are left from it on, and its place in a beat.
        begun, reading = Signal(), Signal()
        address = Signal(range(buffer_words(config)), reset_less=True)
        left = Signal(range(config.buffer_entries + 1), reset_less=True)
        place = Signal(range(words))
        last = (place == words - 1) & (left <= elements)
        # The word at the buffer's output.
        shown, taken = Signal(), Signal()
        shown_layout = data.StructLayout({"place": range(words), "mask": elements, "last": 1})
        shown_word = Signal(shown_layout, reset_less=True)
        final = Signal()

        asks = reading & (~shown | taken)
        m.d.comb += [
            self.command.ready.eq(write.valid & write.ready & final),
            self.a.address.eq(address),
            self.a.enable.eq(asks),
            taken.eq(shown & (~write.valid | write.ready)),
        ]
        with m.If(self.command.valid & ~begun & ~write.valid):
            m.d.sync += [
                begun.eq(1),
                reading.eq(1),
                address.eq(command.a // elements),
                left.eq(command.count),
                write.payload.address.eq(command.destination * ADDRESS_UNIT),
            ]
        with m.Elif(self.command.ready):
            m.d.sync += begun.eq(0)
        with m.If(asks):
            # A beat is read as a whole; what lies behind the last entry gets no strobe.
            m.d.sync += [
                address.eq(address + 1),
                place.eq(place + 1),
                left.eq(Mux(left > elements, left - elements, 0)),
                reading.eq(~last),
                shown_word.place.eq(place),
                shown_word.mask.eq(Cat(left > n for n in range(elements))),
                shown_word.last.eq(last),
            ]
        with m.If(asks | taken):
            m.d.sync += shown.eq(asks)

        with m.If(write.valid & write.ready):
            m.d.sync += [write.valid.eq(0), write.payload.address.eq(write.payload.address + config.unit_bytes)]
        with m.If(taken):
            strobe = Cat(bit.replicate(FLOAT_BITS // 8) for bit in shown_word.mask)
            m.d.sync += [
                write.payload.data.word_select(shown_word.place, elements * FLOAT_BITS).eq(self.a.data),
                write.payload.strobe.word_select(shown_word.place, elements * FLOAT_BITS // 8).eq(strobe),
                write.valid.eq(shown_word.place == words - 1),
                write.payload.command.eq(self.index),
                final.eq(shown_word.last),
            ]
        return m
