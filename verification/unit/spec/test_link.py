"""Frames of the serial link: their bytes, their packing, and what damage does to them."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.spec.link import (
    END,
    ESCAPE,
    ESCAPED_END,
    ESCAPED_ESCAPE,
    MAX_FRAME,
    MAX_PAYLOAD,
    Kind,
    Request,
    Response,
    Status,
    decode,
    encode,
    unpack_request,
    unpack_response,
)

bytes_of_the_line = st.lists(st.sampled_from([END, ESCAPE, ESCAPED_END, ESCAPED_ESCAPE, 0, 65]), max_size=40).map(bytes)
payloads = st.one_of(bytes_of_the_line, st.binary(max_size=MAX_PAYLOAD))
byte, half_word = st.integers(0, 0xFF), st.integers(0, 0xFFFF)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    payload = draw(payloads)
    length = len(payload) or draw(half_word)
    return Request(draw(byte), draw(byte), draw(half_word), draw(st.integers(0, 0xFFFF_FFFF)), length, payload)


responses = st.builds(Response, byte, byte, half_word, byte, byte, payloads)


def test_bytes_of_a_request() -> None:
    request = Request(Kind.WRITE_MEMORY, 7, 0x1234, 0x8000_0010, 4, b"\xc0\xdb\x00\xff")
    body = bytes.fromhex("04 07 34 12  10 00 00 80  04 00 00 00  c0 db 00 ff")
    assert request.pack() == body + crc32(body).to_bytes(4, "little")
    assert encode(body) == bytes.fromhex("c0  04 07 34 12  10 00 00 80  04 00 00 00  db dc db dd 00 ff  c0")


def test_bytes_of_a_response() -> None:
    response = Response(Kind.READ_REGISTER | 0x80, 255, 0xC0DB, Status.OK, 3, b"\x01\x02\x03\x04")
    body = bytes.fromhex("85 ff db c0  00 03 04 00  01 02 03 04")
    assert response.pack() == body + crc32(body).to_bytes(4, "little")


def test_bytes_of_a_request_for_registers() -> None:
    body = bytes.fromhex("07 01 34 12  80 00 00 00  e8 00 00 00")
    assert Request(Kind.READ_REGISTERS, 1, 0x1234, 0x80, 232).pack() == body + crc32(body).to_bytes(4, "little")


def test_the_longest_frame() -> None:
    assert len(Request(Kind.WRITE_MEMORY, 0, 1, 0, MAX_PAYLOAD, bytes(MAX_PAYLOAD)).pack()) == MAX_FRAME


@given(requests())
def test_requests_round(request: Request) -> None:
    assert unpack_request(request.pack()) == request


@given(responses)
def test_responses_round(response: Response) -> None:
    assert unpack_response(response.pack()) == response


@given(payloads)
def test_packing_rounds(frame: bytes) -> None:
    packed = encode(frame)
    assert packed[0] == packed[-1] == END
    assert END not in packed[1:-1]
    assert decode(packed[1:-1]) == frame


@given(bytes_of_the_line.map(lambda data: data.replace(bytes([END]), b"")))
def test_what_is_taken_was_packed_so(stuffed: bytes) -> None:
    frame = decode(stuffed)
    if frame is not None:
        assert encode(frame)[1:-1] == stuffed


@pytest.mark.parametrize("stuffed", ["db", "41 db", "db 41", "db db", "db db dc", "db c0"])
def test_escapes_that_are_none(stuffed: str) -> None:
    assert decode(bytes.fromhex(stuffed)) is None


def test_nothing_is_an_empty_frame() -> None:
    assert decode(b"") == b""
    assert unpack_request(b"") is unpack_response(b"") is None


@given(st.one_of(requests(), responses), st.data())
def test_damage_is_noticed(sent: Request | Response, data: st.DataObject) -> None:
    """Up to 32 bits in a row, whatever becomes of them: a CRC-32 notices every such burst."""
    frame = sent.pack()
    start = data.draw(st.integers(0, 8 * len(frame) - 32))
    burst = data.draw(st.integers(1, 0xFFFF_FFFF))
    damaged = (int.from_bytes(frame, "little") ^ burst << start).to_bytes(len(frame), "little")
    assert unpack_request(damaged) is None
    assert unpack_response(damaged) is None


@given(requests(), st.data())
def test_lost_and_doubled_bytes_are_noticed(request: Request, data: st.DataObject) -> None:
    frame = request.pack()
    place = data.draw(st.integers(0, len(frame) - 1))
    assert unpack_request(frame[:place] + frame[place + 1 :]) is None
    assert unpack_request(frame[: place + 1] + frame[place:]) is None


def test_a_payload_of_another_length() -> None:
    for length in (0, 3, 5):
        assert unpack_request(Request(Kind.WRITE_MEMORY, 0, 1, 0, length, b"four").pack()) is None
    long = bytes(MAX_PAYLOAD + 1)
    assert unpack_request(Request(Kind.WRITE_MEMORY, 0, 1, 0, len(long), long).pack()) is None


def test_a_header_that_does_not_end_with_zero() -> None:
    body = bytearray(Request(Kind.STATUS, 0, 1).pack()[:-4])
    body[10] = 1
    assert unpack_request(bytes(body) + crc32(body).to_bytes(4, "little")) is None


def test_a_response_of_another_length() -> None:
    body = bytearray(Response(Kind.STATUS | 0x80, 0, 1, Status.OK, 0, b"four").pack()[:-4])
    body[6] = 5
    assert unpack_response(bytes(body) + crc32(body).to_bytes(4, "little")) is None
