from dataclasses import dataclass

import numpy as np
import pytest
from amaranth.hdl import Fragment

from tailrace.hdl.float.add import FloatAdd
from tailrace.hdl.float.maximum import Maximum
from tailrace.hdl.float.reduction import Reduction
from tailrace.hdl.float.total import Total
from tailrace.hdl.float.word import check_word_elements
from tailrace.spec import floats
from tailrace.spec.floats import Floats
from tailrace.spec.isa import Reduce

from ..simulate import simulate
from . import operands
from .bench import Context

WIDTHS = (1, 2, 4)
_ARGMAX = (Reduce.ARGMAX, Reduce.ARGMAX_REMOVE)


@dataclass
class Segment:
    kind: Reduce
    x: Floats
    negate: bool = False
    resume: bool = False
    start: int = 0
    start_index: int = 0
    index: int = 0

    def expected(self) -> tuple[int, int | None, int]:
        """Bits of the value; the index; whether nothing was greater than `start`."""
        old = floats.flush(np.array([self.start], np.uint32).view(np.float32))[0]
        if self.kind in _ARGMAX:
            place = int(np.argmax(self.x))
            if self.resume and old >= self.x[place]:
                return self.start, self.start_index, 1
            return int(self.x[place].view(np.uint32)), place + self.index & 0xFFFF_FFFF, 0
        if self.kind in (Reduce.SUM, Reduce.SUM_OF_SQUARES):
            value = floats.total(floats.multiply(self.x, self.x) if self.kind is Reduce.SUM_OF_SQUARES else self.x)
            if self.resume:
                value = floats.add(np.array([old]), np.array([value]))[0]
        else:
            value = (np.abs(self.x) if self.kind is Reduce.ABSOLUTE_MAXIMUM else self.x).max()
            if self.resume:
                value = np.maximum(old, value)
        value = np.float32(0) - value if self.negate else value
        return int(np.float32(value).view(np.uint32)), None, 0


def run(width: int, segments: list[Segment], rng: np.random.Generator | None = None) -> list[int]:
    """Check the results; return the cycles from each last word to the first of the segment after it."""
    ends, beginnings = run_cycles(width, segments, rng)
    return [b - e for e, b in zip(ends, beginnings[1:], strict=False)]


def run_cycles(width: int, segments: list[Segment], rng: np.random.Generator | None = None) -> tuple[list[int], list[int]]:
    """Check the results; return the cycles of last and of first words."""
    dut = Reduction(width)
    ends: list[int] = []
    beginnings: list[int] = []
    now = 0
    settings = ("kind", "negate", "resume", "start", "start_index", "index")

    async def feed(ctx: Context) -> None:
        for segment in segments:
            bits = operands.bits(segment.x).tolist()
            words = -(-len(bits) // width)
            for w in range(words):
                while rng is not None and rng.random() < 0.4:
                    await ctx.tick()
                here = bits[w * width : (w + 1) * width]
                absent = width - len(here)
                ctx.set(
                    dut.i.payload,
                    {
                        # What is masked out must not matter.
                        "data": here + [0x7F80_0000] * absent,
                        "mask": (1 << len(here)) - 1,
                        "first": w == 0,
                        "last": w == words - 1,
                    },
                )
                # Settings count with the first word only.
                for name in settings:
                    value = int(getattr(segment, name))
                    ctx.set(getattr(dut, name), value if w == 0 else ~value & 1)
                ctx.set(dut.i.valid, 1)
                while not ctx.get(dut.i.ready):
                    await ctx.tick()
                if w == 0:
                    beginnings.append(now)
                if w == words - 1:
                    ends.append(now)
                await ctx.tick()
                ctx.set(dut.i.valid, 0)

    async def count(ctx: Context) -> None:
        nonlocal now
        async for _ in ctx.tick():
            now += 1

    async def take(ctx: Context) -> None:
        for n, segment in enumerate(segments):
            if segment.kind is Reduce.NONE:
                continue
            while rng is not None and rng.random() < 0.6:
                ctx.set(dut.o.ready, 0)
                await ctx.tick()
            ctx.set(dut.o.ready, 1)
            while not ctx.get(dut.o.valid):
                await ctx.tick()
            value, index, resumed = segment.expected()
            got = ctx.get(dut.o.payload)
            about = f"segment {n} of {width} width: {segment.kind.name}, {len(segment.x)} elements, {segment}"
            assert f"{got.value:08x}" == f"{value:08x}", about
            if index is not None:
                assert (got.index, got.resumed) == (index, resumed), about
            await ctx.tick()
        ctx.set(dut.o.ready, 0)

    simulate(dut, feed, take, background=[count])
    return ends, beginnings


def numbers(rng: np.random.Generator, count: int, spread: int = 8) -> Floats:
    return floats.flush(operands.floats(operands.near(rng, count, 127 - spread, 127 + spread)))


def random_segments(rng: np.random.Generator, count: int) -> list[Segment]:
    segments = []
    for _ in range(count):
        kind = Reduce(int(rng.integers(len(Reduce))))
        x = numbers(rng, int(rng.choice([1, 2, 3, 5, 8, 31, 32, 33, 40, 64, 77, 130])))
        if rng.random() < 0.3:
            # Equal elements: the first one counts.
            x = rng.choice(x[:3], len(x))
        start = operands.bits(rng.choice(np.concatenate([x, numbers(rng, 1, 9), np.float32([-np.inf, 0])]), 1))[0]
        flags = rng.integers(0, 2, 2).astype(bool)
        start_index, index = rng.integers(0, 1 << 32, 2)
        segments.append(Segment(kind, x, bool(flags[0]), bool(flags[1]), int(start), int(start_index), int(index)))
    return segments


@pytest.mark.parametrize("stalls", [False, True], ids=["full", "stalls"])
@pytest.mark.parametrize("width", WIDTHS)
def test_equals_the_specification(width: int, stalls: bool, rng: np.random.Generator) -> None:
    run(width, random_segments(rng, 40), rng if stalls else None)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_length_of_a_sum(width: int, rng: np.random.Generator) -> None:
    run(width, [Segment(Reduce.SUM, numbers(rng, n)) for n in range(1, 70, 3)])


@pytest.mark.parametrize("width", WIDTHS)
def test_corners(width: int, rng: np.random.Generator) -> None:
    corners = floats.flush(operands.floats(operands.signed_corners()))
    finite = corners[np.isfinite(corners)]
    segments = [
        Segment(kind, rng.permutation(x)) for kind in Reduce for x in (corners, finite, finite) if kind is not Reduce.NONE
    ]
    # Both infinities; what is all negative; a zero's sign; a start that is subnormal, or a NaN's bits.
    segments += [
        Segment(kind, np.float32([-np.inf, np.inf, 1])) for kind in (Reduce.SUM, Reduce.ARGMAX, Reduce.ABSOLUTE_MAXIMUM)
    ]
    segments += [Segment(kind, np.float32([-3, -np.inf, -2, -2])) for kind in (Reduce.MAXIMUM, Reduce.ARGMAX)]
    for start in (0x0000_0001, 0x8000_0000, 0x8000_0001, 0xFFC0_0000, 0x7FC0_0000):
        for kind in (Reduce.SUM, Reduce.MAXIMUM, Reduce.ARGMAX):
            segments.append(Segment(kind, np.float32([0, -1]), kind is Reduce.MAXIMUM, True, start, 7))
    run(width, segments)


@pytest.mark.parametrize("width", WIDTHS)
def test_cycles_between_segments(width: int, rng: np.random.Generator) -> None:
    def distances(segment: Segment) -> set[int]:
        return set(run(width, [segment] * 3))

    assert distances(Segment(Reduce.NONE, numbers(rng, 9))) == {1}
    maximum = {1: 3, 2: 3, 4: 4}[width]
    for kind in (Reduce.MAXIMUM, Reduce.ABSOLUTE_MAXIMUM, *_ARGMAX):
        assert distances(Segment(kind, numbers(rng, 9))) == {maximum + 2}
    total = {1: 69, 2: 61, 4: 57}[width]
    units = Maximum(width), Total(width)
    assert [unit.latency for unit in units] == [maximum, total]
    for unit in units:
        Fragment.get(unit, platform=None)
    assert distances(Segment(Reduce.SUM, numbers(rng, 9))) == {1 if width == 4 else total + 2}
    # What is no sum waits for one.
    mixed = [Segment(Reduce.SUM, numbers(rng, 9)), Segment(Reduce.MAXIMUM, numbers(rng, 9))]
    assert run(width, mixed) == [total + 2]
    assert distances(Segment(Reduce.SUM, numbers(rng, 9), resume=True)) == {total + 2 + FloatAdd.latency + 2}


@pytest.mark.parametrize("words", [1, 2, 40, 46, 47, 48, 49, 57, 58, 66, 130])
def test_sums_follow_each_other(words: int, rng: np.random.Generator) -> None:
    """A word is taken in each cycle that the fold of the sum before leaves, and the last one when that one's result was taken."""
    total = Total(4)
    free = [cycle for cycle in range(1, 500) if cycle not in total.reserved]
    distance = max(free[words - 1], total.latency + 1)
    kinds = rng.choice([Reduce.SUM, Reduce.SUM_OF_SQUARES], 5)
    segments = [Segment(Reduce(kind), numbers(rng, 4 * words - n), bool(n % 2)) for n, kind in enumerate(kinds[:4])]
    ends, _ = run_cycles(4, segments)
    assert set(np.diff(ends)) == {distance}


@pytest.mark.parametrize("stalls", [False, True], ids=["full", "stalls"])
def test_random_sums_follow_each_other(stalls: bool, rng: np.random.Generator) -> None:
    kinds = [Reduce.SUM, Reduce.SUM_OF_SQUARES]
    segments = [
        Segment(Reduce(int(rng.choice(kinds))), numbers(rng, int(rng.choice([1, 5, 32, 77, 190, 260]))), bool(rng.integers(2)))
        for _ in range(30)
    ]
    run(4, segments, rng if stalls else None)


def test_refuses_other_widths() -> None:
    with pytest.raises(ValueError, match=r"^word_elements must be one of \(1, 2, 4\), not 3$"):
        check_word_elements(3)
