"""The vector loader: a vector image from memory into a slot."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.isa import COMMAND_BYTES, Opcode
from tailrace.spec.numerics import MANTISSA_BITS
from tailrace.spec.vector import ALIGNMENT

from ..control.layout import command_layout
from .memory import VectorWrite, parts_per_block
from .vector_block import BASE_BITS, totals_layout, vector_block_layout


class _Phase(enum.Enum, shape=2):
    HEADER = 0
    EXPONENTS = 1
    MANTISSAS = 2


class VectorLoader(wiring.Component):
    """Carry out `LOAD_VECTOR`: take vector images apart (`tailrace.spec.vector`), and write them to the vector memory.

    The blocks of the image go to the slot from `first_block` on, modulo `vector_blocks`. Each gets its exponent plus the
    image's base as its absolute exponent (modulo 1024, as the vector memory computes); the base goes to the command's set.

    A beat is taken in every cycle in which there is one, without a gap between the parts of an image. A command stays at
    `command` until everything has been written: what is read from the vector memory in the next cycle is the new vector.

    The sums of the mantissas of half blocks, which the image does not hold, are computed on the way. The exponents come before
    the mantissas; they wait in a small memory and are written with their block's sums, because a memory that could take a
    whole beat of exponents would be as wide as the bus.

    Latency: 1 cycle from a beat of mantissas to its write; `commit_latency` cycles from the last beat of a block to the write
    of its exponent and sums, in which the command is taken if the block is the last one.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(512))
        The command, without modifiers and checked.
    i : In(stream.Signature(unit_width))
        Bus beats of the images, in the order of the commands.
    write : Out(VectorWrite)
    commit_latency : int
        3 cycles.
    """

    #: Registered levels of sums, of 8 elements or of 16.
    _levels = 2
    commit_latency = _levels + 1

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(8 * COMMAND_BYTES)),
                "i": In(stream.Signature(config.unit_width)),
                "write": Out(VectorWrite(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        parts = parts_per_block(config)
        part_bits = parts.bit_length() - 1
        i = self.i
        command = data.View(command_layout(Opcode.LOAD_VECTOR), self.command.payload)

        # Counts the beats of a phase: the part in its lowest bits, and above it the block, or the group of 64 exponents.
        beat = Signal(range(parts * config.vector_blocks))
        phase = Signal(_Phase)
        block = beat[part_bits:]
        last_block = Signal(range(config.vector_blocks))
        last_group = Signal(range(config.vector_blocks))
        last_part = Const(parts - 1, part_bits)
        # All beats are taken; the last writes are under way.
        taken = Signal()
        accept = Signal()
        last = Signal()
        # A register: a header is taken before it matters.
        m.d.sync += last_block.eq(command.blocks - 1)
        m.d.comb += [
            i.ready.eq(self.command.valid & ~taken),
            accept.eq(i.ready & i.valid),
        ]
        with m.Switch(phase):
            with m.Case(_Phase.HEADER):
                m.d.comb += last_group.eq(0)
            with m.Case(_Phase.EXPONENTS):
                m.d.comb += last_group.eq(last_block >> (ALIGNMENT.bit_length() - 1))
            with m.Case(_Phase.MANTISSAS):
                m.d.comb += last_group.eq(last_block)
        m.d.comb += [
            last.eq(beat == Cat(last_part, last_group)),
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
                        m.d.sync += [phase.eq(_Phase.HEADER), taken.eq(1)]

        base = self.write.base
        base_beat = accept & (phase == _Phase.HEADER) & (beat == 0)
        m.d.sync += base.enable.eq(base_beat)
        with m.If(base_beat):
            m.d.sync += base.base.eq(i.payload[:BASE_BITS])
        m.d.comb += [base.slot.eq(command.slot), base.set.eq(command.set)]

        place_layout = data.StructLayout(
            {"valid": 1, "block": range(config.vector_blocks), "part": max(part_bits, 1), "last": 1}
        )
        # places[n] says what the values n cycles after the beat was taken belong to.
        places = [Signal(place_layout, name=f"place_{n}") for n in range(self._levels + 1)]
        m.d.comb += [
            places[0].valid.eq(accept & (phase == _Phase.MANTISSAS)),
            places[0].block.eq(block),
            places[0].part.eq(beat[:part_bits] if part_bits else 0),
            places[0].last.eq(last),
        ]
        for before, after in zip(places, places[1:], strict=False):
            m.d.sync += after.eq(before)

        write = self.write.beat
        m.d.sync += write.enable.eq(places[0].valid)
        with m.If(places[0].valid):
            m.d.sync += [
                write.block.eq(places[0].block + command.first_block),
                write.part.eq(places[0].part),
                write.data.eq(i.payload),
            ]

        commit, committed = self.write.commit, Signal()
        m.d.comb += [write.slot.eq(command.slot), commit.slot.eq(command.slot)]
        place = places[self._levels]
        totals = Signal(totals_layout)
        sums = self._sums(m, i.payload, places)
        exponent = self._exponent(m, accept & (phase == _Phase.EXPONENTS), beat, places)
        m.d.sync += commit.enable.eq(place.valid & (place.part == parts - 1))
        with m.If(place.valid):
            m.d.sync += [
                commit.block.eq(place.block + command.first_block),
                commit.exponent.eq(base.base + exponent),
                committed.eq(place.last),
            ]
            if parts == 1:
                m.d.sync += [total.eq(value) for total, value in zip(totals, sums, strict=True)]
            else:
                # The second half moves the first one on.
                half_begins = place.part[: part_bits - 1] == 0
                m.d.sync += totals[1].eq(Mux(half_begins, 0, totals[1]) + sums[0])
                with m.If(half_begins):
                    m.d.sync += totals[0].eq(totals[1])
        m.d.comb += commit.totals.eq(totals)

        m.d.comb += self.command.ready.eq(commit.enable & committed)
        with m.If(self.command.ready):
            m.d.sync += taken.eq(0)
        return m

    def _sums(self, m: Module, payload: Value, places: list) -> list[Value]:
        """Sums of a beat's mantissas, those of each half block by themselves, `_levels` cycles later."""
        values = [payload[MANTISSA_BITS * n :][:MANTISSA_BITS].as_signed() for n in range(len(payload) // MANTISSA_BITS)]
        for level in range(self._levels):
            width = len(values[0]) + 2
            sums = [Signal(signed(width), name=f"sum_{level}_{n}") for n in range(-(-len(values) // 4))]
            # Held while nothing comes: a simulator then has nothing to do.
            with m.If(places[level].valid):
                m.d.sync += [s.eq(sum(values[4 * n : 4 * n + 4])) for n, s in enumerate(sums)]
            values = sums
        return values

    def _exponent(self, m: Module, write_enable: Value, beat: Value, places: list) -> Value:
        """Exponent of the block that ``places[-1]`` belongs to, from the memory in which beats of exponents wait."""
        width = vector_block_layout["exponent"].width
        row_blocks = self._config.unit_bytes
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
