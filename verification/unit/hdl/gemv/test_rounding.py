import numpy as np
import pytest

from tailrace.hdl.gemv.rounding import RoundToFloat32
from tailrace.spec.numerics import SCALE_EXPONENT, round_to_float32

from ..simulate import simulate
from . import bench
from .bench import Stalls

Sum = tuple[int, int]


def ties() -> list[Sum]:
    """Everything around the point where rounding decides, for short and long sums and odd and even significands."""
    sums = []
    for length in (1, 23, 24, 25, 26, 27, 32, 33, 48, 64, 65, 80, 96, 97, 111):
        cut = max(length - 24, 0)
        for significand in (1 << 23, (1 << 23) + 1, (1 << 24) - 1, (1 << 24) - 2):
            magnitude = significand >> max(24 - length, 0) << cut
            rests = {0, 1, (1 << cut) >> 1, ((1 << cut) >> 1) - 1, ((1 << cut) >> 1) + 1, (1 << cut) - 1}
            sums += [(sign * (magnitude + r), 0) for r in rests if 0 <= r < 1 << cut or r == 0 for sign in (1, -1)]
    return sums


def every_length() -> list[Sum]:
    return [(sign * x, -100) for n in range(111) for x in (1 << n, (1 << (n + 1)) - 1) for sign in (1, -1)] + [(-(1 << 111), 0)]


def limits() -> list[Sum]:
    """Around the smallest normal and the largest number, exact and rounded across."""
    sums = []
    for x in (1, (1 << 24) - 1, (1 << 25) - 1, (1 << 25) - 2, (1 << 25) - 3, 1 << 60, (1 << 111) - 1, (1 << 111) - (1 << 86)):
        top = x.bit_length() - 1 + SCALE_EXPONENT
        for edge in (-127, -126, 127, 128):
            sums += [(sign * x, edge - top + near) for near in (-1, 0, 1) for sign in (1, -1)]
    return sums


def extremes() -> list[Sum]:
    return [(x, base) for x in (0, 1, -1, (1 << 111) - 1, -(1 << 111)) for base in (-32768, -172, 0, 83, 32767)]


def run(sums: list[Sum], rng: np.random.Generator, i: float = 0, o: float = 0) -> tuple[list[int], list[int], list[int]]:
    dut = RoundToFloat32()
    results: list[int] = []
    entered: list[int] = []
    left: list[int] = []
    stall_i, stall_o = Stalls(rng, i), Stalls(rng, o)

    async def drive(ctx: bench.Context) -> None:
        sent = cycle = 0
        waiting = False
        while len(results) < len(sums):
            waiting = sent < len(sums) and (waiting or not stall_i())
            ctx.set(dut.i.valid, waiting)
            total, base = sums[sent] if waiting else (int(rng.integers(1 << 60)), 3)
            ctx.set(dut.i.payload, {"sum": total, "base": base})
            ctx.set(dut.o.ready, not stall_o())
            if waiting and ctx.get(dut.i.ready):
                sent, waiting = sent + 1, False
                entered.append(cycle)
            if ctx.get(dut.o.valid):
                assert ctx.get(dut.busy)
                if ctx.get(dut.o.ready):
                    results.append(ctx.get(dut.o.payload))
                    left.append(cycle)
            await ctx.tick()
            cycle += 1
            assert cycle < 20 * len(sums) + 100
        ctx.set(dut.i.valid, 0)
        assert not ctx.get(dut.busy)

    simulate(dut, drive)
    return results, entered, left


@pytest.mark.parametrize("sums", [ties(), every_length(), limits(), extremes()], ids=["ties", "lengths", "limits", "extremes"])
def test_rounds_as_the_specification(sums: list[Sum], rng: np.random.Generator) -> None:
    results, entered, left = run(sums, rng)
    for (total, base), result in zip(sums, results, strict=True):
        assert f"{result:08x}" == f"{round_to_float32(total, base + SCALE_EXPONENT):08x}", (total, base)
    # Latency and throughput.
    assert entered == list(range(len(sums)))
    assert left == [n + RoundToFloat32.latency for n in entered]


def test_rounds_as_float32(rng: np.random.Generator) -> None:
    """Sums that float64 holds exactly: numpy's rounding agrees."""
    sums = [(int(x), int(b)) for x, b in zip(rng.integers(-(1 << 53), 1 << 53, 200), rng.integers(-90, 60, 200), strict=True)]
    results, _, _ = run(sums, rng)
    floats = np.array([np.float32(np.ldexp(float(x), b + SCALE_EXPONENT)) for x, b in sums])
    assert results == floats.view(np.uint32).tolist()


@pytest.mark.parametrize(("i", "o"), [(0.5, 0), (0, 0.5), (0.4, 0.4)])
def test_nothing_is_lost_in_stalls(i: float, o: float, rng: np.random.Generator) -> None:
    sums = [
        (int(x) << int(s), int(s))
        for x, s in zip(rng.integers(-(1 << 50), 1 << 50, 200), rng.integers(0, 50, 200), strict=True)
    ]
    results, _, _ = run(sums, rng, i, o)
    assert results == [round_to_float32(x, b + SCALE_EXPONENT) for x, b in sums]


def test_receiver_may_wait_for_a_result() -> None:
    dut = RoundToFloat32()

    async def drive(ctx: bench.Context) -> None:
        ctx.set(dut.i.payload, {"sum": 3 << 24, "base": 0})
        ctx.set(dut.i.valid, 1)
        await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        for _ in range(dut.latency - 1):
            assert not ctx.get(dut.o.valid)
            await ctx.tick()
        for _ in range(3):
            assert ctx.get(dut.o.valid)
            assert ctx.get(dut.o.payload) == np.float32(3).view(np.uint32)
            await ctx.tick()
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        assert not ctx.get(dut.o.valid)

    simulate(dut, drive)
