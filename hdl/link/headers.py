"""The headers of requests and responses, as they pass between the parts of the link."""

from amaranth.lib import data

from tailrace.spec.link import MAX_PAYLOAD, WORD_BYTES

#: Words of the longest payload.
PAYLOAD_WORDS = MAX_PAYLOAD // WORD_BYTES


def request_layout() -> data.StructLayout:
    """Header of a request, field by field as in `spec.link.REQUEST`; `payload`: there is one, and it is `length` bytes long."""
    return data.StructLayout({"kind": 8, "sequence": 8, "session": 16, "address": 32, "length": 16, "payload": 1})


def response_layout() -> data.StructLayout:
    """Header of a response, field by field as in `spec.link.RESPONSE_HEADER`; its payload lies in the payload buffer."""
    return data.StructLayout({"kind": 8, "sequence": 8, "session": 16, "status": 8, "flags": 8, "length": 16})
