"""Products equal those of Python's integers, bit for bit, whatever the scales."""

import itertools

import numpy as np
import pytest

from tailrace.golden import dot as golden_dot
from tailrace.golden.dot import Vector, multiply
from tailrace.golden.stream import Matrix, unpack
from tailrace.spec.formats import BY_NAME, FORMATS, Format, ScaleKind
from tailrace.spec.numerics import round_to_float32
from verification.unit.golden.packing import UNITS, Weights, pack, random_weights, unit_bytes
from verification.unit.golden.reference import dot, integer_weights

#: Exponent fields of scales: usual, subnormal, beside them, all there are, those that mean infinity elsewhere.
SCALES = {"usual": (5, 9), "subnormal": (0, 0), "near subnormal": (0, 2), "all": (0, 30), "largest": (29, 31)}
#: Exponents of blocks of x: equal, usual, all there are.
SHIFTS = {"equal": (20, 20), "usual": (22, 31), "all": (0, 31)}


def random_vector(rng: np.random.Generator, blocks: int, shifts: tuple[int, int]) -> Vector:
    return Vector(
        int(rng.integers(-172, 84)),
        rng.integers(shifts[0], shifts[1] + 1, blocks).astype(np.uint8),
        rng.integers(-32768, 32768, (blocks, 32)).astype(np.int16),
    )


def unpacked(weights: Weights, lanes: int = 1) -> Matrix:
    return unpack(np.frombuffer(pack(weights, lanes), dtype=np.uint8), weights.format, weights.rows, weights.blocks, lanes)


def expected(weights: Weights, vectors: list[Vector]) -> np.ndarray:
    return np.array([dot(weights, v.base, v.exponents, v.mantissas) for v in vectors], dtype=np.uint32).T


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("shifts", SHIFTS)
def test_equals_python_integers(rng: np.random.Generator, weight_format: Format, scales: str, shifts: str) -> None:
    for rows, blocks, lanes, slots in ((1, 1, 1, 1), (5, 3, 4, 2), (11, 17, 2, 4), (7, 8, 1, 1)):
        blocks = -(-blocks // weight_format.row_blocks) * weight_format.row_blocks
        weights = random_weights(rng, weight_format, rows, blocks, SCALES[scales])
        vectors = [random_vector(rng, blocks, SHIFTS[shifts]) for _ in range(slots)]
        assert np.array_equal(multiply(unpacked(weights, lanes), vectors), expected(weights, vectors)), (rows, blocks, lanes)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_number_of_limbs_gives_the_same(rng: np.random.Generator, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights(rng, BY_NAME["Q4_1"], 9, 5, (7, 8))
    vectors = [random_vector(rng, 5, (30, 31))]
    assert np.array_equal(multiply(unpacked(weights), vectors), expected(weights, vectors))
    monkeypatch.setattr(golden_dot, "_limbs", lambda limit: count)
    assert np.array_equal(multiply(unpacked(weights), vectors), expected(weights, vectors))


def test_limbs_are_as_many_as_the_sum_needs() -> None:
    """A limb holds sums and their partial sums below 2**53; each further one adds 40 bits."""
    limits = (0.98 * 2.0**52, 2.0**52, 0.98 * 2.0**92, 2.0**92)
    assert [golden_dot._limbs(limit) for limit in limits] == [1, 2, 2, 3]


@pytest.mark.parametrize("tile", [1, 3, 64])
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda f: f.name)
def test_tiles_do_not_show(rng: np.random.Generator, weight_format: Format, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights(rng, weight_format, 10, 16, SCALES["all"])
    vectors = [random_vector(rng, 16, SHIFTS["all"]) for _ in range(2)]
    whole = multiply(unpacked(weights), vectors)
    monkeypatch.setattr(golden_dot, "TILE", tile)
    assert np.array_equal(multiply(unpacked(weights), vectors), whole)


def uniform(weight_format: Format, blocks: int, code: int, scale: bytes, subscale: int) -> Weights:
    """One row of equal codes and scales."""
    shape = (1, blocks * weight_format.planes)
    served, _ = UNITS[weight_format.scale_kind]
    scales = np.tile(np.frombuffer(scale, dtype=np.uint8), (1, shape[1] // served, 1))
    codes = np.full((*shape, weight_format.block_elements), code)
    return Weights(weight_format, codes, scales, np.full((*shape, 2), subscale, dtype=np.int8))


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize(("exponent", "shift"), [(31, 31), (0, 0)])
@pytest.mark.parametrize("mantissa", [-32768, 32767])
def test_largest_operands(weight_format: Format, exponent: int, shift: int, mantissa: int) -> None:
    """All operands at their limits, in the longest row: nothing overflows and no integer is rounded on the way."""
    blocks = 4096
    bits = 4 * weight_format.nibble_beats + weight_format.high_bits
    signed = bits == 8 or weight_format.scale_kind is ScaleKind.UNIT
    code = -128 if signed else (1 << bits) - 1 if weight_format.has_minimum else 0
    if weight_format.codebook:
        code = int(np.argmax(np.abs(weight_format.codebook)))
    scale = (exponent << 10 | 1023).to_bytes(2, "little") * 2 + b"\xff" * 12
    if weight_format.scale_kind is ScaleKind.EXPONENT:
        scale = bytes([min(exponent, 30)])
    elif weight_format.scale_kind is ScaleKind.SIGNED_SUPERBLOCK:
        # Subscales of -32.
        scale = scale[:2] + bytes(6)
    # A byte of two nibbles where there are minima: the largest of both.
    subscale = -1 if weight_format.has_minimum else -128
    weights = uniform(weight_format, blocks, code, scale[: unit_bytes(weight_format)], subscale)
    vector = Vector(-100, np.full(blocks, shift, dtype=np.uint8), np.full((blocks, 32), mantissa, dtype=np.int16))
    block = sum(integer_weights(weights)[0][0])
    assert multiply(unpacked(weights), [vector]).item() == round_to_float32(blocks * block * mantissa << shift, -100 - 24)


Q8_0 = BY_NAME["Q8_0"]


def q8_0(scales: list[int], first: int) -> Weights:
    """A row of blocks with one code that is not zero."""
    codes = np.zeros((1, len(scales), 32), dtype=np.int64)
    codes[..., 0] = first
    data = np.array([scales], dtype="<u2").view(np.uint8).reshape(1, -1, 2)
    return Weights(Q8_0, codes, data, np.zeros((1, len(scales), 2), dtype=np.int8))


def test_one_small_term_survives_cancellation() -> None:
    """Two huge terms cancel, and what is left is the smallest term that there is: 2**61 below them, and more."""
    mantissas = np.zeros((3, 32), dtype=np.int16)
    mantissas[:, 0] = 32767, 1, 32767
    vector = Vector(20, np.array([31, 0, 31], dtype=np.uint8), mantissas)
    weights = q8_0([30 << 10, 0x0001, 30 << 10 | 0x8000], 1)
    assert multiply(unpacked(weights), [vector]).view(np.float32).item() == 2.0 ** (20 - 24)


@pytest.mark.parametrize(("last", "result"), [(-1, 1 << 24), (0, 1 << 24), (1, (1 << 24) + 2)])
def test_ties_are_decided_by_the_last_bit(last: int, result: int) -> None:
    """A tie, and beside it the smallest term there is: more than 53 bits apart, so that rounding twice would be wrong."""
    mantissas = np.zeros((3, 32), dtype=np.int16)
    mantissas[:, 0] = 1 << 14, 1, last
    # In units of 2**31: 2**24, then 1 (half of the result's last bit), then 2**-31.
    vector = Vector(24 - 31, np.array([31, 21, 0], dtype=np.uint8), mantissas)
    weights = q8_0([1 << 10, 1 << 10, 0x0001], 1)
    assert multiply(unpacked(weights), [vector]).view(np.float32).item() == result


def test_zeros() -> None:
    weights = random_weights(np.random.default_rng(0), BY_NAME["Q4_1"], 3, 2, (0, 30))
    zero = Vector(-172, np.zeros(2, dtype=np.uint8), np.zeros((2, 32), dtype=np.int16))
    assert not multiply(unpacked(weights), [zero]).any()
    empty = Weights(weights.format, weights.codes, np.zeros_like(weights.scales), weights.subscales)
    assert not multiply(unpacked(empty), [random_vector(np.random.default_rng(0), 2, (0, 31))]).any()


def test_out_of_float32_range() -> None:
    """Too small becomes +0, too large infinity with its sign."""
    weights = Weights(
        BY_NAME["Q8_0"], np.full((2, 1, 32), 1), np.array([[0x7BFF], [0xFBFF]], dtype=np.uint16), np.zeros((2, 1), np.uint16)
    )
    ones = np.full((1, 32), 32767, dtype=np.int16)
    for base, bits in (
        (83, [0x7F80_0000, 0xFF80_0000]),
        (-172 - 31, [0, 0]),
        (32767, [0x7F80_0000, 0xFF80_0000]),
        (-32768, [0, 0]),
    ):
        assert multiply(unpacked(weights), [Vector(base, np.array([31], np.uint8), ones)]).reshape(-1).tolist() == bits


def test_order_of_blocks_does_not_matter(rng: np.random.Generator) -> None:
    weights = random_weights(rng, BY_NAME["Q5_0"], 4, 6, (0, 30))
    vector = random_vector(rng, 6, (0, 31))
    whole = multiply(unpacked(weights), [vector])
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 90):
        at = list(order)
        shuffled = Weights(weights.format, weights.codes[:, at], weights.scales[:, at], weights.subscales[:, at])
        turned = Vector(vector.base, vector.exponents[at], vector.mantissas[at])
        assert np.array_equal(multiply(unpacked(shuffled), [turned]), whole)
