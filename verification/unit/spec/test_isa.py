"""The instruction set as a table: fields that lie beside each other, and limits that a field can hold."""

import pytest

from tailrace.spec import isa
from tailrace.spec.commands import limits
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import (
    COMMAND_WORDS,
    DOCS,
    FIELDS,
    ISA_VERSION,
    MODIFIABLE,
    MODIFIERS,
    VECTOR_OPCODES,
    Field,
    Opcode,
)

ALL_FIELDS = [pytest.param(opcode, field, id=f"{opcode.name}.{field.name}") for opcode in Opcode for field in FIELDS[opcode]]


def test_version() -> None:
    assert ISA_VERSION == 0x0003_0003


@pytest.mark.parametrize("opcode", Opcode)
def test_fields_do_not_overlap(opcode: Opcode) -> None:
    taken = 0
    for field in FIELDS[opcode]:
        bits = ((1 << field.width) - 1) << field.position
        assert not taken & bits, field.name
        taken |= bits
    assert taken < 1 << 512
    assert len({f.name for f in FIELDS[opcode]}) == len(FIELDS[opcode])
    assert DOCS[opcode]


@pytest.mark.parametrize(("opcode", "field"), ALL_FIELDS)
def test_a_field_holds_its_limits(opcode: Opcode, field: Field) -> None:
    """In a word of its own, documented, and with limits that it can say for every build."""
    assert field.doc
    assert field.low + field.width <= 32
    assert 0 <= field.word < COMMAND_WORDS
    # Registers are added to whole words, and only these can be negative.
    assert not field.signed or field.width < 32
    for config in CONFIGS.values():
        maximum = limits(config)[field.maximum] if isinstance(field.maximum, str) else field.maximum
        assert maximum is None or field.minimum <= maximum < 1 << field.width
    assert field.error in (ErrorCode.BAD_FIELD, ErrorCode.OUT_OF_RANGE)


@pytest.mark.parametrize("opcode", Opcode)
def test_the_opcode_comes_first(opcode: Opcode) -> None:
    field = FIELDS[opcode][0]
    assert (field.name, field.position, field.width) == ("opcode", 0, 8)


@pytest.mark.parametrize("opcode", Opcode)
def test_the_same_thing_lies_at_the_same_place(opcode: Opcode) -> None:
    """What the sequencer reads before it knows the command, and what every memory command shares."""
    fields = {f.name: f.position for f in FIELDS[opcode]}
    places = {"pending": 8, "source": 64, "destination": 64, "count": 128, "blocks": 160, "segments": 160}
    assert all(fields[name] == place for name, place in places.items() if name in fields)
    assert ("pending" in fields) == (opcode not in (Opcode.SET, Opcode.LOOP))


def test_modifiers() -> None:
    assert MODIFIERS == 3
    for opcode in Opcode:
        names = {f.name for f in FIELDS[opcode]}
        assert ({f"modifier_word_{i}" for i in range(MODIFIERS)} <= names) == (opcode in MODIFIABLE)
        # Only the control commands do not have them, and READ, which names a register already.
        assert (opcode in MODIFIABLE) == (opcode not in (Opcode.SET, Opcode.LOOP, Opcode.READ))


def test_every_command_has_a_unit() -> None:
    assert {*VECTOR_OPCODES, Opcode.GEMV, Opcode.SET, Opcode.LOOP, Opcode.FENCE} == set(Opcode)


@pytest.mark.parametrize(
    ("enumeration", "command", "name"),
    [
        (isa.Combine, Opcode.ELEMENTWISE, "combine"),
        (isa.Reduce, Opcode.ELEMENTWISE, "reduce"),
        (isa.Target, Opcode.ELEMENTWISE, "target"),
        (isa.Multiplier, Opcode.ELEMENTWISE, "multiplier"),
        (isa.Cache, Opcode.APPEND, "cache"),
        (isa.SetMode, Opcode.SET, "mode"),
    ],
)
def test_every_choice_fits_its_field(enumeration: type[isa.Combine], command: Opcode, name: str) -> None:
    (field,) = (f for f in FIELDS[command] if f.name == name)
    assert [int(choice) for choice in enumeration] == list(range(len(enumeration)))
    largest = (1 << field.width) - 1 if field.maximum is None else field.maximum
    assert max(enumeration) == largest
