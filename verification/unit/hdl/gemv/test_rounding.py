import numpy as np
import pytest

from tailrace.hdl.gemv.rounding import RoundToFloat32
from tailrace.spec.numerics import SCALE_EXPONENT, round_to_float32

from ..simulate import simulate
from . import bench

Sum = tuple[int, int]


def ties() -> list[Sum]:
    """Everything around the point where rounding decides, for short and long sums and odd and even significands."""
    sums = []
    for length in (1, 23, 24, 25, 26, 27, 32, 33, 48, 64, 65, 80, 96, 97, 111, 119):
        cut = max(length - 24, 0)
        for significand in (1 << 23, (1 << 23) + 1, (1 << 24) - 1, (1 << 24) - 2):
            magnitude = significand >> max(24 - length, 0) << cut
            rests = {0, 1, (1 << cut) >> 1, ((1 << cut) >> 1) - 1, ((1 << cut) >> 1) + 1, (1 << cut) - 1}
            sums += [(sign * (magnitude + r), 0) for r in rests if 0 <= r < 1 << cut or r == 0 for sign in (1, -1)]
    return sums


def every_length() -> list[Sum]:
    return [(sign * x, -100) for n in range(119) for x in (1 << n, (1 << (n + 1)) - 1) for sign in (1, -1)] + [(-(1 << 119), 0)]


def limits() -> list[Sum]:
    """Around the smallest normal and the largest number, exact and rounded across."""
    sums = []
    for x in (1, (1 << 24) - 1, (1 << 25) - 1, (1 << 25) - 2, (1 << 25) - 3, 1 << 60, (1 << 119) - 1, (1 << 119) - (1 << 94)):
        top = x.bit_length() - 1 + SCALE_EXPONENT
        for edge in (-127, -126, 127, 128):
            sums += [(sign * x, edge - top + near) for near in (-1, 0, 1) for sign in (1, -1)]
    return sums


def extremes() -> list[Sum]:
    return [(x, base) for x in (0, 1, -1, (1 << 119) - 1, -(1 << 119)) for base in (-65536, -32768, -172, 0, 83, 32767, 65535)]


def run(sums: list[Sum], rng: np.random.Generator, gaps: float = 0) -> list[int]:
    """Results of the sums, each found so many cycles later. In gaps the inputs are anything."""
    dut = RoundToFloat32()
    sent: list[Sum | None] = []
    for one in sums:
        while rng.random() < gaps:
            sent.append(None)
        sent.append(one)
    results: list[int] = []

    async def drive(ctx: bench.Context) -> None:
        for n in range(len(sent) + dut.latency):
            if n >= dut.latency and sent[n - dut.latency]:
                results.append(ctx.get(dut.result))
            one = sent[n] if n < len(sent) else None
            total, base = one or (int(rng.integers(1 << 60)), 3)
            ctx.set(dut.valid, one is not None)
            ctx.set(dut.sum, total)
            ctx.set(dut.base, base)
            await ctx.tick()

    simulate(dut, drive)
    return results


@pytest.mark.parametrize("sums", [ties(), every_length(), limits(), extremes()], ids=["ties", "lengths", "limits", "extremes"])
def test_rounds_as_the_specification(sums: list[Sum], rng: np.random.Generator) -> None:
    results = run(sums, rng)
    for (total, base), result in zip(sums, results, strict=True):
        assert f"{result:08x}" == f"{round_to_float32(total, base + SCALE_EXPONENT):08x}", (total, base)


def test_rounds_as_float32(rng: np.random.Generator) -> None:
    """Sums that float64 holds exactly: numpy's rounding agrees."""
    sums = [(int(x), int(b)) for x, b in zip(rng.integers(-(1 << 53), 1 << 53, 200), rng.integers(-90, 60, 200), strict=True)]
    results = run(sums, rng)
    floats = np.array([np.float32(np.ldexp(float(x), b + SCALE_EXPONENT)) for x, b in sums])
    assert results == floats.view(np.uint32).tolist()


def test_stages_without_a_sum_disturb_none(rng: np.random.Generator) -> None:
    sums = [
        (int(x) << int(s), int(s))
        for x, s in zip(rng.integers(-(1 << 50), 1 << 50, 200), rng.integers(0, 50, 200), strict=True)
    ]
    assert run(sums, rng, gaps=0.4) == [round_to_float32(x, b + SCALE_EXPONENT) for x, b in sums]
