"""Commands as bytes: encoding, decoding, printing, modifiers, and what a build answers to each."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.spec.commands import (
    check,
    check_queue,
    decode,
    encode,
    float_bits,
    format_command,
    limits,
    reach,
    reserved_mask,
    resolve,
)
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import COMMAND_BYTES, FIELDS, MAX_COMMANDS, MODIFIABLE, REGISTERS, Opcode

BUILD = Config("test", 256, 2, vector_blocks=64, buffer_entries=1024, address_width=36)
#: One more than the last unit of 64 bytes that the build reaches.
FAR = 1 << 30
OUT, FIELD, ALIGN, OK = ErrorCode.OUT_OF_RANGE, ErrorCode.BAD_FIELD, ErrorCode.MISALIGNED, ErrorCode.NONE

VALID: dict[Opcode, dict[str, int]] = {
    Opcode.FENCE: {},
    Opcode.LOAD_VECTOR: {"slot": 1, "set": 3, "source": 1, "blocks": 64},
    Opcode.GEMV: {"format": 8, "slots": 2, "source": FAR - 1, "rows": 1024, "blocks": 64, "exponent": -128},
    Opcode.ELEMENTWISE: {"count": 1024, "segments": 4095, "a": 1020, "r": 1023},
    Opcode.STORE: {"a": 24, "destination": FAR - 1, "count": 1000},
    Opcode.ROTATE: {"a": 4, "d": 4, "count": 32, "segments": 9},
    Opcode.APPEND: {"cache": 1, "count": 576, "segments": 3, "b": 1},
    Opcode.SET: {"register": 31, "mode": 2},
    Opcode.READ: {"register": 1, "a": 1023},
    Opcode.LOOP: {"register": 2, "target": 65535},
}


def commands() -> st.SearchStrategy[tuple[Opcode, dict[str, int]]]:
    def values(opcode: Opcode) -> st.SearchStrategy[tuple[Opcode, dict[str, int]]]:
        fields = {
            f.name: st.integers(-(1 << f.width - 1), (1 << f.width - 1) - 1) if f.signed else st.integers(0, (1 << f.width) - 1)
            for f in FIELDS[opcode]
            if f.name != "opcode"
        }
        return st.tuples(st.just(opcode), st.fixed_dictionaries(fields))

    return st.sampled_from(list(Opcode)).flatmap(values)


def words(command: bytes) -> list[int]:
    return [int.from_bytes(command[i : i + 4], "little") for i in range(0, COMMAND_BYTES, 4)]


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
        pending=5,
        slots=4,
        set=3,
        format=2,
        offset=0x0104,
        slot_stride=0x0208,
        source=0x1122_3344,
        stride=7,
        rows=0xABCD,
        blocks=0x123,
        first_block=0x45,
        exponent=-2,
        modifier_word_0=2,
        modifier_register_0=17,
        modifier_word_2=4,
        modifier_register_2=31,
    )
    modifiers = 2 | 17 << 4 | 4 << 18 | 31 << 22
    assert words(command) == [0x0206_4503, 0x0208_0104, 0x1122_3344, 7, 0xABCD, 0x123, 0x00FE_0045, *[0] * 8, modifiers]
    assert words(encode(Opcode.LOOP, register=3, target=9)) == [0x030A, 9, *[0] * 14]


def test_text() -> None:
    assert format_command(encode(Opcode.FENCE)) == "FENCE"
    assert format_command(encode(Opcode.STORE, count=3, destination=2)) == "STORE destination=0x80 count=3"
    assert format_command(encode(Opcode.GEMV, exponent=-3)) == "GEMV exponent=-3"
    text = format_command(
        encode(Opcode.ELEMENTWISE, p=float_bits(-1.5), q=0x104, load=2, modifier_word_1=9, modifier_register_1=4)
    )
    assert text == "ELEMENTWISE p=-1.5 q=[260] load=2 word9+=r4"
    assert format_command(b"\x63" + bytes(63)) == "invalid command 0x00000063"


@pytest.mark.parametrize(
    ("opcode", "fields", "text"),
    [
        (Opcode.LOOP, {"rows": 1}, "LOOP has no field 'rows': choose from register, target"),
        (Opcode.LOAD_VECTOR, {"slot": 16}, "slot of LOAD_VECTOR must be 0 to 15, not 16"),
        (Opcode.GEMV, {"exponent": 128}, "exponent of GEMV must be -128 to 127, not 128"),
        (Opcode.STORE, {"a": -1}, "a of STORE must be 0 to 65535, not -1"),
    ],
)
def test_encode_refuses(opcode: Opcode, fields: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        encode(opcode, **fields)


def test_decode_refuses_other_lengths() -> None:
    with pytest.raises(ValueError, match="^a command has 64 bytes, not 63$"):
        decode(bytes(63))


@given(commands(), st.lists(st.integers(0, (1 << 32) - 1), min_size=REGISTERS, max_size=REGISTERS))
def test_modifiers(command: tuple[Opcode, dict[str, int]], registers: list[int]) -> None:
    """Registers are added to whole words, one after the other, and the modifiers are taken off."""
    opcode, fields = command
    encoded = encode(opcode, **fields)
    expected = words(encoded)
    if opcode in MODIFIABLE:
        for i in range(3):
            word = fields[f"modifier_word_{i}"]
            if 1 <= word <= 14:
                expected[word] = (expected[word] + registers[fields[f"modifier_register_{i}"]]) % (1 << 32)
        expected[15] = 0
    assert words(resolve(encoded, registers)) == expected


def test_a_modifier_may_reach_the_next_field_of_its_word() -> None:
    """The offset counts up through both halves of word 1, as the sum of one word does."""
    command = encode(Opcode.GEMV, offset=0xFFFC, modifier_word_0=1, modifier_register_0=5)
    registers = [0] * REGISTERS
    registers[5] = 8
    decoded = decode(resolve(command, registers))
    assert decoded is not None
    assert (decoded[1]["offset"], decoded[1]["slot_stride"]) == (4, 1)


def test_reserved_bits_stay_where_modifiers_were() -> None:
    command = bytearray(encode(Opcode.FENCE))
    command[63] = 0x80
    assert check(resolve(bytes(command), [0] * REGISTERS), BUILD) == FIELD


@pytest.mark.parametrize("opcode", Opcode)
def test_valid_commands(opcode: Opcode) -> None:
    assert check(encode(opcode, **VALID[opcode]), BUILD) == OK


@pytest.mark.parametrize("opcode", Opcode)
def test_every_reserved_bit(opcode: Opcode) -> None:
    word = int.from_bytes(encode(opcode, **VALID[opcode]), "little")
    for bit in range(512):
        if reserved_mask(opcode) >> bit & 1:
            assert check((word | 1 << bit).to_bytes(64, "little"), BUILD) == FIELD, bit


def test_every_opcode() -> None:
    for opcode in range(256):
        code = check(bytes([opcode]) + bytes(63), BUILD)
        assert (code != ErrorCode.BAD_OPCODE) == (opcode in set(Opcode)), opcode


@pytest.mark.parametrize(
    ("opcode", "change", "code"),
    [
        (Opcode.LOAD_VECTOR, {"slot": 2}, FIELD),
        (Opcode.LOAD_VECTOR, {"blocks": 0}, OUT),
        (Opcode.LOAD_VECTOR, {"blocks": 65}, OUT),
        (Opcode.LOAD_VECTOR, {"source": FAR}, OUT),
        (Opcode.LOAD_VECTOR, {"first_block": 63}, OK),
        (Opcode.LOAD_VECTOR, {"first_block": 64}, OUT),
        (Opcode.GEMV, {"format": 200}, FIELD),
        (Opcode.GEMV, {"format": 14}, FIELD),
        (Opcode.GEMV, {"format": 15}, OK),
        (Opcode.GEMV, {"format": 255}, FIELD),
        (Opcode.GEMV, {"format": 15, "stride": 1}, OK),
        (Opcode.GEMV, {"format": 0, "stride": 1}, FIELD),
        (Opcode.GEMV, {"slots": 0}, FIELD),
        (Opcode.GEMV, {"slots": 3}, FIELD),
        (Opcode.GEMV, {"rows": 0}, OUT),
        (Opcode.GEMV, {"rows": 1025}, OUT),
        (Opcode.GEMV, {"blocks": 0}, OUT),
        (Opcode.GEMV, {"blocks": 65}, OUT),
        (Opcode.GEMV, {"source": FAR}, OUT),
        (Opcode.GEMV, {"offset": 2}, OUT),
        (Opcode.GEMV, {"offset": 1020}, OK),
        (Opcode.GEMV, {"offset": 1024}, OUT),
        (Opcode.GEMV, {"slot_stride": 2}, FIELD),
        (Opcode.GEMV, {"slot_stride": 0xFFFC}, OK),
        (Opcode.ELEMENTWISE, {"count": 0}, OUT),
        (Opcode.ELEMENTWISE, {"count": 1025}, OUT),
        (Opcode.ELEMENTWISE, {"segments": 0}, OUT),
        (Opcode.ELEMENTWISE, {"function": 6}, FIELD),
        (Opcode.ELEMENTWISE, {"reduce": 7}, FIELD),
        (Opcode.ELEMENTWISE, {"target": 3}, FIELD),
        (Opcode.ELEMENTWISE, {"slot": 2}, FIELD),
        (Opcode.ELEMENTWISE, {"a": 1}, OUT),
        (Opcode.ELEMENTWISE, {"b": 1024}, OUT),
        (Opcode.ELEMENTWISE, {"r": 1024}, OUT),
        (Opcode.ELEMENTWISE, {"d_stride": 3}, FIELD),
        (Opcode.STORE, {"count": 0}, OUT),
        (Opcode.STORE, {"count": 1025}, OUT),
        (Opcode.STORE, {"count": 0xFFFF_FFFF}, OUT),
        (Opcode.STORE, {"destination": FAR}, OUT),
        (Opcode.ROTATE, {"count": 2}, OUT),
        (Opcode.ROTATE, {"count": 1028}, OUT),
        (Opcode.ROTATE, {"table": 1024}, OUT),
        (Opcode.APPEND, {"count": 577}, OUT),
        (Opcode.APPEND, {"scales": FAR}, OUT),
        (Opcode.SET, {"mode": 3}, FIELD),
        (Opcode.READ, {"a": 1024}, OUT),
        # The first one that applies.
        (Opcode.LOAD_VECTOR, {"slot": 2, "blocks": 0}, FIELD),
    ],
)
def test_check(opcode: Opcode, change: dict[str, int], code: ErrorCode) -> None:
    assert check(encode(opcode, **(VALID[opcode] | change)), BUILD) == code


def test_addresses_of_builds_with_more_bits_than_a_field() -> None:
    assert limits(Config("far", 128, address_width=64))["address"] == (1 << 32) - 1


@given(commands(), st.sampled_from(list(CONFIGS.values())))
def test_check_of_any_command_is_an_answer(command: tuple[Opcode, dict[str, int]], build: Config) -> None:
    assert check(encode(command[0], **command[1]), build) in (OK, FIELD, OUT)


@pytest.mark.parametrize(
    ("address", "length", "code"),
    [
        (0, 0, OK),
        (64, MAX_COMMANDS, OK),
        ((FAR - 1) * 64, 1, OK),
        (0, MAX_COMMANDS + 1, OUT),
        (FAR * 64, 1, OUT),
        (1 << 63, 0, OUT),
        (32, 1, ALIGN),
        (32, 0, ALIGN),
        (FAR * 64 + 32, 1, OUT),
    ],
)
def test_check_queue(address: int, length: int, code: ErrorCode) -> None:
    assert check_queue(address, length, BUILD) == code


END = FAR * 64


@pytest.mark.parametrize(
    ("base", "limit", "code", "bytes_"),
    [
        (0, 0, OK, END),
        (4096, 0, OK, END - 4096),
        (END - 4096, 0, OK, 4096),
        (1 << 33, 1 << 20, OK, 1 << 20),
        (0, END, OK, END),
        (END - 4096, 4096, OK, 4096),
        (END - 4096, 8192, OUT, 0),
        (4096, END, OUT, 0),
        (0, END + 4096, OUT, 0),
        (0, 1 << 63, OUT, 0),
        (END, 0, OUT, 0),
        (1 << 63, 0, OUT, 0),
        (64, 0, ALIGN, 0),
        (0, 64, ALIGN, 0),
        (END - 4096, 4095, ALIGN, 0),
        (END + 64, 0, OUT, 0),
    ],
)
def test_memory_of_a_run(base: int, limit: int, code: ErrorCode, bytes_: int) -> None:
    assert check_queue(0, 1, BUILD, base, limit) == code
    if code is OK:
        assert reach(base, limit, BUILD) == bytes_
