"""Memories behind an AXI read or write port, for tests in Amaranth's simulator. Each checks the rules of the bus."""

import random
from collections import deque
from collections.abc import Callable

from amaranth.sim import SimulatorContext

from tailrace.hdl.axi.signature import Response


def beat_data(address: int, width: int) -> int:
    """What lies at an address: different in every beat."""
    return random.Random(address).getrandbits(width)


def check_burst(address: int, beats: int, bus_bytes: int, limit: int) -> None:
    """Burst rules of AXI (A3.4.1), and the longest burst that was promised."""
    assert beats <= limit, f"burst of {beats} beats, more than {limit}"
    assert address % bus_bytes == 0, f"address {address:#x} is not that of a beat"
    assert address // 4096 == (address + beats * bus_bytes - 1) // 4096, f"{beats} beats from {address:#x} cross 4 KiB"


class Stability:
    """What a stalled channel offers must stay."""

    def __init__(self, name: str) -> None:
        self.name, self.offered = name, None

    def check(self, valid: int, ready: int, payload: object) -> None:
        if self.offered is not None:
            assert valid, f"{self.name}.valid fell before ready"
            assert payload == self.offered, f"{self.name} changed from {self.offered} to {payload} while stalled"
        self.offered = payload if valid and not ready else None


class ReadMemory:
    """Answers bursts in order, at most one beat a cycle, the first one `latency` cycles after its handshake at the earliest.

    `stall` is the probability that a channel pauses in a cycle; `errors` maps the address of a beat to its response. What lies at
    an address is `beat_data` of `place` of it, where the device's memory is striped over several of these.
    """

    def __init__(
        self,
        port,
        bus_width: int,
        burst_beats: int,
        latency: int = 2,
        stall: float = 0.0,
        seed: int = 0,
        place: Callable[[int], int] = lambda address: address,
    ) -> None:
        self.place = place
        self.port, self.bus_width, self.burst_beats = port, bus_width, burst_beats
        self.latency, self.stall, self.random = latency, stall, random.Random(seed)
        self.errors: dict[int, Response] = {}
        self.bursts: list[tuple[int, int]] = []
        self.ask_cycles: list[int] = []
        self.arrive_cycles: list[int] = []
        self.paused = False
        #: Set to forget everything, as in a reset.
        self.restarted = False
        self.cycle = 0

    async def run(self, ctx: SimulatorContext) -> None:
        ar, r = self.port.ar, self.port.r
        bus_bytes = self.bus_width // 8
        due: deque[tuple[int, int, int]] = deque()
        offered = None
        stability = Stability("ar")
        while True:
            if self.restarted:
                due, offered, stability, self.restarted = deque(), None, Stability("ar"), False
            if offered is None and due and due[0][0] <= self.cycle and not self.paused and self.random.random() >= self.stall:
                offered = due.popleft()
            ctx.set(r.valid, offered is not None)
            if offered is not None:
                _, address, last = offered
                response = self.errors.get(address, Response.OKAY)
                ctx.set(r.payload, {"data": beat_data(self.place(address), self.bus_width), "response": response, "last": last})
            ctx.set(ar.ready, not self.paused and self.random.random() >= self.stall)
            _, _, ar_valid, ar_ready, burst, r_ready = await ctx.tick().sample(ar.valid, ar.ready, ar.payload, r.ready)
            stability.check(ar_valid, ar_ready, (burst.address, burst.length))
            assert r_ready, "r.ready fell: the bus was blocked"
            if offered is not None:
                self.arrive_cycles.append(self.cycle)
            offered = None
            if ar_valid and ar_ready:
                beats = burst.length + 1
                check_burst(burst.address, beats, bus_bytes, self.burst_beats)
                self.bursts.append((burst.address, beats))
                self.ask_cycles.append(self.cycle)
                due += [(self.cycle + self.latency, burst.address + n * bus_bytes, n == beats - 1) for n in range(beats)]
            self.cycle += 1


class WriteMemory:
    """Takes bursts, keeps the bytes that are written, and answers in order `latency` cycles after a burst's last beat.

    `data_first`: `aw` is accepted only when a beat is offered on `w`, as the standard allows (A3.3.1).
    """

    def __init__(
        self,
        port,
        bus_width: int,
        burst_beats: int,
        latency: int = 2,
        stall: float = 0.0,
        seed: int = 0,
        data_first: bool = False,
    ) -> None:
        self.port, self.bus_width, self.burst_beats = port, bus_width, burst_beats
        self.latency, self.stall, self.random, self.data_first = latency, stall, random.Random(seed), data_first
        self.bytes: dict[int, int] = {}
        self.errors: dict[int, Response] = {}
        self.bursts: list[tuple[int, int]] = []
        self.ask_cycles: list[int] = []
        self.beat_cycles: list[int] = []
        self.answered = 0
        self.cycle = 0

    async def run(self, ctx: SimulatorContext) -> None:
        aw, w, b = self.port.aw, self.port.w, self.port.b
        asked: deque[tuple[int, int]] = deque()
        arrived: deque[tuple[int, int, int]] = deque()
        answers: deque[tuple[int, Response]] = deque()
        beat, stable_aw, stable_w = 0, Stability("aw"), Stability("w")
        w_offered = 0
        while True:
            answering = bool(answers) and answers[0][0] <= self.cycle and self.random.random() >= self.stall
            ctx.set(b.valid, answering)
            if answering:
                ctx.set(b.payload.response, answers[0][1])
            ctx.set(aw.ready, (w_offered or not self.data_first) and self.random.random() >= self.stall)
            ctx.set(w.ready, not (self.data_first and not asked) and self.random.random() >= self.stall)
            _, _, aw_valid, aw_ready, burst, w_valid, w_ready, word, b_ready = await ctx.tick().sample(
                aw.valid, aw.ready, aw.payload, w.valid, w.ready, w.payload, b.ready
            )
            stable_aw.check(aw_valid, aw_ready, (burst.address, burst.length))
            stable_w.check(w_valid, w_ready, (word.data, word.strobe, word.last))
            assert b_ready, "b.ready fell"
            w_offered = w_valid
            if answering:
                answers.popleft()
                self.answered += 1
            if aw_valid and aw_ready:
                check_burst(burst.address, burst.length + 1, self.bus_width // 8, self.burst_beats)
                asked.append((burst.address, burst.length + 1))
                self.bursts.append(asked[-1])
                self.ask_cycles.append(self.cycle)
            if w_valid and w_ready:
                arrived.append((word.data, word.strobe, word.last))
                self.beat_cycles.append(self.cycle)
            # Data may come before its address, so the two meet here.
            while asked and arrived:
                address, beats = asked[0]
                value, strobe, last = arrived.popleft()
                assert last == (beat == beats - 1), f"w.last is {last} in beat {beat} of {beats}"
                for n in range(self.bus_width // 8):
                    if strobe >> n & 1:
                        place = address + beat * self.bus_width // 8 + n
                        assert place not in self.bytes, f"{place:#x} was written twice"
                        self.bytes[place] = value >> 8 * n & 0xFF
                beat += 1
                if last:
                    asked.popleft()
                    beat = 0
                    answers.append((self.cycle + self.latency, self.errors.get(address, Response.OKAY)))
            self.cycle += 1
