"""The request receiver: keeps what is whole of the frames that arrive."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out

from tailrace.spec.link import MAX_FRAME, MAX_PAYLOAD, REQUEST, WORD_BYTES

from .headers import PAYLOAD_WORDS, request_layout
from .payload_buffer import PayloadWrite
from .slip_decoder import frame_byte_layout

#: Bytes of a frame that are neither header nor payload.
CRC_BYTES = MAX_FRAME - REQUEST.size - MAX_PAYLOAD
#: Words of a request's header.
HEADER_WORDS = REQUEST.size // WORD_BYTES


class RequestReceiver(wiring.Component):
    """Put frames together, and offer those that `tailrace.spec.link.unpack_request` takes; all others are dropped.

    The payload goes into the payload buffer as it arrives, before anyone knows whether the frame is whole. From the end of a
    whole frame until the request is taken, what arrives is ignored, so the buffer is the request's; and then until the next
    `END`. Whoever works on the request takes it when its response has been sent.

    Latency: a request is offered in the cycle after its frame's end. Throughput: a byte a cycle.

    Attributes
    ----------
    i : stream of `frame_byte_layout`, in
        Without `ready`.
    o : stream of `request_layout`, out
    write : PayloadWrite, out
    receiving : Signal(), out
        A part of a frame is there.
    """

    i: In(stream.Signature(frame_byte_layout(), always_ready=True))
    o: Out(stream.Signature(request_layout()))
    write: Out(PayloadWrite())
    receiving: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, o = self.i, self.o
        m.submodules.crc = crc = catalog.CRC32_ISO_HDLC().create()
        # An `END` has come since there was a request: what follows is a frame's beginning.
        aligned = Signal()
        count = Signal(range(MAX_FRAME + 2))
        received, zero = Signal(24), Signal(16)
        word = Cat(received, i.payload.data)
        header = o.payload
        m.d.comb += self.receiving.eq(count != 0)

        listen = i.valid & ~o.valid
        byte, end = listen & aligned & ~i.payload.end, listen & i.payload.end
        m.d.comb += [crc.data.eq(i.payload.data), crc.valid.eq(byte), crc.start.eq(end)]
        place = count // WORD_BYTES
        m.d.comb += [
            self.write.index.eq(place - HEADER_WORDS),
            self.write.data.eq(word),
            self.write.enable.eq(
                byte & (count % WORD_BYTES == WORD_BYTES - 1) & (place >= HEADER_WORDS) & (place < HEADER_WORDS + PAYLOAD_WORDS)
            ),
        ]
        with m.If(byte):
            m.d.sync += [received.eq(word[8:]), count.eq(Mux(count > MAX_FRAME, count, count + 1))]
            with m.Switch(count):
                with m.Case(WORD_BYTES - 1):
                    m.d.sync += Cat(header.kind, header.sequence, header.session).eq(word)
                with m.Case(2 * WORD_BYTES - 1):
                    m.d.sync += header.address.eq(word)
                with m.Case(3 * WORD_BYTES - 1):
                    m.d.sync += Cat(header.length, zero).eq(word)

        bare = REQUEST.size + CRC_BYTES
        some = count != bare
        whole = crc.match_detected & ~i.payload.damaged & (count >= bare) & (count <= MAX_FRAME)
        with m.If(end):
            m.d.sync += [aligned.eq(1), count.eq(0)]
            with m.If(whole & (zero == 0) & (~some | (count == header.length + bare))):
                m.d.sync += [o.valid.eq(1), header.payload.eq(some)]
        with m.If(o.valid & o.ready):
            m.d.sync += [o.valid.eq(0), aligned.eq(0)]
        return m
