"""The serial link: frames by which a host reaches the registers and the memory of a board.

A frame is a header, a payload and a CRC-32 (IEEE 802.3, little endian) of both, packed as SLIP does it (RFC 1055): `END`
stands at its beginning and at its end, and where `END` or `ESCAPE` occur inside, two bytes stand for them. The `END` at the
beginning ends whatever was cut off before it; an empty frame means nothing.

The host sends a request and waits for its response before it sends the next one; a board need not listen before it has
answered. A board answers nothing to a frame that is damaged, and the host sends it again, as it was. Each request has the
number that follows the last one's, so a board knows a request that it has already answered, by its number and kind. It
answers such a one as before: it does not carry out `Kind.READ_REGISTER` and `Kind.WRITE_REGISTER` twice, nor again what it
has refused or what failed; it may access memory again, and read again for `Kind.READ_REGISTERS`. A number is used up by every
answer but `Status.NO_SESSION`, `Status.OUT_OF_SEQUENCE`, and a refused `Kind.OPEN`. A board forgets its session when it is
reset, and then refuses everything but `Kind.OPEN`: a host never takes memory for kept that was lost.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

#: Version of the link that this module describes.
VERSION = 2
#: Most bytes of a payload.
MAX_PAYLOAD = 1024
#: Memory is read and written in words of this many bytes, at multiples of it.
WORD_BYTES = 4
#: Bit of `kind` that tells a response from a request.
RESPONSE = 0x80

#: kind, sequence, session; address; length; zero.
REQUEST = struct.Struct("<BBHIHH")
#: kind, sequence, session; status, flags, length.
RESPONSE_HEADER = struct.Struct("<BBHBBH")
_CRC = struct.Struct("<I")
#: Payload of the response to `Kind.OPEN`: `VERSION`; most bytes of a payload; clock of the board in Hz; memory in bytes.
IDENTITY = struct.Struct("<HHII")

#: Most bytes of a frame before it is encoded.
MAX_FRAME = max(REQUEST.size, RESPONSE_HEADER.size) + MAX_PAYLOAD + _CRC.size
#: Ends a frame; begins what stands for one of the two; the second byte of what stands for each.
END, ESCAPE, ESCAPED_END, ESCAPED_ESCAPE = 0xC0, 0xDB, 0xDC, 0xDD


class Kind(IntEnum):
    """What a request asks for."""

    #: Begin the session that the header names, never 0; the sequence starts with this request's. Answered by `IDENTITY`.
    OPEN = 1
    #: Nothing but a response, for its flags.
    STATUS = 2
    #: Read `length` bytes of memory at `address`.
    READ_MEMORY = 3
    #: Write the payload to memory at `address`.
    WRITE_MEMORY = 4
    #: Read the register at the byte offset `address`; `length` is 4.
    READ_REGISTER = 5
    #: Write the payload of 4 bytes to the register at the byte offset `address`.
    WRITE_REGISTER = 6
    #: Read `length` bytes of registers one after the other, from the byte offset `address` on. They are read at different
    #: moments, and again if the request comes again: it is for registers that reading does not change (counters, errors,
    #: geometry), never for AP_CTRL. Offsets without a register read 0.
    READ_REGISTERS = 7


class Status(IntEnum):
    """What became of a request."""

    OK = 0
    #: The session is not the board's: it was reset, or another host has opened it. Nothing was done.
    NO_SESSION = 1
    #: The sequence number is neither the next one nor, with the same kind, the last one. Nothing was done.
    OUT_OF_SEQUENCE = 2
    #: The kind is unknown; a length or an address is no multiple of 4, or not 0 where it must be; a length is 0 or too large;
    #: the memory or the register map ends before; a write comes without its payload or another request with one; or a session
    #: is 0. Nothing was done.
    BAD_REQUEST = 3
    #: The memory is not ready yet. Nothing was done.
    NOT_READY = 4
    #: The bus answered with an error, or not at all. Of a write, words before the failing one were written, and that one may
    #: have been.
    BUS_ERROR = 5


#: Bits of a response's flags: the interrupt is raised; the memory has been initialised.
FLAG_INTERRUPT, FLAG_MEMORY_READY = 1 << 0, 1 << 1


@dataclass(frozen=True)
class Request:
    """What a host asks a board.

    Attributes
    ----------
    kind : int
        A `Kind`.
    sequence : int
        0 to 255; one more than that of the request before, or 0 after 255.
    session : int
        0 to 65535.
    address : int
        Byte address in memory or byte offset of a register, 32 bits, a multiple of 4; else 0.
    length : int
        Bytes to read, or of the payload; a multiple of 4 up to `MAX_PAYLOAD`.
    payload : bytes
    """

    kind: int
    sequence: int
    session: int
    address: int = 0
    length: int = 0
    payload: bytes = b""

    def pack(self) -> bytes:
        """The frame, not yet encoded."""
        header = REQUEST.pack(self.kind, self.sequence, self.session, self.address, self.length, 0)
        return _seal(header + self.payload)


@dataclass(frozen=True)
class Response:
    """What a board answers. `kind`, `sequence` and `session` are those of the request, with `RESPONSE` set in `kind`.

    Attributes
    ----------
    kind, sequence, session : int
    status : int
        A `Status`.
    flags : int
    payload : bytes
        Empty unless `status` is OK and the request was a read or `Kind.OPEN`.
    """

    kind: int
    sequence: int
    session: int
    status: int
    flags: int = 0
    payload: bytes = b""

    def pack(self) -> bytes:
        """The frame, not yet encoded."""
        header = RESPONSE_HEADER.pack(self.kind, self.sequence, self.session, self.status, self.flags, len(self.payload))
        return _seal(header + self.payload)


def unpack_request(frame: bytes) -> Request | None:
    """Take a decoded frame apart; None if it is damaged."""
    body = _unseal(frame, REQUEST.size)
    if body is None:
        return None
    kind, sequence, session, address, length, zero = REQUEST.unpack_from(body)
    payload = body[REQUEST.size :]
    if zero or len(payload) > MAX_PAYLOAD or payload and len(payload) != length:
        return None
    return Request(kind, sequence, session, address, length, payload)


def unpack_response(frame: bytes) -> Response | None:
    """Take a decoded frame apart; None if it is damaged."""
    body = _unseal(frame, RESPONSE_HEADER.size)
    if body is None:
        return None
    kind, sequence, session, status, flags, length = RESPONSE_HEADER.unpack_from(body)
    payload = body[RESPONSE_HEADER.size :]
    return Response(kind, sequence, session, status, flags, payload) if len(payload) == length else None


def encode(frame: bytes) -> bytes:
    """Pack a frame for the wire."""
    stuffed = frame.replace(bytes([ESCAPE]), bytes([ESCAPE, ESCAPED_ESCAPE]))
    return bytes([END]) + stuffed.replace(bytes([END]), bytes([ESCAPE, ESCAPED_END])) + bytes([END])


def decode(stuffed: bytes) -> bytes | None:
    """Unpack what lay between two `END`; None if it was not packed so."""
    first, *rest = stuffed.split(bytes([ESCAPE]))
    meanings = {ESCAPED_END: END, ESCAPED_ESCAPE: ESCAPE}
    frame = bytearray(first)
    for part in rest:
        if not part or part[0] not in meanings:
            return None
        frame.append(meanings[part[0]])
        frame += part[1:]
    return bytes(frame)


def _seal(body: bytes) -> bytes:
    return body + _CRC.pack(crc32(body))


def _unseal(frame: bytes, header: int) -> bytes | None:
    body, check = frame[: -_CRC.size], frame[-_CRC.size :]
    if len(body) < header or _CRC.pack(crc32(body)) != check:
        return None
    return body
