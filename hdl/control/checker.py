"""Decides whether this build can execute a command, and counts what the command reads."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tailrace.spec.commands import limits, reserved_mask
from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import BY_NUMBER, FORMATS, I8
from tailrace.spec.isa import ADDRESS_UNIT, COMMAND_BYTES, FIELDS, STREAM_UNIT, Field, Opcode

from .layout import command_layout

#: Bits of a number of blocks or groups that take part in the count of beats; what is larger fails the check.
COUNT_BITS = 17
#: Bits that tell the known opcodes apart, and the known formats. What is set above them fails the check, so that only the check
#: looks there.
OPCODE_BITS = max(Opcode).bit_length()
FORMAT_BITS = max(BY_NUMBER).bit_length()
#: Kinds of side beats that a format has at most.
_SIDES = 3
assert max(len(f.side_beats()) for f in FORMATS) == _SIDES
assert max(f.nibble_beats for f in FORMATS) == 2


class CommandChecker(wiring.Component):
    """Check a command as `spec.commands.check` does, and count the bus beats that it reads.

    What is compared follows from the bounds of the fields in `spec.isa`.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    enable : in
        1 while a command is to be checked; at 0 the results stay as they are. A command is looked at for a few cycles and then
        waits, for thousands if the datapath is busy: there is no need to check it again in each of them.
    command : in
        512 bits, modifiers applied, to be held steady for `latency` cycles.
    code : out
        An `ErrorCode`, `latency` cycles later.
    beats : out
        Bus beats of each of the command's reads, `latency` cycles later; 0 for commands that read nothing.
    reads : out
        Reads of so many beats, `latency` cycles later: 1, or the groups of rows of a product with a stride.
    """

    #: Cycles from `command` to `code`, `beats` and `reads`.
    latency = 5

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "enable": In(1, init=1),
                "command": In(8 * COMMAND_BYTES),
                "code": Out(8),
                "beats": Out(32),
                "reads": Out(COUNT_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        opcode = Signal(OPCODE_BITS)
        m.d.comb += opcode.eq(self.command[:OPCODE_BITS])
        with m.If(self.enable):
            self._check(m, opcode)
            self._count(m, opcode)
        return m

    def _check(self, m: Module, opcode: Value) -> None:
        """Cycle 1: reserved bits, comparisons. Cycle 2: those of each command. Cycle 3: those of this one. Cycle 4: a code."""
        bounds, reserved = limits(self._config), self._reserved(m)
        wrong = {}
        # Several commands compare the same bits with the same bound.
        compared: dict[tuple[int, int, str, int], Value] = {}
        for op in Opcode:
            bad: list[Value] = [found for opcodes, found in reserved.items() if op in opcodes]
            outside: list[Value] = []
            for field in FIELDS[op]:
                if field.name != "opcode" and not field.name.startswith("modifier_"):
                    (bad if field.error is ErrorCode.BAD_FIELD else outside).extend(
                        self._violations(m, field, bounds, compared)
                    )
            if op is Opcode.GEMV:
                bad.append(self._product_violations(m))
            wrong[op] = Signal(2, name=f"wrong_{op.name.lower()}")
            m.d.sync += wrong[op].eq(Cat(_any(bad), _any(outside)))
        known, bad_field, out_of_range = Signal(), Signal(), Signal()
        beyond = self.command[OPCODE_BITS:8].any()
        is_ = {op: Signal(name=f"is_{op.name.lower()}") for op in Opcode}
        m.d.sync += [
            *(found.eq((opcode == op) & ~beyond) for op, found in is_.items()),
            known.eq(_any(list(is_.values()))),
            bad_field.eq(_any([found & wrong[op][0] for op, found in is_.items()])),
            out_of_range.eq(_any([found & wrong[op][1] for op, found in is_.items()])),
            self.code.eq(
                Mux(
                    known,
                    Mux(bad_field, ErrorCode.BAD_FIELD, Mux(out_of_range, ErrorCode.OUT_OF_RANGE, ErrorCode.NONE)),
                    ErrorCode.BAD_OPCODE,
                )
            ),
        ]

    def _reserved(self, m: Module) -> dict[frozenset[Opcode], Value]:
        """For the commands that have the same reserved bits, whether one of those is set: most bits are reserved in several."""
        bits: dict[frozenset[Opcode], list[Value]] = {}
        for n, bit in enumerate(self.command):
            opcodes = frozenset(op for op in Opcode if reserved_mask(op) >> n & 1)
            bits.setdefault(opcodes, []).append(bit)
        found = {opcodes: Signal(name=f"reserved_{n}") for n, opcodes in enumerate(bits)}
        m.d.sync += [found[opcodes].eq(Cat(*those).any()) for opcodes, those in bits.items()]
        return dict(found)

    def _violations(
        self, m: Module, field: Field, bounds: dict[str, int], compared: dict[tuple[int, int, str, int], Value]
    ) -> list[Value]:
        """The comparisons of a field that can fail at all."""
        value = self.command[field.position : field.position + field.width]
        found: list[Value] = []

        def compare(how: str, bound: int, fails: Value) -> None:
            key = field.position, field.width, how, bound
            if key not in compared:
                compared[key] = Signal(name=f"compared_{len(compared)}")
                m.d.sync += compared[key].eq(fails)
            found.append(compared[key])

        maximum = bounds[field.maximum] if isinstance(field.maximum, str) else field.maximum
        if field.minimum:
            compare("below", field.minimum, value < field.minimum)
        if maximum is not None and maximum < (1 << field.width) - 1:
            compare("above", maximum, value > maximum)
        multiple = bounds[field.multiple] if isinstance(field.multiple, str) else field.multiple
        if multiple > 1:
            compare("multiple", multiple, value[: exact_log2(multiple)].any())
        return found

    def _product_violations(self, m: Module) -> Value:
        gemv = command_layout(Opcode.GEMV)(self.command)
        known = _any([gemv.format[:FORMAT_BITS] == number for number in BY_NUMBER])
        found = Signal(name="product_violation")
        m.d.sync += found.eq(~known | gemv.format[FORMAT_BITS:].any() | ((gemv.stride != 0) & (gemv.format != I8.number)))
        return found

    def _count(self, m: Module, opcode: Value) -> None:
        """Cycle 1: kinds. Cycle 2: factors. Cycle 3: blocks, or units of a stream. Cycle 4: sums of addends. Cycle 5: beats."""
        config = self._config
        gemv = command_layout(Opcode.GEMV)(self.command)
        format_ = gemv.format[:FORMAT_BITS]
        load = command_layout(Opcode.LOAD_VECTOR)(self.command)
        elementwise = command_layout(Opcode.ELEMENTWISE)(self.command)
        unit_beats = exact_log2(ADDRESS_UNIT // config.unit_bytes)
        multiplies, streams, strided = opcode == Opcode.GEMV, Signal(), Signal()
        m.d.sync += [
            streams.eq(
                (opcode == Opcode.ELEMENTWISE) & (elementwise.a_stream | (elementwise.multiplier == 1) | elementwise.n_stream)
            ),
            strided.eq(multiplies & (gemv.stride != 0)),
        ]

        groups, first, second = Signal(COUNT_BITS), Signal(COUNT_BITS), Signal(COUNT_BITS)
        m.d.comb += groups.eq((gemv.rows[:COUNT_BITS] + Const(config.lanes - 1)) >> exact_log2(config.lanes))
        m.d.sync += [
            first.eq(Mux(multiplies, Mux(strided, 1, groups), elementwise.segments)),
            second.eq(
                Mux(multiplies, gemv.blocks, (elementwise.count[:COUNT_BITS] + STREAM_UNIT - 1) >> exact_log2(STREAM_UNIT))
            ),
        ]
        # Of formats with several planes a row has as many blocks for each of the vector.
        with m.Switch(format_):
            for f in FORMATS:
                if f.planes > 1:
                    with m.Case(f.number), m.If(multiplies):
                        m.d.sync += second.eq(gemv.blocks * f.planes)
        product = Signal(32)
        m.d.sync += product.eq(first * second)

        # A quotient is rounded up by a carry. So whatever the format is there are four addends and three carries.
        quotients, carries, doubled = [], [], Signal()
        m.d.sync += doubled.eq(_any([format_ == f.number for f in FORMATS if f.nibble_beats > 1]))
        for n in range(_SIDES):
            periods = {f: f.side_beats()[n][1] for f in FORMATS if len(f.side_beats()) > n}
            shifted, rest = [], []
            for period in sorted(set(periods.values())):
                has, bits = Signal(name=f"has_{n}_{period}"), exact_log2(period)
                m.d.sync += has.eq(_any([format_ == f.number for f in periods if periods[f] == period]))
                shifted.append((product >> bits) & has.replicate(32))
                rest.append(product[:bits].any() & has)
            quotients.append(reduce(or_, shifted))
            carries.append(_any(rest))
        main = Mux(doubled, product << 1, product)
        upper, lower, carry = Signal(32), Signal(32), Signal()
        m.d.sync += [
            upper.eq(_add(quotients[0], quotients[1], carries[0])),
            lower.eq(_add(quotients[2], main, carries[1])),
            carry.eq(carries[2]),
        ]

        units = Signal(COUNT_BITS + 2)
        m.d.sync += [self.beats.eq(0), self.reads.eq(Mux(strided, groups, 1))]
        blocks = load.blocks[:COUNT_BITS]
        m.d.sync += units.eq(1 + _ceiling_divide(blocks, ADDRESS_UNIT) + blocks)
        with m.If(multiplies):
            m.d.sync += self.beats.eq(_add(upper, lower, carry))
        with m.Elif(opcode == Opcode.LOAD_VECTOR):
            m.d.sync += self.beats.eq(units << unit_beats)
        with m.Elif(streams):
            m.d.sync += self.beats.eq(product << unit_beats)


def _any(conditions: list[Value]) -> Value:
    return Cat(*conditions).any() if conditions else Const(0, 1)


def _add(a: Value, b: Value, carry: Value) -> Value:
    """The sum of two numbers of 32 bits and a carry, in one carry chain."""
    return (Cat(Const(1, 1), a) + Cat(carry, b))[1:33]


def _ceiling_divide(value: Value, divisor: int) -> Value:
    return (value + divisor - 1) >> exact_log2(divisor)
