"""The payload buffer: the payload of the request or the response in work."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .headers import PAYLOAD_WORDS


class PayloadWrite(wiring.Signature):
    """A write of a word, seen from the writer."""

    def __init__(self) -> None:
        super().__init__({"enable": Out(1), "index": Out(range(PAYLOAD_WORDS)), "data": Out(32)})


class PayloadRead(wiring.Signature):
    """A read of a word, seen from the reader: `data` is what lay at `index` two cycles before."""

    def __init__(self) -> None:
        super().__init__({"index": Out(range(PAYLOAD_WORDS)), "data": In(32)})


class PayloadBuffer(wiring.Component):
    """Holds the longest payload in one block RAM, in words: the first byte is the lowest of word 0.

    Behind the block RAM, whose output comes late in a cycle, there is a register.

    Latency: a word is there two cycles after its index, which may follow in the cycle after its write. Throughput: a read and
    a write a cycle.

    Attributes
    ----------
    write : PayloadWrite, in
    read : PayloadRead, in
    """

    write: In(PayloadWrite())
    read: In(PayloadRead())

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=32, depth=PAYLOAD_WORDS, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            write.en.eq(self.write.enable),
            write.addr.eq(self.write.index),
            write.data.eq(self.write.data),
            read.addr.eq(self.read.index),
        ]
        m.d.sync += self.read.data.eq(read.data)
        return m
