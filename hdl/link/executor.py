"""The executor: does what a request asks for, once, and says what became of it."""

import struct

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.link import (
    FLAG_INTERRUPT,
    FLAG_MEMORY_READY,
    IDENTITY,
    MAX_PAYLOAD,
    RESPONSE,
    VERSION,
    WORD_BYTES,
    Kind,
    Status,
)

from .headers import PAYLOAD_WORDS, request_layout, response_layout
from .payload_buffer import PayloadRead, PayloadWrite
from .request_check import RequestCheck
from .word_access import access_layout, outcome_layout


class Executor(wiring.Component):
    """Work on one request after the other, as `tailrace.spec.link` says.

    It keeps the session, and of the last request the sequence number, the kind, the status and the register's value: what it
    needs to answer an access to one register that comes again without carrying it out again. Memory is simply accessed again,
    and so are registers that are read in a row.

    Latency: the response to a request of no words is on offer 5 cycles after the request; a word takes 3 cycles, and what
    `WordAccess` takes. Throughput: one request at a time.

    Parameters
    ----------
    clock_hz, memory_bytes : int
        What the board says of itself; not checked here.

    Attributes
    ----------
    request : stream of `request_layout`, in
        Taken when its response is.
    response : stream of `response_layout`, out
    access : stream of `access_layout`, out
    outcome : stream of `outcome_layout`, in
    buffer_read : PayloadRead, out
    buffer_write : PayloadWrite, out
        Used while there is a request.
    interrupt, memory_ready : Signal(), in
    open : Signal(), out
        There is a session.
    """

    def __init__(self, clock_hz: int, memory_bytes: int) -> None:
        self.clock_hz, self.memory_bytes = clock_hz, memory_bytes
        super().__init__(
            {
                "request": In(stream.Signature(request_layout())),
                "response": Out(stream.Signature(response_layout())),
                "access": Out(stream.Signature(access_layout())),
                "outcome": In(stream.Signature(outcome_layout())),
                "buffer_read": Out(PayloadRead()),
                "buffer_write": Out(PayloadWrite()),
                "interrupt": In(1),
                "memory_ready": In(1),
                "open": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        request, response, access, outcome = self.request.payload, self.response.payload, self.access, self.outcome
        m.submodules.check = check = RequestCheck(self.memory_bytes)
        m.d.comb += check.request.eq(request)

        session, last_sequence = Signal(16), Signal(8)
        last_kind, last_status, last_value = Signal(8), Signal(Status), Signal(32)
        in_session, is_next, is_again = Signal(), Signal(), Signal()
        m.d.sync += [
            in_session.eq(self.open & (request.session == session)),
            is_next.eq(request.sequence == (last_sequence + 1)[:8]),
            is_again.eq((request.sequence == last_sequence) & (request.kind == last_kind)),
        ]
        is_memory = (request.kind == Kind.READ_MEMORY) | (request.kind == Kind.WRITE_MEMORY)
        is_one_register = (request.kind == Kind.READ_REGISTER) | (request.kind == Kind.WRITE_REGISTER)
        is_write = (request.kind == Kind.WRITE_MEMORY) | (request.kind == Kind.WRITE_REGISTER)

        status, counts = Signal(Status), Signal()
        index, words = Signal(range(PAYLOAD_WORDS)), Signal(range(PAYLOAD_WORDS + 1))
        done = index + 1 == words
        said = IDENTITY.pack(VERSION, MAX_PAYLOAD, self.clock_hz, self.memory_bytes)
        identity = Array(Const(word, 32) for (word,) in struct.iter_unpack("<I", said))
        m.d.comb += [
            self.buffer_read.index.eq(index),
            self.buffer_write.index.eq(index),
            access.payload.memory.eq(is_memory),
            access.payload.write.eq(is_write),
            access.payload.address.eq(request.address + Cat(Const(0, 2), index)),
            access.payload.data.eq(self.buffer_read.data),
            response.kind.eq(request.kind | RESPONSE),
            response.sequence.eq(request.sequence),
            response.session.eq(request.session),
            response.status.eq(status),
        ]

        def answer(value: Status) -> None:
            m.d.sync += status.eq(value)
            m.next = "SEAL"

        wait = Signal(range(RequestCheck.latency))
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [wait.eq(RequestCheck.latency - 1), index.eq(0), words.eq(0), counts.eq(1), status.eq(Status.OK)]
                with m.If(self.request.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "DECIDE"
            with m.State("DECIDE"):
                with m.If(request.kind == Kind.OPEN):
                    with m.If(check.bad):
                        m.d.sync += counts.eq(0)
                        answer(Status.BAD_REQUEST)
                    with m.Else():
                        m.d.sync += [self.open.eq(1), session.eq(request.session), words.eq(len(identity))]
                        m.next = "FILL"
                with m.Elif(~in_session):
                    m.d.sync += counts.eq(0)
                    answer(Status.NO_SESSION)
                with m.Elif(~is_next & ~is_again):
                    m.d.sync += counts.eq(0)
                    answer(Status.OUT_OF_SEQUENCE)
                with m.Elif(is_again & (last_status != Status.OK)):
                    answer(last_status)
                with m.Elif(is_again & (request.kind == Kind.READ_REGISTER)):
                    m.d.sync += words.eq(1)
                    m.next = "FILL"
                with m.Elif(is_again & is_one_register):
                    answer(Status.OK)
                with m.Elif(check.bad):
                    answer(Status.BAD_REQUEST)
                with m.Elif(is_memory & ~self.memory_ready):
                    answer(Status.NOT_READY)
                with m.Elif(request.kind == Kind.STATUS):
                    answer(Status.OK)
                with m.Else():
                    m.d.sync += words.eq(request.length // WORD_BYTES)
                    m.next = "FETCH"
            with m.State("FILL"):
                m.d.comb += [
                    self.buffer_write.enable.eq(1),
                    self.buffer_write.data.eq(Mux(request.kind == Kind.OPEN, identity[index[:2]], last_value)),
                ]
                m.d.sync += index.eq(index + 1)
                with m.If(done):
                    m.next = "SEAL"
            # The two cycles in which the buffer reads the word to write.
            with m.State("FETCH"):
                m.next = "FETCHED"
            with m.State("FETCHED"):
                m.next = "ACCESS"
            with m.State("ACCESS"):
                m.d.comb += access.valid.eq(1)
                with m.If(access.ready):
                    m.next = "OUTCOME"
            with m.State("OUTCOME"):
                m.d.comb += [
                    outcome.ready.eq(1),
                    self.buffer_write.enable.eq(outcome.valid & ~is_write),
                    self.buffer_write.data.eq(outcome.payload.data),
                ]
                with m.If(outcome.valid):
                    m.d.sync += [index.eq(index + 1), last_value.eq(outcome.payload.data)]
                    with m.If(outcome.payload.error):
                        answer(Status.BUS_ERROR)
                    with m.Elif(done):
                        m.next = "SEAL"
                    with m.Else():
                        m.next = "FETCH"
            with m.State("SEAL"):
                with m.If(counts):
                    m.d.sync += [last_sequence.eq(request.sequence), last_kind.eq(request.kind), last_status.eq(status)]
                m.d.sync += [
                    response.flags.eq(self.interrupt * FLAG_INTERRUPT | self.memory_ready * FLAG_MEMORY_READY),
                    response.length.eq(Mux((status == Status.OK) & ~is_write, Cat(Const(0, 2), words), 0)),
                ]
                m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += [self.response.valid.eq(1), self.request.ready.eq(self.response.ready)]
                with m.If(self.response.ready):
                    m.next = "IDLE"
        return m
