import numpy as np
import pytest

from tailrace.golden.cache import MatrixCache
from tailrace.golden.stream import Matrix, unpack
from tailrace.spec.formats import BY_NAME

KEY = (64, 4, 2, 0)


@pytest.fixture
def matrix() -> Matrix:
    weight_format = BY_NAME["Q8_0"]
    return unpack(np.zeros(weight_format.matrix_bytes(4, 2, 1), dtype=np.uint8), weight_format, 4, 2, 1)


@pytest.fixture
def cache() -> MatrixCache:
    return MatrixCache(1 << 20, 1 << 16)


WRITES = [(0, 64, True), (64, 65, False), (191, 300, False), (192, 300, True), (0, 999, False)]


@pytest.mark.parametrize(("start", "end", "kept"), WRITES)
def test_the_host_writes_over_what_it_overlaps(cache: MatrixCache, matrix: Matrix, start: int, end: int, kept: bool) -> None:
    cache.put(KEY, 192, matrix)
    cache.put((1024, 4, 2, 0), 1152, matrix)
    cache.written_by_host(start, end)
    assert (cache.get(KEY) is matrix) == kept
    assert cache.get((1024, 4, 2, 0)) is matrix


def test_nothing_is_kept_where_the_device_writes(cache: MatrixCache, matrix: Matrix) -> None:
    """In its page, until the host has overwritten that as a whole."""
    cache.written_by_device(np.array([1000]))
    for again in (False, True):
        cache.put(KEY, 192, matrix)
        cache.put((4096, 4, 2, 0), 4224, matrix)
        assert cache.get(KEY) is None
        assert cache.get((4096, 4, 2, 0)) is matrix
        if not again:
            cache.written_by_host(1, 4096)
    cache.written_by_host(0, 4096)
    cache.put(KEY, 192, matrix)
    assert cache.get(KEY) is matrix


@pytest.mark.parametrize(
    ("start", "end", "kept"),
    [(2999, 3001, True), (4090, 4155, False), (4096, 4097, False), (8191, 8192, False), (8192, 9000, True)],
)
def test_the_device_writes_to_a_page_of_a_matrix(cache: MatrixCache, matrix: Matrix, start: int, end: int, kept: bool) -> None:
    cache.put((4096, 4, 2, 0), 8192, matrix)
    cache.written_by_device(np.arange(start, end, 64))
    assert (cache.get((4096, 4, 2, 0)) is matrix) == kept


def test_other_keys_are_other_matrices(cache: MatrixCache, matrix: Matrix) -> None:
    cache.put(KEY, 192, matrix)
    assert cache.get((64, 2, 4, 0)) is None


def test_a_full_cache_keeps_what_it_has(matrix: Matrix) -> None:
    cache = MatrixCache(2 * matrix.nbytes, 1 << 16)
    for address in (0, 1024, 2048):
        cache.put((address, 4, 2, 0), address + 128, matrix)
    assert [cache.get((address, 4, 2, 0)) is matrix for address in (0, 1024, 2048)] == [True, True, False]
    cache.written_by_host(0, 1)
    cache.put((2048, 4, 2, 0), 2176, matrix)
    assert [cache.get((address, 4, 2, 0)) is matrix for address in (0, 1024, 2048)] == [False, True, True]
