"""Decides whether a run can begin, and which memory it may use."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
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

    Latency: 3 cycles. The registers stand still for much longer before a run needs to know.

    Parameters
    ----------
    config : Config
    memory_bytes : int or None
        Where memory ends, whatever ``LIMIT`` says: some memories do not refuse what lies behind their end, but begin anew.
        None: where addresses end. For builds of one channel.

    Attributes
    ----------
    address, length, limit : in
        ``QUEUE_ADDRESS``, ``QUEUE_LENGTH`` and ``LIMIT``.
    base : in, for each channel
        ``BASE`` and ``BASE_n``.
    code : out
        An `ErrorCode`.
    first_page : out, for each channel
        The page at ``BASE`` or ``BASE_n``, if `code` is 0.
    last_page : out
        The number, counted from there, of the last page of a channel that the run may use, if `code` is 0.
    """

    #: Cycles from the registers to `code`, `first_page` and `last_page`.
    latency = 3

    def __init__(self, config: Config, memory_bytes: int | None = None) -> None:
        if memory_bytes is not None and (memory_bytes % PAGE_BYTES or not 0 < memory_bytes <= 1 << config.address_width):
            raise ValueError(
                f"memory_bytes must be a multiple of {PAGE_BYTES}, at most 2**{config.address_width}, not {memory_bytes}"
            )
        if memory_bytes is not None and config.channels > 1:
            raise ValueError("memory_bytes is for builds of one channel")
        self._config, self._memory_bytes = config, memory_bytes
        pages = config.address_width - PAGE_BITS
        super().__init__(
            {
                "address": In(64),
                "length": In(32),
                "base": In(64).array(config.channels),
                "limit": In(64),
                "code": Out(8),
                "first_page": Out(pages).array(config.channels),
                "last_page": Out(pages),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width, unit_bits = self._config.address_width, exact_log2(ADDRESS_UNIT)
        channels = self._config.channels
        # A page of every channel.
        row_bits = PAGE_BITS + exact_log2(channels)
        base_pages, limit_pages = [base[PAGE_BITS:width] for base in self.base], self.limit[row_bits : width + 1]
        pages = (self._memory_bytes or 1 << width) >> PAGE_BITS
        reached = pages - 1 - base_pages[0] if channels == 1 else pages // channels - 1
        # Many bits: what is wrong is found in parts.
        misaligned, high, limited = Signal(3), Signal(5), Signal()
        m.d.sync += [
            *(first.eq(page) for first, page in zip(self.first_page, base_pages, strict=True)),
            limited.eq(self.limit[row_bits:].any()),
            self.last_page.eq(Mux(limited, limit_pages - 1, reached)),
            misaligned.eq(
                Cat(
                    self.address[:unit_bits].any(),
                    Cat(base[:PAGE_BITS] for base in self.base).any(),
                    self.limit[:row_bits].any(),
                )
            ),
            high.eq(
                Cat(
                    self.length > MAX_COMMANDS,
                    self.address[width:].any(),
                    Cat(base[width:] for base in self.base).any(),
                    self.limit[width + 1 :].any(),
                    self.limit[width : width + 1].any() & self.limit[row_bits:width].any(),
                )
            ),
        ]
        # With all addresses of memory, the first one that is none has a bit more than pages are told apart by.
        outside = Cat(
            first + self.last_page >= pages if self._memory_bytes else (first + self.last_page)[-1] for first in self.first_page
        )
        m.d.sync += self.code.eq(
            Mux(high.any() | outside.any(), ErrorCode.OUT_OF_RANGE, Mux(misaligned.any(), ErrorCode.MISALIGNED, ErrorCode.NONE))
        )
        return m
