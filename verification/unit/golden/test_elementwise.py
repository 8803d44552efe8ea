"""The vectorised commands give the bits of one number after the other."""

from itertools import product

import numpy as np
import pytest

from tailrace.golden.buffer import ActivationBuffer
from tailrace.golden.elementwise import elementwise, rotate, stream_elements, stream_units
from tailrace.spec.commands import float_bits
from tailrace.spec.floats import Function
from tailrace.spec.isa import FIELDS, Combine, Multiplier, Opcode, Reduce, Target
from verification.unit.golden import elementwise_reference as reference

ENTRIES = 1024
NEUTRAL = {"p": float_bits(1), "m": float_bits(1)}


def fields_of(opcode: Opcode = Opcode.ELEMENTWISE, **values: int) -> dict[str, int]:
    neutral = NEUTRAL if opcode is Opcode.ELEMENTWISE else {}
    return {f.name: 0 for f in FIELDS[opcode]} | {"segments": 1} | neutral | values


def random_buffer(rng: np.random.Generator) -> ActivationBuffer:
    buffer = ActivationBuffer(ENTRIES)
    x = rng.standard_normal(ENTRIES) * 2.0 ** rng.integers(-3, 4, ENTRIES)
    x[rng.random(ENTRIES) < 0.2] = np.round(x[0])
    buffer.bits[:] = x.astype(np.float32).view(np.uint32)
    special = rng.random(ENTRIES) < 0.02
    buffer.bits[special] = rng.choice([0, 1, 1 << 31, 0x7F80_0000, 0xFF80_0000, 0x7F7F_FFFF, 0x0080_0000], special.sum())
    return buffer


def check(rng: np.random.Generator, buffer: ActivationBuffer, fields: dict[str, int]) -> None:
    entries = [int(bits) for bits in buffer.bits]
    stream = rng.standard_normal(16 * stream_units(fields)).astype(np.float32)
    elements = stream_elements(stream.view(np.uint8), fields) if stream.size else None
    with np.errstate(all="ignore"):
        v = elementwise(buffer, fields, elements)
        expected = reference.elementwise(entries, fields, stream.view(np.uint32).tolist())
    assert v.view(np.uint32).tolist() == expected, fields
    assert buffer.bits.tolist() == entries, fields


@pytest.mark.parametrize(("combine", "function"), list(product(Combine, Function)))
def test_first_stages(rng: np.random.Generator, combine: Combine, function: Function) -> None:
    for multiplier in Multiplier:
        fields = fields_of(
            combine=combine,
            function=function,
            multiplier=multiplier,
            a=4,
            b=100,
            d=200,
            r=300,
            count=5,
            segments=2,
            a_stride=8,
            b_stride=8,
            d_stride=8,
            target=Target.BUFFER,
            q=float_bits(0.3),
            m=float_bits(-1.7),
            reduce=Reduce.SUM,
        )
        check(rng, random_buffer(rng), fields)


@pytest.mark.parametrize("reduce", Reduce)
@pytest.mark.parametrize(("resume", "reduce_u", "negate"), list(product((0, 1), repeat=3)))
def test_reductions(rng: np.random.Generator, reduce: Reduce, resume: int, reduce_u: int, negate: int) -> None:
    negate = 0 if reduce >= Reduce.ARGMAX else negate
    for count in (1, 33, 70):
        fields = fields_of(
            a=0,
            r=605,
            count=count,
            segments=3,
            a_stride=72,
            reduce=reduce,
            resume=resume,
            reduce_u=reduce_u,
            negate=negate,
            m=float_bits(-1),
            n=float_bits(0.5),
            index=0xFFFF_FFFE,
        )
        check(rng, random_buffer(rng), fields)


@pytest.mark.parametrize("load", range(16))
def test_scalars_from_the_buffer(rng: np.random.Generator, load: int) -> None:
    for combine in (Combine.SCALE, Combine.SUM):
        advance = int(rng.integers(16))
        places = {name: 500 + 10 * i + (0xABCD << 16) for i, name in enumerate("pqmn") if load >> i & 1}
        fields = fields_of(load=load, advance=advance, combine=combine, a=0, b=64, count=3, segments=4, a_stride=4, b_stride=0)
        check(rng, random_buffer(rng), fields | {"target": Target.BUFFER, "d": 128, "d_stride": 4} | places)


@pytest.mark.parametrize(
    "streams", [{"a_stream": 1}, {"multiplier": 1}, {"n_stream": 1}, {"a_stream": 1, "multiplier": 1, "n_stream": 1}]
)
def test_streamed_operands(rng: np.random.Generator, streams: dict[str, int]) -> None:
    for count in (1, 16, 17):
        fields = fields_of(a=0, d=100, count=count, segments=3, a_stride=20, d_stride=20, target=Target.BUFFER, **streams)
        assert stream_units(fields) == 3 * -(-count // 16)
        check(rng, random_buffer(rng), fields)


def test_places_that_wrap_around_and_results_in_the_place_of_an_operand(rng: np.random.Generator) -> None:
    for d in ("a", "b"):
        fields = fields_of(combine=Combine.PRODUCT, a=1000, b=1020, count=11, segments=2, a_stride=12, b_stride=60, r=1023)
        fields |= {"d": fields[d], "d_stride": fields[f"{d}_stride"], "target": Target.BUFFER, "reduce": Reduce.ARGMAX}
        fields |= {"r": 600}
        check(rng, random_buffer(rng), fields)
    check(rng, random_buffer(rng), fields_of(a=0, count=9, reduce=Reduce.ARGMAX, r=1023))


def test_argmax_remove_finds_one_after_the_other(rng: np.random.Generator) -> None:
    """As a router of experts does: several segments over the same operand."""
    buffer = ActivationBuffer(ENTRIES)
    x = rng.permutation(40).astype(np.float32)
    buffer.bits[16:56] = x.view(np.uint32)
    fields = fields_of(a=16, count=40, segments=6, a_stride=0, r=100, reduce=Reduce.ARGMAX_REMOVE, index=7)
    elementwise(buffer, fields, None)
    found = buffer.bits[100:112].reshape(6, 2)
    order = np.argsort(-x)[:6]
    assert found[:, 1].tolist() == (order + 7).tolist()
    assert found[:, 0].view(np.float32).tolist() == [39, 38, 37, 36, 35, 34]
    left = buffer.bits[16:56].view(np.float32)
    assert np.isneginf(left[order]).all()
    assert np.isfinite(np.delete(left, order)).all()


def test_of_equal_values_the_first_counts() -> None:
    buffer = ActivationBuffer(ENTRIES)
    buffer.bits[:6] = np.array([1, 3, 2, 3, 0, 3], dtype=np.float32).view(np.uint32)
    elementwise(buffer, fields_of(a=0, count=6, r=100, reduce=Reduce.ARGMAX), None)
    assert buffer.bits[101] == 1
    elementwise(buffer, fields_of(a=3, count=3, r=100, reduce=Reduce.ARGMAX, resume=1, index=3), None)
    assert buffer.bits[101] == 1


@pytest.mark.parametrize("segments", [1, 3])
def test_random_fields(rng: np.random.Generator, segments: int) -> None:
    for _ in range(60):
        count = int(rng.integers(1, 12))
        reduce = int(rng.integers(7))
        values = {name: float_bits(float(rng.normal())) for name in "pqmn"}
        fields = fields_of(
            combine=int(rng.integers(3)),
            a_stream=int(rng.integers(2)),
            function=int(rng.integers(6)),
            multiplier=int(rng.integers(4)),
            n_stream=int(rng.integers(2)),
            reduce=reduce,
            reduce_u=int(rng.integers(2)),
            target=int(rng.integers(3)),
            a=0,
            b=100,
            d=200,
            r=int(rng.integers(300, 310)),
            count=count,
            segments=segments,
            a_stride=12,
            b_stride=0,
            d_stride=16,
            **values,
        )
        check(rng, random_buffer(rng), fields)


@pytest.mark.parametrize(("d", "d_stride"), [(1000, 20), (200, 16)])
def test_rotate(rng: np.random.Generator, d: int, d_stride: int) -> None:
    buffer = random_buffer(rng)
    fields = fields_of(Opcode.ROTATE, a=1000, a_stride=20, d=d, d_stride=d_stride, table=500, count=8, segments=3)
    entries = [int(bits) for bits in buffer.bits]
    with np.errstate(all="ignore"):
        rotate(buffer, fields)
        reference.rotate(entries, fields)
    assert buffer.bits.tolist() == entries
