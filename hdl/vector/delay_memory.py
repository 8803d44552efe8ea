"""A delay line for a pipeline that can be stopped."""

from amaranth.hdl import Cat, Module, Mux, Shape, ShapeLike, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class DelayMemory(wiring.Component):
    """`o` is `i`, as it was so many enabled cycles ago.

    A small memory instead of a chain of registers: what waits does not move, which spares look-up tables on an FPGA and
    time in a simulator. What `o` shows before the first value has come through is undefined.

    Parameters
    ----------
    shape : ShapeLike
    cycles : int
        Enabled cycles from `i` to `o`, at least 2.
    short_cycles : int, optional
        The same while `short` is 1: at least 2, at most `cycles`.

    Attributes
    ----------
    enable : In(1)
    short : In(1)
        To be changed only while nothing is on its way, and at least two cycles before the next value.
    i : In(shape)
    o : Out(shape)

    Raises
    ------
    ValueError
        If `cycles` is not a whole number of at least 2, or `short_cycles` is not one from 2 to `cycles`.
    """

    def __init__(self, shape: ShapeLike, cycles: int, short_cycles: int | None = None) -> None:
        if not isinstance(cycles, int) or cycles < 2:
            raise ValueError(f"cycles must be a whole number of at least 2, not {cycles!r}")
        short_cycles = cycles if short_cycles is None else short_cycles
        if not isinstance(short_cycles, int) or not 2 <= short_cycles <= cycles:
            raise ValueError(f"short_cycles must be a whole number from 2 to {cycles}, not {short_cycles!r}")
        self.shape, self.cycles, self.short_cycles = shape, cycles, short_cycles
        super().__init__({"enable": In(1), "short": In(1), "i": In(shape), "o": Out(shape)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = Shape.cast(self.shape).width
        # The output register is one of the cycles.
        depth = self.cycles - 1
        m.submodules.memory = memory = Memory(shape=unsigned(width), depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        last, place = Signal(range(depth)), Signal(range(depth))
        held = Signal(width, reset_less=True)
        m.d.comb += [
            write.en.eq(self.enable),
            write.addr.eq(place),
            write.data.eq(Cat(self.i)),
            read.addr.eq(place),
            Cat(self.o).eq(held),
        ]
        with m.If(self.enable):
            m.d.sync += [held.eq(read.data), place.eq(place + 1)]
        # The place may lie behind the end when the line has become shorter.
        with m.If((place > last) | (self.enable & (place == last))):
            m.d.sync += place.eq(0)
        m.d.sync += last.eq(Mux(self.short, self.short_cycles - 2, depth - 1))
        return m
