"""Decides whether a run can begin, and which memory it may use."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import ADDRESS_UNIT, MAX_COMMANDS
from tailrace.spec.registers import PAGE_BYTES

from ..axi.signature import PAGE_BITS


class RunChecker(wiring.Component):
    """Check the control registers of a run as `spec.commands.check_queue` does, and find the pages that it may use.

    Latency: 2 cycles. The registers stand still for much longer before a run needs to know.

    Parameters
    ----------
    config : Config
    memory_bytes : int or None
        Where memory ends, whatever ``LIMIT`` says: some memories do not refuse what lies behind their end, but begin anew.
        None: where addresses end.

    Attributes
    ----------
    address, length, base, limit : in
        ``QUEUE_ADDRESS``, ``QUEUE_LENGTH``, ``BASE`` and ``LIMIT``.
    code : out
        An `ErrorCode`.
    first_page, last_page : out
        The page at ``BASE``, and the number, counted from there, of the last one that the run may use, if `code` is 0.
    """

    #: Cycles from the registers to `code`, `first_page` and `last_page`.
    latency = 2

    def __init__(self, config: Config, memory_bytes: int | None = None) -> None:
        if memory_bytes is not None and (memory_bytes % PAGE_BYTES or not 0 < memory_bytes <= 1 << config.address_width):
            raise ValueError(
                f"memory_bytes must be a multiple of {PAGE_BYTES}, at most 2**{config.address_width}, not {memory_bytes}"
            )
        self._config, self._memory_bytes = config, memory_bytes
        pages = config.address_width - PAGE_BITS
        super().__init__(
            {
                "address": In(64),
                "length": In(32),
                "base": In(64),
                "limit": In(64),
                "code": Out(8),
                "first_page": Out(pages),
                "last_page": Out(pages),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width, unit_bits = self._config.address_width, exact_log2(ADDRESS_UNIT)
        base_page, limit_page = self.base[PAGE_BITS:width], self.limit[PAGE_BITS:width]
        pages = (self._memory_bytes or 1 << width) >> PAGE_BITS
        misaligned, high = Signal(), Signal()
        m.d.sync += [
            self.first_page.eq(base_page),
            # Without a limit, up to the end; that is also what a limit of all addresses comes to.
            self.last_page.eq(Mux(self.limit[PAGE_BITS:].any(), limit_page - 1, pages - 1 - base_page)),
            misaligned.eq(self.address[:unit_bits].any() | self.base[:PAGE_BITS].any() | self.limit[:PAGE_BITS].any()),
            high.eq(
                (self.length > MAX_COMMANDS)
                | self.address[width:].any()
                | self.base[width:].any()
                | self.limit[width + 1 :].any()
                | (self.limit[width : width + 1].any() & limit_page.any())
            ),
        ]
        # With all addresses of memory, the first one that is none has a bit more than pages are told apart by.
        outside = self.first_page + self.last_page >= pages if self._memory_bytes else self.last_page > ~self.first_page
        m.d.sync += self.code.eq(
            Mux(high | outside, ErrorCode.OUT_OF_RANGE, Mux(misaligned, ErrorCode.MISALIGNED, ErrorCode.NONE))
        )
        return m
