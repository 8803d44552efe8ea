"""Ports of a memory controller that have one user after the other."""

from typing import Any

from amaranth.hdl import Module, Mux, Value
from amaranth.lib import wiring

from .sdram_start import CONTROL_PORT


def choose_port(m: Module, first: Value, one: tuple[Any, Any], other: tuple[Any, Any], port: tuple[Any, Any]) -> None:
    """Join an AXI port to the `first` of two masters, or else to the `other`, who waits for it.

    Parameters
    ----------
    m : Module
    first : Value
        May change while nothing is under way.
    one, other, port : tuple of AxiRead and AxiWrite
        Two masters, and what they share, seen from the masters' side.
    """
    for channels in zip(_from_master(*one), _from_master(*other), _from_master(*port), strict=True):
        mine, theirs, shared = channels
        m.d.comb += [
            shared.valid.eq(Mux(first, mine.valid, theirs.valid)),
            shared.payload.eq(Mux(first, Value.cast(mine.payload), Value.cast(theirs.payload))),
            mine.ready.eq(shared.ready & first),
            theirs.ready.eq(shared.ready & ~first),
        ]
    for channels in zip(_to_master(*one), _to_master(*other), _to_master(*port), strict=True):
        mine, theirs, shared = channels
        m.d.comb += [
            mine.valid.eq(shared.valid & first),
            theirs.valid.eq(shared.valid & ~first),
            mine.payload.eq(shared.payload),
            theirs.payload.eq(shared.payload),
            shared.ready.eq(Mux(first, mine.ready, theirs.ready)),
        ]


def choose_writer(m: Module, first: Value, one: Any, other: Any) -> Any:
    """Give the control port to the `first` of two writers, or else to the `other`; return what it sees."""
    port = wiring.Signature(CONTROL_PORT).create()
    m.d.comb += [
        port.address.eq(Mux(first, one.address, other.address)),
        port.data.eq(Mux(first, one.data, other.data)),
        port.request.eq(Mux(first, one.request, other.request)),
        one.acknowledge.eq(port.acknowledge & first),
        other.acknowledge.eq(port.acknowledge & ~first),
    ]
    return port


def _from_master(read: Any, write: Any) -> tuple[Any, ...]:
    return read.ar, write.aw, write.w


def _to_master(read: Any, write: Any) -> tuple[Any, ...]:
    return read.r, write.b
