"""The registers behind ``s_axi_control``."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tailrace.spec.config import Config
from tailrace.spec.identification import identification
from tailrace.spec.isa import ARGUMENTS
from tailrace.spec.registers import ADDRESS_BITS, COUNTERS, REGISTERS, offset

from ..axi.lite import AxiLite, LiteSlave
from .counters import COUNTER_BITS
from .layout import error_layout

#: Bits of the offsets in a group of registers, one of which is chosen in a first step.
_GROUP_BITS = 5


class ControlRegisters(wiring.Component):
    """The register map of `spec.registers`, and the interrupt.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    axi : AxiLite, in
    interrupt : out
        1 while an enabled interrupt is pending and ``GIE`` is set.
    start : out
        1 for one cycle when the doorbell is rung while nothing runs.
    queue_address, queue_length, base, limit, arguments, watchdog_cycles : out
        Arguments of the run, steady while it lasts if the host keeps them so.
    done : in
        1 for one cycle at the end of a run; `error` must be valid then and stay so.
    error : in
    counters : in
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
                "base": Out(64),
                "limit": Out(64),
                "arguments": Out(data.ArrayLayout(32, ARGUMENTS)),
                "watchdog_cycles": Out(32),
                "done": In(1),
                "error": In(error_layout(config)),
                "counters": In(data.ArrayLayout(COUNTER_BITS, len(COUNTERS))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.slave = slave = LiteSlave(ADDRESS_BITS)
        connect(m, flipped(self.axi), slave.axi)

        running, done, ready = Signal(), Signal(), Signal()
        enabled, enable, pending = Signal(), Signal(2), Signal(2)
        storage = {
            r.name: Signal(32, name=r.name.lower(), init=r.reset)
            for r in REGISTERS
            if r.access == "rw" and r.name not in ("GIE", "IER")
        }

        def writes(name: str) -> Value:
            return slave.write & (slave.write_offset == offset(name))

        def reads(name: str) -> Value:
            return slave.read & (slave.read_offset == offset(name))

        for name, register in storage.items():
            with m.If(writes(name)):
                for byte in range(4):
                    with m.If(slave.write_strobe[byte]):
                        m.d.sync += register.word_select(byte, 8).eq(slave.write_data.word_select(byte, 8))
        with m.If(writes("GIE") & slave.write_strobe[0]):
            m.d.sync += enabled.eq(slave.write_data[0])
        with m.If(writes("IER") & slave.write_strobe[0]):
            m.d.sync += enable.eq(slave.write_data[:2])

        toggled = Mux(writes("ISR") & slave.write_strobe[0], slave.write_data[:2], 0)
        m.d.sync += pending.eq((pending ^ toggled) | Mux(self.done, enable, 0))
        m.d.comb += self.interrupt.eq(enabled & pending.any())

        m.d.comb += self.start.eq(writes("AP_CTRL") & slave.write_strobe[0] & slave.write_data[0] & ~running)
        with m.If(reads("AP_CTRL")):
            m.d.sync += [done.eq(0), ready.eq(0)]
        with m.If(self.start):
            m.d.sync += [running.eq(1), done.eq(0), ready.eq(0)]
        with m.If(self.done):
            m.d.sync += [running.eq(0), done.eq(1), ready.eq(1)]

        m.d.comb += [
            self.queue_address.eq(Cat(storage["QUEUE_ADDRESS_LO"], storage["QUEUE_ADDRESS_HI"])),
            self.queue_length.eq(storage["QUEUE_LENGTH"]),
            self.base.eq(Cat(storage["BASE_LO"], storage["BASE_HI"])),
            self.limit.eq(Cat(storage["LIMIT_LO"], storage["LIMIT_HI"])),
            self.watchdog_cycles.eq(storage["WATCHDOG_CYCLES"]),
            *(self.arguments[i].eq(storage[f"ARGUMENT_{i}"]) for i in range(ARGUMENTS)),
        ]

        error_address = Signal(64)
        m.d.comb += error_address.eq(self.error.address)
        values: dict[str, Any] = {
            **storage,
            "AP_CTRL": Cat(running, done, ~running, ready),
            "GIE": enabled,
            "IER": enable,
            "ISR": pending,
            **{name: Const(value, 32) for name, value in identification(self._config).items()},
            "ERROR_CODE": self.error.code,
            "ERROR_COMMAND": self.error.command,
            "ERROR_ADDRESS_LO": error_address[:32],
            "ERROR_ADDRESS_HI": error_address[32:],
        }
        for i, (name, _) in enumerate(COUNTERS):
            values[f"{name}_LO"] = self.counters[i][:32]
            values[f"{name}_HI"] = self.counters[i][32:]
        # In two steps: one of each group, then one of the groups. In one step this is the longest path of the core.
        group_number = Signal(ADDRESS_BITS - _GROUP_BITS)
        groups = {r.offset >> _GROUP_BITS: Signal(32, name=f"group_{r.offset >> _GROUP_BITS}") for r in REGISTERS}
        # Only while it is read, so that a simulator need not look through all registers in every cycle.
        with m.If(slave.read):
            m.d.sync += [group_number.eq(slave.read_offset[_GROUP_BITS:]), *(group.eq(0) for group in groups.values())]
            with m.Switch(slave.read_offset[:_GROUP_BITS]):
                for place in range(1 << _GROUP_BITS):
                    found = [r for r in REGISTERS if r.offset % (1 << _GROUP_BITS) == place]
                    with m.Case(place):
                        m.d.sync += [groups[r.offset >> _GROUP_BITS].eq(values[r.name]) for r in found]
        with m.Switch(group_number):
            for number, group in groups.items():
                with m.Case(number):
                    m.d.comb += slave.read_data.eq(group)
        return m
