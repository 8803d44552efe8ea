"""The result buffer: float32 results that stay on the device for the next command."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

#: Bits of a result: a float32.
RESULT_BITS = 32


class ResultWrite(wiring.Signature):
    """Write port of the result buffer, seen from the writer."""

    def __init__(self, config: Config) -> None:
        super().__init__({"enable": Out(1), "address": Out(range(config.result_entries)), "data": Out(RESULT_BITS)})


class ResultRead(wiring.Signature):
    """Read port of the result buffer, seen from the reader: `data` is the entry at the `address` of the cycle before."""

    def __init__(self, config: Config) -> None:
        super().__init__({"address": Out(range(config.result_entries)), "data": In(RESULT_BITS)})


class ResultBuffer(wiring.Component):
    """`Config.result_entries` float32 entries in block RAM.

    What is written in a cycle can be read from the next cycle on. When the entry that is asked for is being written,
    `read.data` stays as it is. (Nobody reads what is not yet complete, so that never matters, and it spares an FPGA without
    such a mode in its block RAM the logic that would keep the old value.)

    Latency of a read: 1 cycle.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    write : In(ResultWrite)
    read : In(ResultRead)
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__({"write": In(ResultWrite(config)), "read": In(ResultRead(config))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(RESULT_BITS), depth=self._config.result_entries, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            write.en.eq(self.write.enable),
            write.addr.eq(self.write.address),
            write.data.eq(self.write.data),
            read.addr.eq(self.read.address),
            read.en.eq(~(write.en & (write.addr == read.addr))),
            self.read.data.eq(read.data),
        ]
        return m
