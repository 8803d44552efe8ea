"""What every board has between its pins: the core, its memory, and the link to a host."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from tailrace.spec.config import Config

from ..core import Core
from ..link.bridge import LinkBridge
from .litedram import LiteDram
from .memory import BoardMemory

#: Lamps, from the first one on.
LEDS = ("heartbeat", "memory ready", "session open", "frame on the line", "running", "last run failed")
#: Beats of the heart, on or off, in a second.
_HEARTBEAT_HZ = 2
#: For how much of a second a frame is seen.
_FLASH = 1 / 20


class System(wiring.Component):
    """Core, memory and link in one clock domain, ``sync``.

    Parameters
    ----------
    config : Config
        The build of the core. Its bus is as wide as the controller's port.
    controller : LiteDram
    clock_hz : int
    clocks_per_bit : int
        Clock cycles that a bit lasts on the serial line.
    pads : mapping of str to IOPort or Signal
        What the memory is joined to (`BoardMemory`).

    Attributes
    ----------
    rx : in
        The serial line, in no clock's domain.
    tx : out
    leds : out
        One bit for each of `LEDS`.
    memory_failed : out
        `BoardMemory.failed`.

    Raises
    ------
    ValueError
        If the widths differ, or there is more than one port.
    """

    def __init__(
        self,
        config: Config,
        controller: LiteDram,
        *,
        clock_hz: int,
        clocks_per_bit: int,
        pads: Mapping[str, Any] | None = None,
    ) -> None:
        if config.channels > 1:
            raise ValueError(f"a board has one memory, and {config.name} has {config.channels} memory ports")
        if config.bus_width != controller.data_width:
            raise ValueError(f"a bus of {config.bus_width} bits needs such a port, not one of {controller.data_width} bits")
        self._config, self._clock_hz, self._memory_bytes = config, clock_hz, controller.memory_bytes
        self._link = LinkBridge(clocks_per_bit, clock_hz, controller.memory_bytes)
        self._memory = BoardMemory(controller, config.address_width, pads)
        lanes = len(self._memory.failed)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "leds": Out(len(LEDS)), "memory_failed": Out(lanes)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = core = Core(self._config, memory_bytes=self._memory_bytes)
        m.submodules.link = link = self._link
        m.submodules.memory = memory = self._memory
        connect(m, link.control, core.control)
        connect(m, core.read[0], memory.core_read)
        connect(m, core.write[0], memory.core_write)
        connect(m, link.read, memory.host_read)
        connect(m, link.write, memory.host_write)
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            link.interrupt.eq(core.interrupt),
            link.memory_ready.eq(memory.ready),
            self.memory_failed.eq(memory.failed),
        ]

        half_beat = self._clock_hz // (2 * _HEARTBEAT_HZ)
        beat, count = Signal(), Signal(range(max(half_beat, 2)))
        with m.If(count == half_beat - 1):
            m.d.sync += [count.eq(0), beat.eq(~beat)]
        with m.Else():
            m.d.sync += count.eq(count + 1)
        flash = round(self._clock_hz * _FLASH)
        glow = Signal(range(flash + 1))
        with m.If(link.active):
            m.d.sync += glow.eq(flash)
        with m.Elif(glow != 0):
            m.d.sync += glow.eq(glow - 1)
        m.d.sync += self.leds.eq(Cat(beat, memory.ready, link.open, glow != 0, core.probe.running, core.failed))
        return m
