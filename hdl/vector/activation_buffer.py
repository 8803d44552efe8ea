"""The activation buffer: float32 activations, attention scores and results that stay on the device."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

#: Bits of an entry: a float32.
FLOAT_BITS = 32


def word_layout(config: Config) -> data.ArrayLayout:
    """A word of the buffer: one float32 for each lane of the memory bus.

    Entry ``e`` is element ``e % lanes`` of word ``e // lanes``.
    """
    return data.ArrayLayout(FLOAT_BITS, config.lanes)


def buffer_words(config: Config) -> int:
    """Words in the buffer."""
    return config.buffer_entries // config.lanes


class BufferWrite(wiring.Signature):
    """Write port, seen from the writer: the floats of `data` whose bit in `mask` is set go to word `address`."""

    def __init__(self, config: Config) -> None:
        super().__init__(
            {
                "enable": Out(1),
                "address": Out(range(buffer_words(config))),
                "data": Out(word_layout(config)),
                "mask": Out(config.lanes),
            }
        )


class BufferRead(wiring.Signature):
    """Read port, seen from the reader: `data` is the word at the `address` of the last cycle in which `enable` was 1."""

    def __init__(self, config: Config) -> None:
        super().__init__({"enable": Out(1), "address": Out(range(buffer_words(config))), "data": In(word_layout(config))})


class ActivationBuffer(wiring.Component):
    """`Config.buffer_entries` float32 entries in block RAM, in words as wide as the vector unit.

    Two words are read in a cycle and one is written. The memory is there twice, once for each read port, because block RAM
    has one read and one write port. The matrix unit's results have priority over the vector unit's: its pipeline can not
    wait.

    What is written in a cycle can be read from the cycle after the next one on: the choice between the writers is a register,
    as memories of this size lie far from them, and from each other. What is read while it is being written is undefined.
    Programs order their commands so that this never matters, and it spares an FPGA the logic that would keep the old value.

    Latency of a read: 1 cycle.

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
                "matrix": In(BufferWrite(config)),
                "vector": In(BufferWrite(config)),
                "vector_ready": Out(1),
                "a": In(BufferRead(config)),
                "b": In(BufferRead(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.d.comb += self.vector_ready.eq(~self.matrix.enable)
        mask = Signal(config.lanes)
        address = Signal(range(buffer_words(config)), reset_less=True)
        word = Signal(word_layout(config), reset_less=True)
        m.d.sync += mask.eq(0)
        for writer in (self.vector, self.matrix):
            with m.If(writer.enable):
                m.d.sync += [mask.eq(writer.mask), address.eq(writer.address), word.eq(writer.data)]
        for name, port in (("a", self.a), ("b", self.b)):
            for lane in range(config.lanes):
                m.submodules[f"memory_{name}_{lane}"] = memory = Memory(
                    shape=unsigned(FLOAT_BITS), depth=buffer_words(config), init=[], attrs={"no_rw_check": True}
                )
                write, read = memory.write_port(), memory.read_port()
                m.d.comb += [
                    write.en.eq(mask[lane]),
                    write.addr.eq(address),
                    write.data.eq(word[lane]),
                    read.addr.eq(port.address),
                    read.en.eq(port.enable),
                    port.data[lane].eq(read.data),
                ]
        return m
