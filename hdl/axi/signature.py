"""AXI4 as the masters use it: each channel a stream, bursts that increment, full-width beats, one ID.

What never changes (size, burst type, ID, cache, protection) is driven where the ports get their standard names, in `hdl.top`.
Channel fields are those of the AMBA AXI specification (ARM IHI 0022), section A2.
"""

from enum import IntEnum

from amaranth.hdl import Cat, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.registers import PAGE_BYTES

#: AWBURST and ARBURST of bursts whose addresses go up (A3.4.1).
BURST_INCR = 1
#: Bits of an address within a page.
PAGE_BITS = exact_log2(PAGE_BYTES)


class Response(IntEnum):
    """RRESP and BRESP (A3.4.4); the upper bit says that the transfer failed."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


def from_base(address: Value, first_page: Value) -> Value:
    """The address on the bus of one that counts from the start of a page. Bits within a page stay as they are."""
    return Cat(address[:PAGE_BITS], (address[PAGE_BITS:] + first_page)[: len(first_page)])


def address_layout(address_width: int) -> data.StructLayout:
    """AR or AW: the burst's address, and its beats less one."""
    return data.StructLayout({"address": address_width, "length": 8})


def read_data_layout(data_width: int) -> data.StructLayout:
    """R."""
    return data.StructLayout({"data": data_width, "response": 2, "last": 1})


def write_data_layout(data_width: int) -> data.StructLayout:
    """W: one strobe bit per byte."""
    return data.StructLayout({"data": data_width, "strobe": data_width // 8, "last": 1})


def write_response_layout() -> data.StructLayout:
    """B."""
    return data.StructLayout({"response": 2})


class AxiRead(wiring.Signature):
    """The read channels, seen from the master."""

    def __init__(self, address_width: int, data_width: int) -> None:
        super().__init__(
            {
                "ar": Out(stream.Signature(address_layout(address_width))),
                "r": In(stream.Signature(read_data_layout(data_width))),
            }
        )


class AxiWrite(wiring.Signature):
    """The write channels, seen from the master."""

    def __init__(self, address_width: int, data_width: int) -> None:
        super().__init__(
            {
                "aw": Out(stream.Signature(address_layout(address_width))),
                "w": Out(stream.Signature(write_data_layout(data_width))),
                "b": In(stream.Signature(write_response_layout())),
            }
        )


class ReadKind(enum.Enum, shape=2):
    """What a read is for."""

    COMMAND = 0
    VECTOR = 1
    WEIGHT = 2


def read_request_layout(address_width: int) -> data.StructLayout:
    """A read of `beats` bus beats (at least 1) from an address that is one of a beat, for command number `command`.

    The address counts from the start of the memory that the program may use.
    """
    return data.StructLayout({"address": address_width, "beats": 32, "kind": ReadKind, "command": 16})


def read_beat_layout(data_width: int) -> data.StructLayout:
    """A beat read from memory; `last` marks the last one of its request."""
    return data.StructLayout({"data": data_width, "kind": ReadKind, "last": 1})


def bus_error_layout(address_width: int) -> data.StructLayout:
    """The first beat that failed, if `valid` is 1: its address, from the start of the program's memory, and its command."""
    return data.StructLayout({"valid": 1, "address": address_width, "command": 16})


def beat_write_layout(address_width: int, data_width: int) -> data.StructLayout:
    """A write of the bytes of a bus beat whose `strobe` bit is set; the address is that of the whole beat.

    It counts from the start of the memory that the program may use.
    """
    return data.StructLayout({"address": address_width, "data": data_width, "strobe": data_width // 8, "command": 16})
