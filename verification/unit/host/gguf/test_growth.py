"""Factors of scores that grow with the position."""

import numpy as np

from tailrace.gguf.growth import Growth


def test_scores_grow_from_period_to_period() -> None:
    grown = Growth(0.25, 0.5, 4)
    factors = np.array([1.0] * 4 + [1.0 + 0.5 * np.log(2)] * 4 + [1.0 + 0.5 * np.log(3)] * 2)
    np.testing.assert_allclose(grown.table(0, 10)[:, 0], 0.25 * factors, rtol=1e-7)
    assert np.array_equal(grown.table(0, 10)[:, 1], -grown.table(0, 10)[:, 0])
    # A table is the same, wherever it begins.
    assert np.array_equal(grown.table(0, 10)[3:7], grown.table(3, 4))


def test_steps_may_come_earlier() -> None:
    assert np.array_equal(Growth(1.0, 0.1, 3, ahead=1).table(0, 9), Growth(1.0, 0.1, 3).table(1, 9))
