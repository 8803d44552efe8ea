"""Products equal those of Python's integers, bit for bit, whatever the scales."""

import numpy as np
import pytest

from tailrace.golden.dot import Vector, multiply
from tailrace.golden.stream import unpack
from tailrace.spec.formats import FORMATS, Format
from verification.unit.golden.packing import pack, random_weights
from verification.unit.golden.reference import dot

#: Exponent fields of scales: usual, subnormal, one only, all there are.
SCALES = {"usual": (5, 9), "subnormal": (0, 0), "near_subnormal": (0, 2), "all": (0, 30), "infinite": (29, 31)}
#: Exponents of blocks of x: equal, usual, all there are.
SHIFTS = {"equal": (20, 20), "usual": (22, 31), "all": (0, 31)}


def random_vector(rng: np.random.Generator, blocks: int, shifts: tuple[int, int]) -> Vector:
    return Vector(
        int(rng.integers(-172, 84)),
        rng.integers(shifts[0], shifts[1] + 1, blocks).astype(np.uint8),
        rng.integers(-32768, 32768, (blocks, 32)).astype(np.int16),
    )


@pytest.mark.parametrize("weights", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("shifts", SHIFTS)
def test_equals_python_integers(weights: Format, scales: str, shifts: str) -> None:
    seed = abs(hash((weights.number, *SCALES[scales], *SHIFTS[shifts]))) % 1000
    rng = np.random.default_rng(seed)
    for rows, blocks, lanes, slots in ((1, 1, 1, 1), (5, 3, 4, 2), (11, 17, 2, 4), (7, 8, 1, 1)):
        source = random_weights(rng, weights, rows, blocks, SCALES[scales])
        vectors = [random_vector(rng, blocks, SHIFTS[shifts]) for _ in range(slots)]
        matrix = unpack(np.frombuffer(pack(source, lanes), dtype=np.uint8), weights, rows, blocks, lanes)
        expected = np.array([dot(source, v.base, v.exponents, v.mantissas) for v in vectors], dtype=np.uint32).T
        assert np.array_equal(multiply(matrix, vectors), expected), f"{rows=} {blocks=} {lanes=} {slots=} {seed=}"
