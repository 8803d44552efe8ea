"""The elementwise unit against the text of the commands, bit for bit."""

import random
from typing import Any

import numpy as np
import pytest

from tailrace.hdl.float.maximum import Maximum
from tailrace.hdl.float.total import Total
from tailrace.hdl.vector.elementwise import Elementwise
from tailrace.hdl.vector.pipeline import ElementwisePipeline
from tailrace.spec.commands import float_bits
from tailrace.spec.config import Config
from tailrace.spec.floats import Function
from tailrace.spec.isa import Combine, Multiplier, Opcode, Reduce, Target

from ..widths import SOME_WIDTHS, WIDTHS
from .elementwise_bench import Bench
from .elementwise_model import Case, Model, draw_elementwise, draw_floats, draw_rotate

NOTHING = np.zeros(0, dtype=np.float32)
OVERHEAD = Elementwise.overhead
IDENTITY_OVERHEAD = Elementwise.identity_overhead


def config(bus_width: int, right_hand_sides: int = 1, vector_width: int = 0) -> Config:
    return Config("test", bus_width, right_hand_sides, vector_blocks=64, buffer_entries=1024, vector_width=vector_width)


def filled(shape: Config, seed: int = 1) -> Model:
    model = Model(shape)
    model.write(0, draw_floats(random.Random(seed), shape.buffer_entries))
    return model


def elementwise(streamed: Any = NOTHING, **fields: int) -> Case:
    """A command that leaves 64 elements as they are."""
    one = float_bits(1.0)
    default = {"b": 256, "d": 512, "r": 1000, "count": 64, "segments": 1, "p": one, "m": one}
    return Case(Opcode.ELEMENTWISE, default | {f"{n}_stride": 64 for n in "abd"} | fields, streamed)


def random_commands(bus_width: int, vector_width: int, seed: int, stalls: bool, count: int) -> None:
    rng = random.Random(seed)
    shape = config(bus_width, {128: 1, 256: 2, 512: 4}[bus_width], vector_width)
    cases = [(draw_rotate if rng.random() < 0.15 else draw_elementwise)(rng, shape) for _ in range(count)]
    Bench(shape, seed if stalls else None).run(cases, filled(shape, seed))


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize(("bus_width", "vector_width"), WIDTHS)
def test_random_commands(bus_width: int, vector_width: int, stalls: bool) -> None:
    random_commands(bus_width, vector_width, bus_width + 7 * vector_width + stalls, stalls, 25)


@pytest.mark.slow
@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize(("bus_width", "vector_width"), WIDTHS)
def test_many_random_commands(bus_width: int, vector_width: int, stalls: bool) -> None:
    random_commands(bus_width, vector_width, 10 * bus_width + 70 * vector_width + stalls, stalls, 300)


def test_every_choice() -> None:
    """Every way to combine, function, multiplier and reduction, each with plain values of the others."""
    rng = random.Random(1)
    shape = config(256)
    choices = [
        *({"combine": way, "q": float_bits(0.25)} for way in Combine),
        *({"function": function} for function in Function),
        *({"multiplier": multiplier, "n": float_bits(-3.5)} for multiplier in Multiplier),
        *({"reduce": reduce, "reduce_u": 1, "target": Target.NONE} for reduce in Reduce),
        *({"reduce": reduce, "resume": 1, "index": 7, "r": 1001} for reduce in Reduce),
    ]
    cases = []
    for choice in choices:
        streamed = draw_floats(rng, 32) if choice.get("multiplier") == Multiplier.STREAM else NOTHING
        cases.append(elementwise(streamed, **{"count": 19, "target": Target.BUFFER} | choice))
    Bench(shape).run(cases, filled(shape))


@pytest.mark.parametrize(("bus_width", "vector_width"), SOME_WIDTHS)
def test_the_largest_ones_of_a_vector(bus_width: int, vector_width: int) -> None:
    """Segments of one vector, each of which sees what the ones before it removed: the experts of a router."""
    shape = config(bus_width, vector_width=vector_width)
    model = filled(shape)
    values = np.array([3, -1, 7, 7, 2, 9, -4, 0, 5, 8], dtype=np.float32)
    model.write(40, values)
    case = elementwise(a=40, a_stride=0, count=len(values), segments=4, reduce=Reduce.ARGMAX_REMOVE, r=501)
    Bench(shape).run([case], model)
    assert model.read(501, 8)[::2].tolist() == [9, 8, 7, 7]
    assert model.bits[501:509][1::2].tolist() == [5, 9, 2, 3]


def test_what_is_removed_has_been_written_before() -> None:
    """Also when the reduction is of u, and so known before v is written."""
    shape = config(512)
    model = filled(shape)
    model.write(40, np.array([3, 9, 7], dtype=np.float32))
    case = elementwise(a=40, d=40, count=3, target=Target.BUFFER, reduce=Reduce.ARGMAX_REMOVE, reduce_u=1)
    Bench(shape).run([case], model)
    assert model.read(40, 3).tolist() == [3, -np.inf, 7]


@pytest.mark.parametrize(("bus_width", "vector_width"), SOME_WIDTHS)
def test_cycles(bus_width: int, vector_width: int) -> None:
    """One word a cycle, and no gap between segments but for scalars, the streams' padding, and reductions."""
    shape = config(bus_width, vector_width=vector_width)
    elements = shape.word_elements
    words = 64 // elements
    streamed = draw_floats(random.Random(1), 192)
    table = {"a": 0, "d": 512, "table": 256, "count": 32, "a_stride": 64, "d_stride": 64}
    # The reduction and the register behind it, for each segment; and the register before it, once.
    maximum, total, before = Maximum(elements).latency + 1, Total(elements).latency + 1, 1
    # Until the last word of three sums is taken: with a whole fold between them, or while it goes on.
    short, long = (3 * count // elements + 2 * total for count in (64, 400))
    if Total(elements).overlaps:
        short, long = words + 2 * total, 3 * 400 // elements + 2 * len(Total(elements).reserved)
    expected = [
        (elementwise(target=Target.BUFFER), words + IDENTITY_OVERHEAD),
        (elementwise(target=Target.BUFFER, function=Function.EXP), words + OVERHEAD),
        (elementwise(target=Target.BUFFER, segments=3), 3 * words + IDENTITY_OVERHEAD),
        (elementwise(target=Target.BUFFER, count=1), 1 + IDENTITY_OVERHEAD),
        (elementwise(target=Target.BUFFER, load=15, segments=2), 2 * words + 2 + IDENTITY_OVERHEAD),
        (elementwise(target=Target.BUFFER, load=15, advance=15, segments=2), 2 * words + 4 + IDENTITY_OVERHEAD),
        (elementwise(streamed[:64], target=Target.BUFFER, n_stream=1), words + IDENTITY_OVERHEAD),
        (Case(Opcode.ROTATE, table | {"segments": 1}, NOTHING), 2 * 32 // elements + 1 + IDENTITY_OVERHEAD),
        (Case(Opcode.ROTATE, table | {"segments": 3}, NOTHING), 3 * (2 * 32 // elements + 1) + IDENTITY_OVERHEAD),
        (elementwise(reduce=Reduce.MAXIMUM), words + maximum + before + IDENTITY_OVERHEAD),
        (elementwise(reduce=Reduce.MAXIMUM, segments=3), 3 * (words + maximum) + before + IDENTITY_OVERHEAD),
        (elementwise(reduce=Reduce.SUM), words + total + before + IDENTITY_OVERHEAD),
        (elementwise(reduce=Reduce.SUM, segments=3), short + total + before + IDENTITY_OVERHEAD),
        (elementwise(reduce=Reduce.SUM, segments=3, count=400), long + total + before + IDENTITY_OVERHEAD),
        (
            elementwise(reduce=Reduce.SUM, reduce_u=1),
            words + total + before + IDENTITY_OVERHEAD - ElementwisePipeline.tail_latency,
        ),
    ]
    bench = Bench(shape)
    bench.run([case for case, _ in expected], filled(shape))
    assert bench.cycles == [cycles for _, cycles in expected]


@pytest.mark.parametrize(("bus_width", "after"), [(128, 1), (128, 30), (256, 4), (512, 41)])
def test_after_a_flush_it_starts_afresh(bus_width: int, after: int) -> None:
    rng = random.Random(after)
    shape = config(bus_width)
    flushed = elementwise(
        **{"target": Target.BUFFER, "reduce": Reduce.ARGMAX, "segments": 3, "load": 15, "a": 100, "b": 400, "count": 64}
    )
    cases = [draw_elementwise(rng, shape), draw_rotate(rng, shape)]
    Bench(shape).run(cases, filled(shape), flushed=flushed, after=after)
