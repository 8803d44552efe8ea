import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.firmware.assembler import assemble, disassemble, write_command
from tailrace.firmware.notation import AssemblyError
from tailrace.spec.commands import encode, float_bits
from tailrace.spec.formats import BY_NAME
from tailrace.spec.isa import COMMAND_BYTES, FIELDS, Opcode


@st.composite
def commands(draw: st.DrawFn) -> bytes:
    """A command with any values in some of its fields, whether a device would take it or not."""
    opcode = draw(st.sampled_from(Opcode))
    values = {}
    for field in FIELDS[opcode]:
        if field.name != "opcode" and draw(st.booleans()):
            half = 1 << field.width - 1
            values[field.name] = draw(st.integers(-half, half - 1) if field.signed else st.integers(0, 2 * half - 1))
    return encode(opcode, **values)


@settings(max_examples=400, deadline=None)
@given(st.lists(commands() | st.binary(min_size=COMMAND_BYTES, max_size=COMMAND_BYTES), max_size=6))
def test_any_commands_survive_the_way_to_text_and_back(program: list[bytes]) -> None:
    assert assemble(disassemble(program)) == program


@pytest.mark.parametrize("word", range(1, 15))
def test_a_modifier_of_any_word_survives(word: int) -> None:
    for opcode in (Opcode.GEMV, Opcode.ELEMENTWISE, Opcode.APPEND):
        program = [encode(opcode, modifier_word_0=word, modifier_register_0=2)]
        assert assemble(disassemble(program)) == program


def test_text() -> None:
    program = [
        encode(Opcode.SET, register=4, addend=3),
        encode(
            Opcode.GEMV, pending=2, slots=1, format=2, offset=64, source=0x40, rows=0, blocks=18, modifier_word_0=2, modifier_register_0=5,
            modifier_word_1=4, modifier_register_1=2,
        ),
        encode(
            Opcode.ELEMENTWISE, combine=1, function=2, multiplier=3, reduce=4, target=2, a=64, count=192, segments=1, p=float_bits(0.1), q=12,
            load=2, advance=2, source=2, n_stream=1,
        ),
        encode(Opcode.APPEND, cache=1, a=4, destination=4, head_stride=2, scales=1, scale_stride=1, row_stride=3),
        encode(Opcode.SET, register=2, x=3, y=20, factor=7, mode=2, limit=9),
        encode(Opcode.LOOP, register=4, target=1),
        bytes(COMMAND_BYTES),
    ]  # fmt: skip
    text = """\
# start
    set register=r4 addend=3
# body
command_1:
    gemv pending=2 slots=1 format=Q4_1 offset=64 source=0x1000+r5 rows=0+r2 blocks=18
    elementwise combine=sum function=sigmoid multiplier=a n_stream=1 reduce=absolute_maximum target=slot a=64 source=0x80 count=192 segments=1 p=0.1 q=[12]+
    append cache=values a=4 destination=0x100 head_stride=0x80 row_stride=0xc0 scales=0x40 scale_stride=0x40
    set register=r2 mode=wrap x=r3 y=r20 factor=7 limit=9
    loop register=r4 target=command_1
    raw 00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
"""
    assert disassemble(program, [(0, "start"), (1, "body")]) == text
    assert assemble(text) == program


def test_modifiers_whose_order_fields_do_not_show_are_written_out() -> None:
    command = encode(Opcode.GEMV, slots=1, modifier_word_0=4, modifier_register_0=2, modifier_word_1=2, modifier_register_1=5)
    text = write_command(command)
    assert text == "gemv slots=1 modifier_word_0=4 modifier_register_0=2 modifier_word_1=2 modifier_register_1=5"
    assert assemble(text) == [command]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\njump", "line 2: there is no command 'jump': choose from fence, load_vector, gemv, elementwise, store, rotate, append, set, read, loop, raw"),
        ("store b=1", "line 1: store has no field 'b': choose from pending, a, destination, count"),
        ("store a", "line 1: 'a' is no setting of a field: write field=value"),
        ("store a=4 a=8", "line 1: a is there twice"),
        ("store a=4x", "line 1: '4x' is no whole number"),
        ("store destination=0x41", "line 1: destination must be a multiple of 64 bytes, not 0x41"),
        ("store count=0x100000000", "line 1: count of STORE must be 0 to 4294967295, not 4294967296"),
        ("store count=1+r1+r2+r3+r4", "line 1: a command has at most 3 modifiers, not 4"),
        ("store count=1+r1 modifier_word_0=4", "line 1: write modifiers behind fields or as fields of their own, not both"),
        ("store pending=1+r1", "line 1: pending can't have a register behind it"),
        ("set register=r1+r2", "line 1: set has no modifiers"),
        ("set register=4", "line 1: '4' is no register: write r0 to r31"),
        ("gemv format=Q9", f"line 1: format is one of {', '.join(BY_NAME)}, not 'Q9'"),
        ("elementwise reduce=median", "line 1: reduce is one of none, sum, sum_of_squares, maximum, absolute_maximum, argmax, argmax_remove, not 'median'"),
        ("elementwise p=one", "line 1: p is a float32, or an entry as in [64], not 'one'"),
        ("elementwise p=1e99", "line 1: p is a float32, or an entry as in [64], not '1e99'"),
        ("raw 00", "line 1: raw needs 128 hexadecimal digits"),
        ("here:\nhere: fence", "line 2: there is a label 'here' already"),
        ("loop register=r1 target=there", "line 1: there is no label 'there'"),
    ],
)  # fmt: skip
def test_errors_name_the_line_and_what_could_be_there(text: str, message: str) -> None:
    with pytest.raises(AssemblyError, match=f"^{re.escape(message)}$"):
        assemble(text)
