import numpy as np
import pytest

from tailrace.golden.cache import MatrixCache
from tailrace.golden.stream import Matrix, unpack
from tailrace.spec.formats import BY_NAME


@pytest.fixture
def matrix() -> Matrix:
    weight_format = BY_NAME["Q8_0"]
    return unpack(np.zeros(weight_format.matrix_bytes(4, 2, 1), dtype=np.uint8), weight_format, 4, 2, 1)


@pytest.mark.parametrize(
    ("start", "end", "kept"), [(0, 64, True), (64, 65, False), (191, 300, False), (192, 300, True), (0, 999, False)]
)
def test_a_write_forgets_what_it_overlaps(matrix: Matrix, start: int, end: int, kept: bool) -> None:
    cache = MatrixCache(1 << 20)
    cache.put((64, 4, 2, 0), 192, matrix)
    cache.put((1024, 4, 2, 0), 1152, matrix)
    cache.invalidate(start, end)
    assert (cache.get((64, 4, 2, 0)) is matrix) == kept
    assert cache.get((1024, 4, 2, 0)) is matrix


def test_other_keys_are_other_matrices(matrix: Matrix) -> None:
    cache = MatrixCache(1 << 20)
    cache.put((64, 4, 2, 0), 192, matrix)
    assert cache.get((64, 2, 4, 0)) is None


def test_a_full_cache_keeps_what_it_has(matrix: Matrix) -> None:
    cache = MatrixCache(2 * matrix.nbytes)
    for address in (0, 1024, 2048):
        cache.put((address, 4, 2, 0), address + 128, matrix)
    assert [cache.get((address, 4, 2, 0)) is matrix for address in (0, 1024, 2048)] == [True, True, False]
    cache.invalidate(0, 1)
    cache.put((2048, 4, 2, 0), 2176, matrix)
    assert [cache.get((address, 4, 2, 0)) is matrix for address in (0, 1024, 2048)] == [False, True, True]
