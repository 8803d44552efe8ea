"""What stays the same for all words of an `ELEMENTWISE` or `ROTATE` command."""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data

from tailrace.spec.commands import float_bits
from tailrace.spec.floats import Function
from tailrace.spec.isa import Combine, Multiplier, Opcode, Reduce, Target

from ..control.layout import OPCODE_BITS, command_layout
from .activation_buffer import FLOAT_BITS

#: The scalars, in the order of the bits that load them.
SCALARS = ("p", "q", "m", "n")
#: One more way to combine operands, which `ROTATE` uses.
ROTATE_PAIRS = max(Combine) + 1

#: Fields are those of `ELEMENTWISE`; `streamed` says that there is a streamed operand.
settings_layout = data.StructLayout(
    {
        "combine": range(ROTATE_PAIRS + 1),
        "a_stream": 1,
        "function": Function,
        "multiplier": Multiplier,
        "n_stream": 1,
        "streamed": 1,
        "reduce": Reduce,
        "reduce_u": 1,
        "target": Target,
        "load": 4,
    }
)
#: p, q, m and n.
scalars_layout = data.ArrayLayout(FLOAT_BITS, 4)


def settings_of(m: Module, command: Value) -> Any:
    """Combinational: the settings of a command, a view of `settings_layout`.

    `ROTATE` passes what it combines through the rest of the pipeline: times 1, plus 0, to the buffer.
    """
    settings = Signal(settings_layout)
    fields = command_layout(Opcode.ELEMENTWISE)(command)
    with m.If(command[:OPCODE_BITS] == Opcode.ROTATE):
        m.d.comb += [
            settings.combine.eq(ROTATE_PAIRS),
            settings.target.eq(Target.BUFFER),
        ]
    with m.Else():
        m.d.comb += [
            settings.combine.eq(fields.combine),
            settings.a_stream.eq(fields.a_stream),
            settings.function.eq(fields.function),
            settings.multiplier.eq(fields.multiplier),
            settings.n_stream.eq(fields.n_stream),
            settings.streamed.eq(fields.a_stream | fields.n_stream | (fields.multiplier == Multiplier.STREAM)),
            settings.reduce.eq(fields.reduce),
            settings.reduce_u.eq(fields.reduce_u),
            settings.target.eq(fields.target),
            settings.load.eq(fields.load),
        ]
    return settings


def scalars_of(m: Module, command: Value) -> Any:
    """Combinational: the scalars of a command as they stand there, a view of `scalars_layout`."""
    scalars = Signal(scalars_layout)
    fields = command_layout(Opcode.ELEMENTWISE)(command)
    m.d.comb += [scalars[n].eq(fields[name]) for n, name in enumerate(SCALARS)]
    with m.If(command[:OPCODE_BITS] == Opcode.ROTATE):
        m.d.comb += scalars[SCALARS.index("m")].eq(float_bits(1.0))
    return scalars
