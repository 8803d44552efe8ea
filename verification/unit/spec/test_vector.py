import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tailrace.spec.vector import ALIGNMENT, pack_vector, unpack_vector, vector_bytes


@given(st.integers(1, 300), st.integers(-32768, 32767), st.integers(0, 2**32 - 1))
def test_round_trip(blocks: int, base: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    exponents = rng.integers(0, 32, blocks).astype(np.uint8)
    mantissas = rng.integers(-32768, 32768, (blocks, 32)).astype(np.int16)
    image = pack_vector(base, exponents, mantissas)
    assert len(image) == vector_bytes(blocks)
    assert len(image) % ALIGNMENT == 0
    back = unpack_vector(image, blocks)
    assert back[0] == base
    assert np.array_equal(back[1], exponents)
    assert np.array_equal(back[2], mantissas)


def test_layout() -> None:
    """Header, exponents and mantissas, each from a multiple of 64 on, zeros between them."""
    image = pack_vector(-2, np.array([3, 31], dtype=np.uint8), np.arange(64, dtype=np.int16).reshape(2, 32) - 5)
    assert image[:64] == b"\xfe\xff" + bytes(62)
    assert image[64:128] == b"\x03\x1f" + bytes(62)
    assert image[128:132] == b"\xfb\xff\xfc\xff"
    assert image[128:] == (np.arange(64) - 5).astype("<i2").tobytes()


def test_sizes() -> None:
    assert [vector_bytes(blocks) for blocks in (1, 64, 65)] == [192, 64 * 66, 64 * 68]


def test_only_five_bits_of_an_exponent_count() -> None:
    image = bytearray(pack_vector(0, np.array([5], dtype=np.uint8), np.zeros((1, 32), dtype=np.int16)))
    image[64] |= 0xE0
    assert unpack_vector(bytes(image), 1)[1].tolist() == [5]
