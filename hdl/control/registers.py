"""The registers behind ``s_axi_control``."""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tailrace.spec.config import Config
from tailrace.spec.identification import identification
from tailrace.spec.isa import ARGUMENTS
from tailrace.spec.registers import (
    ADDRESS_BITS,
    BY_NAME,
    COUNTER_BASE,
    COUNTER_REGISTERS,
    base_registers,
    offset,
    registers_of,
)

from ..axi.lite import AxiLite, LiteSlave
from .counters import CounterRead
from .layout import error_layout

_WORD_BITS, _WORD_BYTES = 32, 4
#: The memory has the first so many words of the map; more of them where the bases of further channels are.
_WORDS = 32


class ControlRegisters(wiring.Component):
    """The register map of `spec.registers`, and the interrupt.

    What the host has written is kept in a memory, for the host to read back and for the program's registers, and so is what
    never changes. What the run needs all at once is in registers besides: these are not read back, since to choose from so many
    registers takes more of an FPGA than the memory does.

    After a reset the memory is filled, which takes 32 cycles, 64 with several channels, or 256 with more than 4: accesses act
    after that. Nor does one act while `loading` is 1.
    A read of a counter waits until it has gone by.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    axi : AxiLite, in
    interrupt : out
        1 while an enabled interrupt is pending and ``GIE`` is set.
    start : out
        1 for one cycle when the doorbell is rung while nothing runs. A register, as it sets much back.
    queue_address, queue_length, limit, watchdog_cycles : out
        Arguments of the run, steady while it lasts if the host keeps them so.
    base : out, for each channel
    loading : in
        The program's registers are set: `argument` is read.
    argument_place, argument : in, out
        Argument of the run with that number, in the same cycle, while `loading` is 1.
    done : in
        1 for one cycle at the end of a run; `error` must be valid then and stay so.
    error : in
    counter : CounterRead, out
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "axi": In(AxiLite(ADDRESS_BITS)),
                "interrupt": Out(1),
                "start": Out(1),
                "queue_address": Out(64),
                "queue_length": Out(32),
                "base": Out(64).array(config.channels),
                "limit": Out(64),
                "watchdog_cycles": Out(32),
                "loading": In(1),
                "argument_place": In(range(ARGUMENTS)),
                "argument": Out(_WORD_BITS),
                "done": In(1),
                "error": In(error_layout(config)),
                "counter": Out(CounterRead()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.slave = slave = LiteSlave(ADDRESS_BITS)
        connect(m, flipped(self.axi), slave.axi)

        # The cycle in which a register is looked at.
        looks = Signal()
        running, done, ready = Signal(), Signal(), Signal()
        enabled, enable, pending = Signal(), Signal(2), Signal(2)

        def among(address: Value, name: str, offsets: Iterable[int]) -> Signal:
            """Whether an access is to one of these: worked out in the cycle before."""
            found = Signal(name=name)
            m.d.sync += found.eq(0)
            with m.Switch(address), m.Case(*offsets):
                m.d.sync += found.eq(1)
            return found

        def writes(name: str) -> Value:
            return slave.write & among(slave.write_offset, f"writes_{name.lower()}", [offset(name)])

        # The memory of what is written; after a reset it is filled.
        channels = self._config.channels
        # What the host writes and reads back.
        writable = [r for r in registers_of(channels) if r.access == "rw" and r.name not in ("GIE", "IER")]
        last = max(r.offset for r in writable)
        depth = 1 << max(last // _WORD_BYTES, _WORDS - 1).bit_length()
        fixed = {offset(name): value for name, value in identification(self._config).items()}
        stored = {r.offset: r.reset for r in writable} | {n: value for n, value in fixed.items() if n < depth * _WORD_BYTES}
        m.submodules.memory = memory = Memory(shape=unsigned(_WORD_BITS), depth=depth, init=[])
        write, words = memory.write_port(granularity=8), memory.read_port(domain="comb")
        filling, place = Signal(init=1), Signal(range(depth))
        known = among(slave.write_offset, "known", [register.offset for register in writable])
        in_memory = among(slave.read_offset, "in_memory", stored)
        step = exact_log2(_WORD_BYTES)
        with m.If(filling):
            m.d.sync += [place.eq(place + 1), filling.eq(place != depth - 1)]
            m.d.comb += [write.addr.eq(place), write.en.eq((1 << _WORD_BYTES) - 1)]
            with m.Switch(place):
                for n, value in stored.items():
                    with m.Case(n >> step):
                        m.d.comb += write.data.eq(value)
        with m.Else():
            m.d.comb += [
                write.addr.eq(slave.write_offset[step:]),
                write.en.eq(Mux(slave.write & known, slave.write_strobe, 0)),
                write.data.eq(slave.write_data),
            ]
        # In the place of AP_CTRL nothing is kept: there the memory reads 0.
        first_argument, nothing = offset("ARGUMENT_0") >> step, offset("AP_CTRL") >> step
        m.d.comb += [
            slave.hold.eq(filling | self.loading),
            words.addr.eq(
                Mux(self.loading, first_argument + self.argument_place, Mux(in_memory, slave.read_offset[step:], nothing))
            ),
            self.argument.eq(words.data),
        ]

        for register, names in (
            (self.queue_address, ("QUEUE_ADDRESS_LO", "QUEUE_ADDRESS_HI")),
            (self.queue_length, ("QUEUE_LENGTH",)),
            *((base, (f"{name}_LO", f"{name}_HI")) for base, name in zip(self.base, base_registers(channels), strict=True)),
            (self.limit, ("LIMIT_LO", "LIMIT_HI")),
            (self.watchdog_cycles, ("WATCHDOG_CYCLES",)),
        ):
            kept = Signal.like(register, init=sum(BY_NAME[name].reset << _WORD_BITS * n for n, name in enumerate(names)))
            m.d.comb += register.eq(kept)
            for n, name in enumerate(names):
                with m.If(writes(name)):
                    for byte in range(_WORD_BYTES):
                        with m.If(slave.write_strobe[byte]):
                            written = slave.write_data.word_select(byte, 8)
                            m.d.sync += kept.word_select(_WORD_BYTES * n + byte, 8).eq(written)
        with m.If(writes("GIE") & slave.write_strobe[0]):
            m.d.sync += enabled.eq(slave.write_data[0])
        with m.If(writes("IER") & slave.write_strobe[0]):
            m.d.sync += enable.eq(slave.write_data[:2])

        toggled = Mux(writes("ISR") & slave.write_strobe[0], slave.write_data[:2], 0)
        m.d.sync += pending.eq((pending ^ toggled) | Mux(self.done, enable, 0))
        m.d.comb += self.interrupt.eq(enabled & pending.any())

        error_address = Signal(64)
        m.d.comb += error_address.eq(self.error.address)
        values: dict[int, Any] = {
            **{n: Const(value, _WORD_BITS) for n, value in fixed.items() if n not in stored},
            offset("AP_CTRL"): Cat(running, done, ~running, ready),
            offset("GIE"): enabled,
            offset("IER"): enable,
            offset("ISR"): pending,
            offset("ERROR_CODE"): self.error.code,
            offset("ERROR_COMMAND"): self.error.command,
            offset("ERROR_ADDRESS_LO"): error_address[:32],
            offset("ERROR_ADDRESS_HI"): error_address[32:],
        }
        reads = {n: among(slave.read_offset, f"reads_{n:x}", [n]) for n in values}

        rung = Signal()
        m.d.comb += rung.eq(writes("AP_CTRL") & slave.write_strobe[0] & slave.write_data[0] & ~running)
        m.d.sync += self.start.eq(rung)
        with m.If(looks & reads[offset("AP_CTRL")]):
            m.d.sync += [done.eq(0), ready.eq(0)]
        with m.If(rung):
            m.d.sync += [running.eq(1), done.eq(0), ready.eq(0)]
        with m.If(self.done):
            m.d.sync += [running.eq(0), done.eq(1), ready.eq(1)]

        # In two steps: first what the register holds if that is neither in the memory nor a counter; then the answer.
        looked, value = Signal(), Signal(_WORD_BITS, reset_less=True)
        counts = among(slave.read_offset, "counts", [register.offset for register in COUNTER_REGISTERS])
        held = [reads[n].replicate(_WORD_BITS) & what for n, what in values.items()]
        m.d.comb += [
            looks.eq(slave.read & ~looked),
            self.counter.valid.eq(slave.read & looked & counts),
            self.counter.place.eq((slave.read_offset - COUNTER_BASE) >> step),
            slave.found.eq(looked & (self.counter.found | ~counts)),
            slave.read_data.eq(Mux(counts, self.counter.value, words.data) | value),
        ]
        with m.If(looks):
            m.d.sync += [looked.eq(1), value.eq(reduce(or_, held))]
        with m.Elif(slave.read & slave.found):
            m.d.sync += looked.eq(0)
        return m
