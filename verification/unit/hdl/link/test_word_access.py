from typing import Any

import pytest

from tailrace.hdl.link.word_access import WordAccess

from ..simulate import simulate
from ..streams import receive, send
from .bus import Registers, Words

STALLS = (0.0, 0.6)


def model_of(dut: WordAccess, seed: int = 0, stall: float = 0.0) -> tuple[Registers, Words]:
    return Registers(dut.control, seed, stall), Words(dut.read, dut.write, seed, stall)


def access(memory: int, write: int, address: int, data: int = 0) -> dict[str, int]:
    return {"memory": memory, "write": write, "address": address, "data": data}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("slow", [None, 1])
def test_accesses(stall: float, slow: int | None, seed: int):
    dut = WordAccess(1000)
    registers, words = model_of(dut, seed, stall)
    words.errors, registers.errors = {0x1000_0008}, {12}
    accesses, expected = [], []
    for n in range(8):
        data, place = 0x89AB_CDEF * (n + 1) % (1 << 32), 4 * n
        accesses += [access(1, 1, 0x1000_0000 + place, data), access(1, 0, 0x1000_0000 + place)]
        expected += [(None, n == 2), (data, n == 2)]
        accesses += [access(0, 1, place, data), access(0, 0, place)]
        expected += [(None, n == 3), (registers.value(place, n + 1), n == 3)]

    async def source(ctx):
        await send(ctx, dut.i, accesses, slow)

    async def sink(ctx):
        outcomes = await receive(ctx, dut.o, len(accesses), slow)
        for outcome, (data, error) in zip(outcomes, expected, strict=True):
            assert outcome.error == error
            assert data in (None, outcome.data)

    background = (registers.run_reads, registers.run_writes, words.run_reads, words.run_writes)
    simulate(dut, source, sink, background=background)
    assert [address for address, _ in registers.writes] == registers.reads == [4 * n for n in range(8)]


@pytest.mark.parametrize("late", range(8))
def test_late_answers(late: int):
    """An answer in any cycle around the watchdog's last one, and around the next access: it goes to its own access or nowhere."""
    dut = WordAccess(10)
    outcomes: list[Any] = []

    async def bus(ctx):
        r = dut.read.r
        ctx.set(dut.read.ar.ready, 1)
        for wait, data in ((7 + late, 1), (0, 2)):
            await ctx.posedge(dut.read.ar.valid)
            for _ in range(1 + wait):
                await ctx.tick()
            ctx.set(r.payload, {"data": data, "response": 0, "last": 1})
            ctx.set(r.valid, 1)
            _, _, taken = await ctx.tick().sample(r.ready)
            assert taken, "an answer was not taken"
            ctx.set(r.valid, 0)

    async def host(ctx):
        # The second access comes at once; the third one when the bus has long been free.
        for pause in (1, 1, 20):
            await ctx.tick().repeat(pause)
            await send(ctx, dut.i, [access(1, 0, 0)])
            outcomes.extend(await receive(ctx, dut.o, 1))
            if len(outcomes) == 1 and not outcomes[0].error:
                return

    simulate(dut, host, background=(bus,))
    in_time = late <= 1
    assert outcomes[0].error != in_time
    if in_time:
        assert outcomes[0].data == 1
    else:
        # Of the two others one has the second answer. The bus gave no third one.
        assert [outcome.data for outcome in outcomes[1:] if not outcome.error] == [2]
