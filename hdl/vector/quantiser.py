"""The quantiser: float32 results to a block-floating-point vector for the next product."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import MAX_STRIDE
from tailrace.spec.numerics import BASE_BIAS, EXPONENT_MAX, MANTISSA_BITS, MANTISSA_MAX

from .layout import vector_block_layout
from .memory import VectorWrite, parts_per_block, slot_shape
from .result_buffer import ResultRead

#: Bits of a float32's biased exponent, and of its significand with the leading one.
_BIASED_BITS, _SIGNIFICAND_BITS = 8, 24
#: Places between the significand and the mantissa of an element that has its block's largest exponent.
_DROPPED_BITS = _SIGNIFICAND_BITS - (MANTISSA_BITS - 1)
#: Bits of the distance to the block's exponent up to which a mantissa is not zero.
_DISTANCE_BITS = 4


def quantise_command_layout(config: Config) -> data.StructLayout:
    """Quantise the entries ``offset + i * stride``, for i below ``32 * blocks``, of the result buffer into `slot`."""
    return data.StructLayout(
        {
            "slot": slot_shape(config),
            "offset": range(config.result_entries),
            "blocks": range(config.vector_blocks + 1),
            "stride": range(MAX_STRIDE + 1),
        }
    )


class _State(enum.Enum, shape=3):
    START = 0
    FIRST_PASS = 1
    FIRST_DRAIN = 2
    SECOND_PASS = 3
    SECOND_DRAIN = 4


class Quantiser(wiring.Component):
    """Quantise a vector as `tailrace.spec.numerics.quantise` does, bit for bit.

    The result buffer is read twice. The first pass finds the largest biased exponent of each block and of the vector; from them
    follow the base and the block exponents. The second pass shifts, rounds and writes the elements. Two passes cost
    cycles instead of memory: a mantissa depends on the block's largest exponent, and that on the vector's.

    An infinity (a product can overflow) counts as what its bits say by the formula of a finite value: ``2**128``. So the vector
    stays usable, and its largest mantissa is 16384 for such an element. NaNs can't occur in the result buffer; one
    would count as a finite value of biased exponent 255 too.

    A command stays at `command` until everything has been written.

    Throughput and latency: ``64 * blocks + overhead`` cycles for a command, from the first cycle in which it is offered to
    the one in which it is taken, both included.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    command : In(stream.Signature(quantise_command_layout(config)))
    read : Out(ResultRead)
        The buffer belongs to the quantiser from `command.valid` until `idle`.
    write : Out(VectorWrite)
    idle : Out(1)
        No command is offered, and everything has been written: what is read from the vector memory is the new vector.
    overhead : int
        13 cycles: filling and draining the pipeline, once for each pass.
    """

    overhead = 13

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(quantise_command_layout(config))),
                "read": Out(ResultRead(config)),
                "write": Out(VectorWrite(config)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        command = self.command.payload

        state = Signal(_State)
        reading = Signal()
        second = Signal()
        address = Signal(range(config.result_entries))
        element = Signal(range(BLOCK))
        block = Signal(range(config.vector_blocks))
        last_block = Signal(range(config.vector_blocks))
        largest = Signal(_BIASED_BITS)
        draining = Signal()

        m.d.comb += [
            reading.eq((state == _State.FIRST_PASS) | (state == _State.SECOND_PASS)),
            second.eq((state == _State.SECOND_PASS) | (state == _State.SECOND_DRAIN)),
            self.read.address.eq(address),
            self.idle.eq(~self.command.valid),
        ]
        m.d.sync += last_block.eq(command.blocks - 1)

        with m.If(reading):
            m.d.sync += [address.eq(address + command.stride), element.eq(element + 1)]
            with m.If(element == BLOCK - 1):
                m.d.sync += block.eq(block + 1)
        with m.Else():
            m.d.sync += [address.eq(command.offset), element.eq(0), block.eq(0)]

        finished = (element == BLOCK - 1) & (block == last_block)
        with m.Switch(state):
            with m.Case(_State.START):
                with m.If(self.command.valid):
                    m.d.sync += state.eq(_State.FIRST_PASS)
            with m.Case(_State.FIRST_PASS):
                with m.If(finished):
                    m.d.sync += state.eq(_State.FIRST_DRAIN)
            with m.Case(_State.FIRST_DRAIN):
                with m.If(~draining):
                    m.d.sync += state.eq(_State.SECOND_PASS)
            with m.Case(_State.SECOND_PASS):
                with m.If(finished):
                    m.d.sync += state.eq(_State.SECOND_DRAIN)
            with m.Case(_State.SECOND_DRAIN):
                with m.If(~draining):
                    m.d.comb += self.command.ready.eq(1)
                    m.d.sync += state.eq(_State.START)

        # Cycle 1 after the address: the buffer shows the entry. Cycle 2: it is registered, because block RAM is slow.
        shown = Signal()
        shown_first, shown_last = Signal(), Signal()
        shown_block = Signal.like(block)
        held = Signal()
        held_first, held_last = Signal(), Signal()
        held_block = Signal.like(block)
        entry = Signal(32)
        biased = entry[_SIGNIFICAND_BITS - 1 :][:_BIASED_BITS]
        m.d.sync += [
            shown.eq(reading),
            shown_first.eq(element == 0),
            shown_last.eq(element == BLOCK - 1),
            shown_block.eq(block),
            held.eq(shown),
            held_first.eq(shown_first),
            held_last.eq(shown_last),
            held_block.eq(shown_block),
        ]
        with m.If(shown):
            m.d.sync += entry.eq(self.read.data)

        # First pass: the largest biased exponents.
        m.submodules.maxima = maxima = Memory(shape=unsigned(_BIASED_BITS), depth=config.vector_blocks, init=[])
        maxima_write, maxima_read = maxima.write_port(), maxima.read_port()
        block_largest = Signal(_BIASED_BITS)
        block_largest_next = Signal(_BIASED_BITS)
        m.d.comb += [
            block_largest_next.eq(Mux(held_first | (biased > block_largest), biased, block_largest)),
            maxima_write.en.eq(held & held_last & ~second),
            maxima_write.addr.eq(held_block),
            maxima_write.data.eq(block_largest_next),
            maxima_read.addr.eq(block),
            # Never while it is written, which some block RAMs can't do without further logic.
            maxima_read.en.eq(second),
        ]
        with m.If(state == _State.START):
            m.d.sync += largest.eq(0)
        with m.Elif(held & ~second):
            m.d.sync += block_largest.eq(block_largest_next)
            with m.If(biased > largest):
                m.d.sync += largest.eq(biased)

        # Second pass. `reference` is the biased exponent that an element needs for a mantissa with its top bit set.
        floor = Signal(signed(_BIASED_BITS + 1))
        maximum = Signal(_BIASED_BITS)
        reference = Signal(_BIASED_BITS)
        operand = Signal(32)
        start = Signal()
        m.d.sync += [floor.eq(largest - EXPONENT_MAX), start.eq(held & second)]
        with m.If(shown):
            m.d.sync += maximum.eq(maxima_read.data)
        with m.If(held & second):
            m.d.sync += [reference.eq(Mux(maximum > floor, maximum, floor)), operand.eq(entry)]

        mantissa, exponent, valid, busy = self._mantissa(m, start, operand, reference, floor)
        m.d.comb += draining.eq(shown | held | start | busy)
        self._write(m, valid, mantissa, exponent, state == _State.START)

        base = self.write.base
        m.d.comb += [
            base.enable.eq((state == _State.FIRST_DRAIN) & ~draining),
            base.slot.eq(command.slot),
            base.base.eq(largest - BASE_BIAS),
        ]
        return m

    def _mantissa(
        self, m: Module, start: Value, entry: Value, reference: Value, floor: Value
    ) -> tuple[Signal, Signal, Signal, Value]:
        """The shifter: one step of the computation in each cycle.

        Returns
        -------
        tuple of (mantissa, exponent, valid, busy)
            `exponent` is that of the block. `busy`: something is under way, or valid.
        """
        steps = 5
        valid = Signal(steps)
        sign = Signal(steps - 1)
        exponent = [Signal(vector_block_layout["exponent"].shape, name=f"exponent_{n}") for n in range(steps)]
        m.d.sync += [valid.eq(Cat(start, valid[:-1])), sign.eq(Cat(entry[-1], sign[:-1]))]
        m.d.sync += [after.eq(before) for before, after in zip([reference - floor, *exponent], exponent, strict=False)]

        # 1: how far to shift. Beyond 15 places more than the largest element of the block, nothing is left to round up.
        biased = entry[_SIGNIFICAND_BITS - 1 :][:_BIASED_BITS]
        difference = Signal(_BIASED_BITS)
        zero = Signal()
        distance = Signal(_DISTANCE_BITS)
        significand = Signal(_SIGNIFICAND_BITS)
        m.d.comb += difference.eq(reference - biased)
        with m.If(start):
            m.d.sync += [
                zero.eq((biased == 0) | difference[_DISTANCE_BITS:].any()),
                distance.eq(difference),
                significand.eq(Cat(entry[: _SIGNIFICAND_BITS - 1], 1)),
            ]

        # 2 and 3: shift. The lowest bit stands for all bits shifted out, which is all that rounding has to know of them.
        fine = Signal(_SIGNIFICAND_BITS + 1)
        coarse_distance = Signal(_DISTANCE_BITS - 2)
        coarse = Signal(_SIGNIFICAND_BITS + 1)
        with m.If(valid[0]):
            m.d.sync += [
                fine.eq(_shift_sticky(Cat(Const(0, 1), Mux(zero, 0, significand)), distance[:2], 1)),
                coarse_distance.eq(distance[2:]),
            ]
        with m.If(valid[1]):
            m.d.sync += coarse.eq(_shift_sticky(fine, coarse_distance, 4))

        # 4: round to nearest, ties to even.
        kept = coarse[1 + _DROPPED_BITS :]
        half = coarse[_DROPPED_BITS]
        rest = coarse[:_DROPPED_BITS].any()
        magnitude = Signal(MANTISSA_BITS)
        with m.If(valid[2]):
            m.d.sync += magnitude.eq(kept + (half & (rest | kept[0])))

        # 5: rounding up can exceed the largest mantissa by one.
        limited = Signal(MANTISSA_BITS)
        mantissa = Signal(signed(MANTISSA_BITS))
        m.d.comb += limited.eq(Mux(magnitude[-1], MANTISSA_MAX, magnitude))
        with m.If(valid[3]):
            m.d.sync += mantissa.eq(Mux(sign[3], -limited, limited))
        return mantissa, exponent[-1], valid[-1], valid.any()

    def _write(self, m: Module, valid: Value, mantissa: Value, exponent: Value, restart: Value) -> None:
        """Gather mantissas to beats, sum them up, and write."""
        slot = self.command.payload.slot
        parts = parts_per_block(self._config)
        elements = BLOCK // parts
        element_bits = elements.bit_length() - 1
        element = Signal(range(BLOCK))
        block = Signal(range(self._config.vector_blocks))
        beat, commit = self.write.beat, self.write.commit

        with m.If(valid):
            m.d.sync += [
                element.eq(element + 1),
                beat.data.eq(Cat(beat.data[MANTISSA_BITS:], mantissa)),
                beat.part.eq(element[element_bits:]),
                beat.block.eq(block),
                commit.block.eq(block),
                commit.exponent.eq(exponent),
                commit.total.eq(Mux(element == 0, 0, commit.total) + mantissa),
            ]
            with m.If(element == BLOCK - 1):
                m.d.sync += block.eq(block + 1)
        with m.If(restart):
            m.d.sync += block.eq(0)
        m.d.sync += [
            beat.enable.eq(valid & (element[:element_bits] == elements - 1)),
            commit.enable.eq(valid & (element == BLOCK - 1)),
        ]
        m.d.comb += [beat.slot.eq(slot), commit.slot.eq(slot)]


def _shift_sticky(value: Value, places: Value, unit: int) -> Value:
    """`value` shifted right by ``places * unit``, with all bits that fall out gathered in the lowest bit."""
    result: Value = value
    for n in range(1, 1 << len(places)):
        lost = n * unit
        shifted = Cat(value[: lost + 1].any(), value[lost + 1 :])
        result = Mux(places == n, shifted, result)
    return result
