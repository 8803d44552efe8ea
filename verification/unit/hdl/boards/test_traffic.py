"""Traffic through a memory."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tailrace.hdl.boards.traffic import BURST, Traffic
from verification.unit.hdl.simulate import simulate

from .ddr3_model import Ddr3Model


@dataclass
class Ran:
    """What runs have found wrong, the memory after each, and where bursts were read."""

    wrong: list[int]
    memory: list[dict[int, int]]
    reads: list[int]


def run(
    right: Callable[[int, int, int, int], bool], runs: int, bursts: int, chance: Any = None, kept: type[dict[int, int]] = dict
) -> Ran:
    """Run a few times, with `kept` as the memory after the first run."""
    dut = Traffic(40, 128, 2)
    model = Ddr3Model(dut, right, chance)
    ran = Ran([], [], model.reads)

    async def user(ctx: Any) -> None:
        for _ in range(runs):
            ctx.set(dut.bursts, bursts)
            assert ctx.get(dut.done)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            assert not ctx.get(dut.done)
            await ctx.tick().until(dut.done)
            ran.wrong.append(ctx.get(dut.wrong))
            ran.memory.append(dict(model.memory))
            model.memory = kept(model.memory)

    simulate(dut, user, background=[model.port])
    return ran


@pytest.mark.parametrize("stalls", [False, True])
def test_writes_random_beats_and_reads_them_back(stalls: bool, seed: int) -> None:
    """The register of 128 bits, bit by bit; each run goes on with it, and covers the whole range."""
    bursts, runs = 3, 2
    ran = run(lambda *_: True, runs, bursts, random.Random(seed) if stalls else None)
    assert ran.wrong == [0] * runs, f"seed {seed}"
    number = 1
    for memory in ran.memory:
        assert sorted(memory) == [16 * i for i in range(BURST * bursts)]
        for address in sorted(memory):
            assert memory[address] == number
            for _ in range(96):
                bit = number ^ number >> 2 ^ number >> 27 ^ number >> 29
                number = number >> 1 | (bit & 1) << 127
    assert ran.reads == [16 * BURST * i for i in range(bursts)] * runs


@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize("stalls", [False, True])
def test_a_single_wrong_bit_in_a_single_beat_is_seen(lane: int, stalls: bool, seed: int) -> None:
    """The first beat of the first run, the last beat of the second, and none in the third."""
    last = 2 * 2 * BURST - 1
    chance = random.Random(seed) if stalls else None
    ran = run(lambda of, _slip, _delay, beat: not (of == lane and beat in (0, last)), 3, 2, chance)
    assert ran.wrong == [1 << lane, 1 << lane, 0], f"seed {seed}"


class _ReadOnly(dict[int, int]):
    def __setitem__(self, address: int, value: int) -> None:
        pass


def test_what_an_earlier_run_left_is_wrong() -> None:
    """A memory that takes no more writes is found out."""
    assert run(lambda *_: True, 2, 1, kept=_ReadOnly).wrong == [0, 3]


def test_parameters() -> None:
    with pytest.raises(ValueError) as error:
        Traffic(40, 64, 2)
    assert str(error.value) == "a beat must have 128 bits, not 64"
