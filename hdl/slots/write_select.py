"""Two writers, one vector memory."""

from typing import Any

from amaranth.hdl import Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

from .memory import VectorWrite


class VectorWriteSelect(wiring.Component):
    """Pass the writes of the loader and of the quantiser on to the vector memory.

    The two must not write in the same cycle, which holds if one is started only while the other is idle; if they did, the
    quantiser's write would win. Combinational.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    loader, quantiser : In(VectorWrite)
    write : Out(VectorWrite)
    """

    def __init__(self, config: Config) -> None:
        signature = VectorWrite(config)
        super().__init__({"loader": In(signature), "quantiser": In(signature), "write": Out(signature)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for write, loader, quantiser in (
            (self.write.beat, self.loader.beat, self.quantiser.beat),
            (self.write.commit, self.loader.commit, self.quantiser.commit),
            (self.write.base, self.loader.base, self.quantiser.base),
        ):
            members = zip(_values(write), _values(loader), _values(quantiser), strict=True)
            m.d.comb += [target.eq(Mux(quantiser.enable, second, first)) for target, first, second in members]
        return m


def _values(group: Any) -> list[Value]:
    """The members of a group, in the order of its signature."""
    return [value for _, _, value in group.signature.flatten(group)]
