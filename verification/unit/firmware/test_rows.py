"""Passes that take several rows of a sequence: each row has the bits of its own pass, and so have the caches."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tailrace.firmware.decode import build_program
from tailrace.firmware.description import Description, Layer
from tailrace.firmware.placement import CachePlace
from tailrace.spec.errors import LimitError

from .model import Model, build_of
from .test_decode import FEATURES, FOUR, HEADS, SILU, latent_heads, model_of, random_description

#: Sequences of the rows of each pass: chunks of a prompt, and chunks of two.
CHUNKS = ((0,), (0, 0, 0, 0), (0, 0, 0), (0, 0, 0, 0), (0, 0))
MIXED = ((1,), (0, 0, 1), (0, 1, 1, 1), (1, 0, 0, 1), (0, 1))

NAMES = (
    "llama", "heads of 40", "heads of 8", "heads of 96", "large groups", "head norms", "norms of all heads", "sinks",
    "sinks of many heads, in windows, scores capped", "keys as values, normalised", "keys as values of many heads", "parallel",
    "biases of q, k and v", "window", "windows and tables alternate", "layer norms, learned positions, biases", "experts",
    "a large shared expert with a gate", "groups of experts", "experts apart", "latent attention",
    "latent attention, compressed queries", "embeddings of layers",
)  # fmt: skip


def memory_of_caches(model: Model) -> list[bytes]:
    """All that sequences have in memory, layer after layer."""
    kept = []
    for caches, layer in ((c, n) for c in model.placement.caches for n in range(len(c))):
        place, heads = caches[layer], model.description.layers[layer].attention.kv_heads
        assert isinstance(place, CachePlace)
        for address, stride in zip(place.addresses, (place.key_stride, place.value_stride, place.scale_stride), strict=True):
            kept.append(model.device.read(address, heads * stride))
    return kept


def compare(description: Description, passes: tuple[tuple[int, ...], ...], seed: int = 0, **options: Any) -> None:
    one, several = (Model(description, FOUR, seed=seed, batch=4, **options) for _ in range(2))
    programs = {
        rows: build_program(description, one.placement, build_of(FOUR), rows=rows) for rows in {*passes, (0,), (1,)}
    }
    rng, positions = np.random.default_rng(seed), [0, 0]
    for rows in passes:
        tokens = rng.integers(0, description.vocabulary, len(rows)).tolist()
        at = []
        for sequence in rows:
            at.append(positions[sequence])
            positions[sequence] += 1
        padding = [0] * (4 - len(rows))
        logits, chosen = several.run(programs[rows], tokens + padding, at + padding, max(map(rows.count, rows)))
        seen = [0, 0]
        for s, sequence in enumerate(rows):
            where = f"seed {seed}, rows {rows}, positions {at}, row {s}"
            expected, best = one.run(programs[(sequence,)], [tokens[s], 0, 0, 0], [at[s], 0, 0, 0])
            assert logits[s].tobytes() == expected[0].tobytes(), where
            assert chosen[sequence][seen[sequence]] == best[sequence][0] == expected[0].argmax(), where
            seen[sequence] += 1
        for n, (found, wanted) in enumerate(zip(memory_of_caches(several), memory_of_caches(one), strict=True)):
            assert found == wanted, f"seed {seed}, rows {rows}, positions {at}, cache {n}"


@pytest.mark.parametrize("feature", NAMES)
def test_a_row_has_the_bits_of_its_own_pass(feature: str) -> None:
    description, options = FEATURES[feature]
    compare(description, CHUNKS, **options)


@pytest.mark.parametrize("feature", ("llama", "windows and tables alternate", "experts"))
def test_rows_of_several_sequences(feature: str) -> None:
    description, options = FEATURES[feature]
    compare(description, MIXED, seed=1, **options)
