"""Commands: encoding, decoding, printing, and what a build answers to each."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import (
    COMMAND_BYTES,
    DOCS,
    FIELDS,
    ISA_VERSION,
    MAX_COMMANDS,
    MAX_ROWS,
    MAX_STREAM_BLOCKS,
    Field,
    Opcode,
    check,
    check_queue,
    decode,
    encode,
    format_command,
    reserved_mask,
)

#: 1024 result entries, 2 slots, 64 blocks.
BUILD = Config("test", 256, 2, vector_blocks=64, result_entries=1024, address_width=40)
FAR = 1 << 40

VALID = {
    Opcode.FENCE: {},
    Opcode.LOAD_VECTOR: {"slot": 1, "source": 64, "blocks": 64},
    Opcode.GEMV: {"format": 3, "slots": 2, "source": 128, "destination": 192, "rows": MAX_ROWS, "blocks": 64},
    Opcode.QUANTISE: {"slot": 1, "offset": 0, "blocks": 8, "stride": 4},
    Opcode.STORE: {"offset": 24, "destination": FAR - 64, "rows": 1000},
}


def commands() -> st.SearchStrategy[tuple[Opcode, dict[str, int]]]:
    def values(opcode: Opcode) -> st.SearchStrategy[tuple[Opcode, dict[str, int]]]:
        fields = {f.name: st.integers(0, (1 << f.width) - 1) for f in FIELDS[opcode] if f.name != "opcode"}
        return st.tuples(st.just(opcode), st.fixed_dictionaries(fields))

    return st.sampled_from(list(Opcode)).flatmap(values)


def test_version() -> None:
    assert ISA_VERSION == 0x0001_0000


@pytest.mark.parametrize("opcode", Opcode)
def test_fields_do_not_overlap(opcode: Opcode) -> None:
    taken = 0
    for field in FIELDS[opcode]:
        bits = ((1 << field.width) - 1) << field.position
        assert not taken & bits, field.name
        assert field.doc
        taken |= bits
    assert taken | reserved_mask(opcode) == (1 << 512) - 1
    assert not taken & reserved_mask(opcode)
    assert DOCS[opcode]


def test_the_same_name_lies_at_the_same_place() -> None:
    places: dict[str, Field] = {}
    for fields in FIELDS.values():
        for field in fields:
            assert places.setdefault(field.name, field).position == field.position
            assert places[field.name].width == field.width


def test_cleared_memory_is_no_program() -> None:
    assert decode(bytes(64)) is None
    assert check(bytes(64), BUILD) == ErrorCode.BAD_OPCODE
    assert format_command(bytes(64)) == "invalid command 0x00000000"


@given(commands())
def test_round_trip(command: tuple[Opcode, dict[str, int]]) -> None:
    opcode, fields = command
    encoded = encode(opcode, **fields)
    assert len(encoded) == COMMAND_BYTES
    assert decode(encoded) == (opcode, fields)
    assert not int.from_bytes(encoded, "little") & reserved_mask(opcode)


def test_encoding_is_what_the_documents_say() -> None:
    command = encode(
        Opcode.GEMV,
        keep=1,
        format=2,
        slots=4,
        offset=0x0102_0304,
        source=0x1122_3344_5566_7780,
        destination=0x40,
        rows=0xABCDE,
        blocks=0x123,
    )
    words = [int.from_bytes(command[i : i + 4], "little") for i in range(0, 64, 4)]
    assert words == [0x0402_0103, 0x0102_0304, 0x5566_7780, 0x1122_3344, 0x40, 0, 0xABCDE, 0x123, *[0] * 8]
    words = [int.from_bytes(encode(Opcode.QUANTISE, slot=1, stride=3)[i : i + 4], "little") for i in range(0, 64, 4)]
    assert words == [0x0100_0004, *[0] * 7, 3, *[0] * 7]


def test_text() -> None:
    assert format_command(encode(Opcode.FENCE)) == "FENCE"
    assert format_command(encode(Opcode.STORE, rows=3, destination=0x40)) == "STORE offset=0 destination=0x40 rows=3"
    assert format_command(b"\x63" + bytes(63)) == "invalid command 0x00000063"


@pytest.mark.parametrize(
    ("opcode", "fields", "text"),
    [
        (Opcode.FENCE, {"rows": 1}, "FENCE has no field 'rows': choose from "),
        (Opcode.LOAD_VECTOR, {"rows": 1}, "LOAD_VECTOR has no field 'rows': choose from slot, source, blocks"),
        (Opcode.LOAD_VECTOR, {"slot": 256}, "slot of LOAD_VECTOR must be 0 to 255, not 256"),
        (Opcode.GEMV, {"keep": 2}, "keep of GEMV must be 0 to 1, not 2"),
        (Opcode.STORE, {"offset": -1}, "offset of STORE must be 0 to 4294967295, not -1"),
    ],
)
def test_encode_refuses(opcode: Opcode, fields: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        encode(opcode, **fields)


def test_decode_refuses_other_lengths() -> None:
    with pytest.raises(ValueError, match="^a command has 64 bytes, not 63$"):
        decode(bytes(63))


@pytest.mark.parametrize("opcode", Opcode)
def test_valid_commands(opcode: Opcode) -> None:
    assert check(encode(opcode, **VALID[opcode]), BUILD) == ErrorCode.NONE


@pytest.mark.parametrize("opcode", Opcode)
def test_every_reserved_bit(opcode: Opcode) -> None:
    word = int.from_bytes(encode(opcode, **VALID[opcode]), "little")
    for bit in range(512):
        if reserved_mask(opcode) >> bit & 1:
            assert check((word | 1 << bit).to_bytes(64, "little"), BUILD) == ErrorCode.BAD_FIELD, bit


def test_every_opcode() -> None:
    for opcode in range(256):
        code = check(bytes([opcode]) + bytes(63), BUILD)
        assert (code != ErrorCode.BAD_OPCODE) == (opcode in set(Opcode)), opcode


OUT, FIELD, ALIGN, OK = ErrorCode.OUT_OF_RANGE, ErrorCode.BAD_FIELD, ErrorCode.MISALIGNED, ErrorCode.NONE


@pytest.mark.parametrize(
    ("opcode", "change", "code"),
    [
        (Opcode.LOAD_VECTOR, {"slot": 2}, FIELD),
        (Opcode.LOAD_VECTOR, {"slot": 255}, FIELD),
        (Opcode.LOAD_VECTOR, {"blocks": 0}, OUT),
        (Opcode.LOAD_VECTOR, {"blocks": 65}, OUT),
        (Opcode.LOAD_VECTOR, {"source": FAR}, OUT),
        (Opcode.LOAD_VECTOR, {"source": 1 << 63}, OUT),
        (Opcode.LOAD_VECTOR, {"source": FAR - 64}, OK),
        (Opcode.LOAD_VECTOR, {"source": 65}, ALIGN),
        (Opcode.LOAD_VECTOR, {"source": 96}, ALIGN),
        (Opcode.GEMV, {"format": 4}, FIELD),
        (Opcode.GEMV, {"slots": 0}, FIELD),
        (Opcode.GEMV, {"slots": 3}, FIELD),
        (Opcode.GEMV, {"rows": 0}, OUT),
        (Opcode.GEMV, {"rows": MAX_ROWS + 1}, OUT),
        (Opcode.GEMV, {"blocks": 0}, OUT),
        (Opcode.GEMV, {"blocks": 65}, OUT),
        (Opcode.GEMV, {"source": FAR}, OUT),
        (Opcode.GEMV, {"destination": FAR}, OUT),
        (Opcode.GEMV, {"source": 32}, ALIGN),
        (Opcode.GEMV, {"destination": 4}, ALIGN),
        # The unused one of destination and offset is checked like any other, except for the result buffer's range.
        (Opcode.GEMV, {"keep": 1, "rows": 512, "destination": 4}, ALIGN),
        (Opcode.GEMV, {"keep": 1, "rows": 512, "destination": FAR}, OUT),
        (Opcode.GEMV, {"keep": 1, "rows": 512, "offset": 0}, OK),
        (Opcode.GEMV, {"keep": 1, "rows": 512, "offset": 1}, OUT),
        (Opcode.GEMV, {"keep": 1, "rows": 513}, OUT),
        (Opcode.GEMV, {"keep": 1, "rows": 513, "slots": 1}, OK),
        (Opcode.GEMV, {"keep": 1, "rows": 1, "offset": 0xFFFF_FFFF}, OUT),
        (Opcode.GEMV, {"keep": 0, "offset": 0xFFFF_FFFF}, OK),
        (Opcode.QUANTISE, {"slot": 2}, FIELD),
        (Opcode.QUANTISE, {"blocks": 0}, OUT),
        (Opcode.QUANTISE, {"blocks": 9}, OUT),
        (Opcode.QUANTISE, {"blocks": 65, "stride": 1}, OUT),
        (Opcode.QUANTISE, {"stride": 0}, OUT),
        (Opcode.QUANTISE, {"stride": 5, "blocks": 1}, OUT),
        (Opcode.QUANTISE, {"offset": 1}, OUT),
        (Opcode.QUANTISE, {"offset": 0xFFFF_FFFF, "blocks": 1, "stride": 1}, OUT),
        (Opcode.QUANTISE, {"offset": 992, "blocks": 1, "stride": 1}, OK),
        (Opcode.STORE, {"rows": 0}, OUT),
        (Opcode.STORE, {"rows": 1001}, OUT),
        (Opcode.STORE, {"offset": 25}, OUT),
        (Opcode.STORE, {"rows": 0xFFFF_FFFF}, OUT),
        (Opcode.STORE, {"destination": 63}, ALIGN),
        (Opcode.STORE, {"destination": FAR}, OUT),
        # The first one that applies.
        (Opcode.LOAD_VECTOR, {"slot": 2, "blocks": 0, "source": 1}, FIELD),
        (Opcode.LOAD_VECTOR, {"blocks": 0, "source": 1}, OUT),
    ],
)
def test_check(opcode: Opcode, change: dict[str, int], code: ErrorCode) -> None:
    assert check(encode(opcode, **(VALID[opcode] | change)), BUILD) == code


def test_check_of_the_longest_streams() -> None:
    build = Config("long", 128, vector_blocks=4096)
    fields = {"format": 0, "slots": 1, "blocks": 4096}
    assert check(encode(Opcode.GEMV, **fields, rows=MAX_STREAM_BLOCKS // 4096), build) == OK
    assert check(encode(Opcode.GEMV, **fields, rows=MAX_STREAM_BLOCKS // 4096 + 1), build) == OUT


@given(commands(), st.sampled_from(list(CONFIGS.values())))
def test_check_of_any_command_is_an_answer(command: tuple[Opcode, dict[str, int]], build: Config) -> None:
    assert check(encode(command[0], **command[1]), build) in (OK, FIELD, OUT, ALIGN)


@pytest.mark.parametrize(
    ("address", "length", "code"),
    [
        (0, 0, OK),
        (64, MAX_COMMANDS, OK),
        (FAR - 64, 1, OK),
        (0, MAX_COMMANDS + 1, OUT),
        (FAR, 1, OUT),
        (1 << 63, 0, OUT),
        (32, 1, ALIGN),
        (32, 0, ALIGN),
        (FAR + 32, 1, OUT),
    ],
)
def test_check_queue(address: int, length: int, code: ErrorCode) -> None:
    assert check_queue(address, length, BUILD) == code
