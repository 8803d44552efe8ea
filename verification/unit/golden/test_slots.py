"""Vectors in slots: sets, joined vectors, blocks that fall below the base, places that wrap around."""

import numpy as np
import pytest

from tailrace.golden.dot import Vector
from tailrace.golden.quantiser import Blocks
from tailrace.golden.slots import Slots
from tailrace.spec.config import Config
from tailrace.spec.numerics import dequantise, quantise

CONFIG = Config("test", 128, right_hand_sides=2, vector_blocks=64, buffer_entries=1024)
PLAIN = {"slot": 0, "set": 0, "first_block": 0, "join": 0, "next_slot": 0, "duplicate": 0}


def value(vector: Vector) -> np.ndarray:
    return dequantise(vector.base, vector.exponents, vector.mantissas)


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("first", [0, 5, 62])
def test_a_vector_comes_back(rng: np.random.Generator, first: int) -> None:
    slots = Slots(CONFIG)
    x = floats(rng, 1, 100)
    slots.quantise(x, PLAIN | {"slot": 1, "set": 2, "first_block": first})
    padded = np.concatenate((x[0], np.zeros(28, dtype=np.float32)))
    assert np.array_equal(value(slots.read(2, 2, first, 4)[1]), dequantise(*quantise(padded)))
    assert not slots.read(1, 2, first, 4)[0].mantissas.any()
    middle = value(slots.read(2, 2, (first + 1) % 64, 2)[1])
    assert np.array_equal(middle, dequantise(*quantise(padded))[32:96])


def test_segments_go_to_further_blocks_or_to_further_slots(rng: np.random.Generator) -> None:
    slots = Slots(CONFIG)
    x = floats(rng, 2, 40) * np.array([[1], [1000]], dtype=np.float32)
    zeros = np.zeros((2, 24), dtype=np.float32)
    padded = np.concatenate((x, zeros), axis=1)
    slots.quantise(x, PLAIN)
    assert np.array_equal(value(slots.read(1, 0, 0, 4)[0]), dequantise(*quantise(padded.reshape(-1))))
    slots.quantise(x, PLAIN | {"next_slot": 1})
    for row, vector in zip(padded, slots.read(2, 0, 0, 2), strict=True):
        assert np.array_equal(value(vector), dequantise(*quantise(row)))


def test_joined_vectors_are_as_if_quantised_at_once(rng: np.random.Generator) -> None:
    """Whichever part has the largest element; blocks far below the other part's base become zero, as in one vector."""
    for scales in ((1.0, 2.0**40), (2.0**40, 1.0), (1.0, 3.0)):
        slots = Slots(CONFIG)
        parts = [floats(rng, 1, 64) * np.float32(scale) for scale in scales]
        slots.quantise(parts[0], PLAIN | {"set": 3})
        slots.quantise(parts[1], PLAIN | {"set": 3, "first_block": 2, "join": 1})
        whole = np.concatenate(parts, axis=1)[0]
        assert np.array_equal(value(slots.read(1, 3, 0, 4)[0]), dequantise(*quantise(whole)))


def test_sets_have_bases_of_their_own(rng: np.random.Generator) -> None:
    slots = Slots(CONFIG)
    small, large = floats(rng, 1, 32), floats(rng, 1, 32) * np.float32(2.0**60)
    slots.quantise(small, PLAIN)
    slots.quantise(large, PLAIN | {"set": 1, "first_block": 1})
    assert np.array_equal(value(slots.read(1, 0, 0, 1)[0]), dequantise(*quantise(small[0])))
    assert np.array_equal(value(slots.read(1, 1, 1, 1)[0]), dequantise(*quantise(large[0])))
    assert not slots.read(1, 1, 0, 1)[0].mantissas.any()
    assert slots.differences(0, 1, 0, 2).tolist()[0] < 0


def test_duplicated_blocks(rng: np.random.Generator) -> None:
    slots = Slots(CONFIG)
    x = floats(rng, 1, 20)
    slots.quantise(x, PLAIN | {"duplicate": 1})
    blocks = value(slots.read(1, 0, 0, 2)[0]).reshape(2, 2, 16)
    assert np.array_equal(blocks[:, 0], blocks[:, 1])
    padded = np.concatenate((x[0], np.zeros(12, dtype=np.float32)))
    assert np.allclose(blocks[:, 0].reshape(-1), padded, atol=2.0**-14 * np.abs(padded).max())


def test_written_blocks(rng: np.random.Generator) -> None:
    slots = Slots(CONFIG)
    base, exponents, mantissas = quantise(floats(rng, 96)[:])
    slots.write(0, 0, 63, Blocks(base, exponents.astype(np.int32) + base, mantissas))
    vector = slots.read(1, 0, 63, 3)[0]
    assert (vector.base, vector.exponents.tolist()) == (base, exponents.tolist())
    assert np.array_equal(vector.mantissas, mantissas)
