"""Two writers, one vector memory."""

from amaranth.hdl import Module
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
        for group in ("beat", "commit", "base"):
            target, loader, quantiser = (getattr(port, group) for port in (self.write, self.loader, self.quantiser))
            for member in target.signature.members:
                with m.If(quantiser.enable):
                    m.d.comb += getattr(target, member).eq(getattr(quantiser, member))
                with m.Else():
                    m.d.comb += getattr(target, member).eq(getattr(loader, member))
        return m
