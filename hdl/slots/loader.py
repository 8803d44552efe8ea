"""The vector loader: a vector image from memory into a slot."""

from amaranth.hdl import Array, Cat, Const, Module, Signal, Value, signed, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.numerics import MANTISSA_BITS
from tailrace.spec.vector import ALIGNMENT

from .layout import vector_block_layout
from .memory import BASE_BITS, VectorWrite, parts_per_block, slot_shape


def load_command_layout(config: Config) -> data.StructLayout:
    """Load a vector of `blocks` blocks, 1 to `vector_blocks`, into `slot`."""
    return data.StructLayout({"slot": slot_shape(config), "blocks": range(config.vector_blocks + 1)})


class _Phase(enum.Enum, shape=2):
    HEADER = 0
    EXPONENTS = 1
    MANTISSAS = 2


def _tree_levels(elements: int) -> int:
    """Registered levels of four-input sums that add up `elements` values."""
    return 0 if elements == 1 else 1 + _tree_levels(-(-elements // 4))


class VectorLoader(wiring.Component):
    """Take vector images apart (`tailrace.spec.vector`), and write them to the vector memory.

    A beat is taken whenever a command is there, one per cycle, without a gap between the parts of an image or between commands.
    A command stays at `command` until the last beat of its image is taken. The sums of the blocks' mantissas, which the image
    does not hold, are computed on the way. The exponents come before the mantissas; they wait in a small memory
    and are written with their block's sum, because a memory that could take a whole beat of exponents would be
    as wide as the bus.

    Latency: 1 cycle from a beat of mantissas to its write; `commit_latency` cycles from the last beat of a block to the write
    of its exponent and sum.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(load_command_layout(config)))
    i : In(stream.Signature(bus_width))
        Bus beats of the images, in the order of the commands.
    write : Out(VectorWrite)
    idle : Out(1)
        No command is offered and everything has been written: what is read from the vector memory is the new vector.
    commit_latency : int
        3 cycles, or 4 on a 512-bit bus.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._levels = _tree_levels(config.bus_width // MANTISSA_BITS)
        self.commit_latency = self._levels + 1
        super().__init__(
            {
                "command": In(stream.Signature(load_command_layout(config))),
                "i": In(stream.Signature(config.bus_width)),
                "write": Out(VectorWrite(config)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        parts = parts_per_block(config)
        part_bits = parts.bit_length() - 1
        command, i = self.command, self.i

        # Counts the beats of a phase: the part in its lowest bits, and above it the block, or the group of 64 exponents.
        beat = Signal(range(parts * config.vector_blocks))
        phase = Signal(_Phase)
        block = beat[part_bits:]
        last_block = Signal(range(config.vector_blocks))
        last_group = Signal(range(config.vector_blocks))
        last_part = Const(parts - 1, part_bits)
        m.d.comb += [
            last_block.eq(command.payload.blocks - 1),
            i.ready.eq(command.valid),
        ]
        accept = Signal()
        last = Signal()
        m.d.comb += accept.eq(command.valid & i.valid)
        with m.Switch(phase):
            with m.Case(_Phase.HEADER):
                m.d.comb += last_group.eq(0)
            with m.Case(_Phase.EXPONENTS):
                m.d.comb += last_group.eq(last_block >> (ALIGNMENT.bit_length() - 1))
            with m.Case(_Phase.MANTISSAS):
                m.d.comb += last_group.eq(last_block)
        m.d.comb += [
            last.eq(beat == Cat(last_part, last_group)),
            command.ready.eq(accept & last & (phase == _Phase.MANTISSAS)),
        ]
        with m.If(accept):
            m.d.sync += beat.eq(beat + 1)
            with m.If(last):
                m.d.sync += beat.eq(0)
                with m.Switch(phase):
                    with m.Case(_Phase.HEADER):
                        m.d.sync += phase.eq(_Phase.EXPONENTS)
                    with m.Case(_Phase.EXPONENTS):
                        m.d.sync += phase.eq(_Phase.MANTISSAS)
                    with m.Case(_Phase.MANTISSAS):
                        m.d.sync += phase.eq(_Phase.HEADER)

        base = self.write.base
        m.d.sync += base.enable.eq(accept & (phase == _Phase.HEADER) & (beat == 0))
        with m.If(accept):
            m.d.sync += [
                base.slot.eq(command.payload.slot),
                base.base.eq(i.payload[:BASE_BITS]),
            ]

        place_layout = data.StructLayout(
            {"valid": 1, "slot": slot_shape(config), "block": range(config.vector_blocks), "part": max(part_bits, 1)}
        )
        # places[n] says what the values n cycles after the beat was taken belong to.
        places = [Signal(place_layout, name=f"place_{n}") for n in range(self._levels + 1)]
        m.d.comb += [
            places[0].valid.eq(accept & (phase == _Phase.MANTISSAS)),
            places[0].slot.eq(command.payload.slot),
            places[0].block.eq(block),
            places[0].part.eq(beat[:part_bits] if part_bits else 0),
        ]
        for before, after in zip(places, places[1:], strict=False):
            m.d.sync += after.eq(before)

        write = self.write.beat
        m.d.sync += write.enable.eq(places[0].valid)
        with m.If(places[0].valid):
            m.d.sync += [
                write.slot.eq(places[0].slot),
                write.block.eq(places[0].block),
                write.part.eq(places[0].part),
                write.data.eq(i.payload),
            ]

        commit = self.write.commit
        place = places[self._levels]
        total = Signal(vector_block_layout["total"].shape)
        beat_sum = self._sum(m, i.payload, places)
        exponent = self._exponent(m, accept & (phase == _Phase.EXPONENTS), beat, places)
        m.d.sync += commit.enable.eq(place.valid & (place.part == parts - 1))
        with m.If(place.valid):
            m.d.sync += [
                total.eq(Value.cast(beat_sum) if parts == 1 else beat_sum + total),
                commit.slot.eq(place.slot),
                commit.block.eq(place.block),
                commit.exponent.eq(exponent),
            ]
            if parts > 1:
                with m.If(place.part == 0):
                    m.d.sync += total.eq(beat_sum)
        m.d.comb += commit.total.eq(total)

        pending = Cat(*(p.valid for p in places[1:])).any() | write.enable | commit.enable | base.enable
        m.d.comb += self.idle.eq(~(command.valid | pending))
        return m

    def _sum(self, m: Module, payload: Value, places: list) -> Value:
        """Sum of a beat's mantissas, `_levels` cycles later."""
        values = [payload[MANTISSA_BITS * n :][:MANTISSA_BITS].as_signed() for n in range(len(payload) // MANTISSA_BITS)]
        for level in range(self._levels):
            width = len(values[0]) + 2
            sums = [Signal(signed(width), name=f"sum_{level}_{n}") for n in range(-(-len(values) // 4))]
            # Held while nothing comes: a simulator then has nothing to do.
            with m.If(places[level].valid):
                m.d.sync += [s.eq(sum(values[4 * n : 4 * n + 4])) for n, s in enumerate(sums)]
            values = sums
        return values[0]

    def _exponent(self, m: Module, write_enable: Value, beat: Value, places: list) -> Value:
        """Exponent of the block that ``places[-1]`` belongs to, from the memory in which beats of exponents wait."""
        width = vector_block_layout["exponent"].width
        row_blocks = self._config.bus_bytes
        row_bits = row_blocks.bit_length() - 1
        m.submodules.exponents = memory = Memory(
            shape=unsigned(width * row_blocks), depth=max(self._config.vector_blocks // row_blocks, 2), init=[]
        )
        write, read = memory.write_port(), memory.read_port()
        row = Signal(width * row_blocks)
        m.d.comb += [
            write.en.eq(write_enable),
            write.addr.eq(beat),
            write.data.eq(Cat(self.i.payload[8 * n :][:width] for n in range(row_blocks))),
            read.addr.eq(places[self._levels - 2].block >> row_bits),
            # At least a header lies between mantissas and exponents, so this is never both; but tools must see it.
            read.en.eq(places[self._levels - 2].valid & ~write.en),
        ]
        m.d.sync += row.eq(read.data)
        exponents = Array(row.word_select(n, width) for n in range(row_blocks))
        return exponents[places[self._levels].block[:row_bits]]
