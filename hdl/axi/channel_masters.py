"""Masters of one channel each, at the ports of a component that stands for all of them."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from .read_master import ReadMaster
from .write_master import WriteMaster

_Master = TypeVar("_Master", ReadMaster, WriteMaster)


def add_masters(m: Module, of: wiring.Component, masters: Sequence[_Master]) -> None:
    """Give each master the port and the first page of its channel, and the `flush` and the `last_page` of all.

    Parameters
    ----------
    m : Module
    of : Component
        With `axi` and `first_page` for each channel, and `flush` and `last_page`.
    masters : sequence of ReadMaster, or of WriteMaster
        Become submodules.
    """
    for n, master in enumerate(masters):
        m.submodules[f"channel_{n}"] = master
        connect(m, master.axi, flipped(of.axi[n]))
        m.d.comb += [
            master.flush.eq(of.flush),
            master.first_page.eq(of.first_page[n]),
            master.last_page.eq(of.last_page),
        ]


def stand_for(m: Module, of: wiring.Component, master: _Master, outputs: Iterable[str]) -> None:
    """Lead the requests of a component to its only master, and the master's outputs to those of the component."""
    connect(m, flipped(of.i), master.i)
    for name in outputs:
        m.d.comb += getattr(of, name).eq(getattr(master, name))
