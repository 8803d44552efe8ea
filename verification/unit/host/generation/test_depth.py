"""How many drafts are verified: as many as bring the most tokens for their time."""

from itertools import product

import numpy as np
import pytest

from tailrace.generation.depth import Costs, share


def costs(**seconds: float) -> Costs:
    found = Costs()
    for rows, time in seconds.items():
        found.note(int(rows[1:]), time)
    return found


def test_rows_that_cost_nothing_are_all_taken() -> None:
    assert share({0: [0.5, 0.5, 0.5]}, 1, 3, costs(r1=1, r4=1))[0] == {0: 3}


def test_rows_that_cost_as_much_as_a_pass_are_not_taken() -> None:
    assert share({0: [0.9, 0.9, 0.9]}, 1, 3, costs(r1=1, r2=2, r3=3, r4=4))[0] == {}


def test_the_likelier_answer_gets_the_rows() -> None:
    assert share({4: [0.2, 0.2], 7: [0.9, 0.8]}, 2, 2, costs(r1=1, r4=1))[0] == {7: 2}
    assert share({4: [0.5, 0.2], 7: [0.9, 0.3]}, 2, 2, costs(r1=1, r4=1))[0] == {4: 1, 7: 1}


def test_drafts_that_have_taken_time_are_worth_more_rows() -> None:
    """What is spent is spent: the rate falls, and a row weighs less beside it."""
    times = costs(r1=1, r2=1.5)
    assert share({0: [0.45]}, 1, 1, times) == ({}, 1.0)
    assert share({0: [0.45]}, 1, 1, times, spent=0.5) == ({0: 1}, 1.45 / 2)


def test_it_is_the_best_of_all_shares(rng: np.random.Generator) -> None:
    for _ in range(50):
        chances = {n: list(rng.random(3)) for n in range(2)}
        times = np.cumsum(rng.random(6) + 0.05)
        known = costs(**{f"r{n + 1}": time for n, time in enumerate(times)})
        gains = {n: np.concatenate(([0.0], np.cumsum(np.cumprod(of)))) for n, of in chances.items()}

        def speed(counts: tuple[int, ...], gains: dict[int, np.ndarray] = gains, times: np.ndarray = times) -> float:
            return float((2 + sum(gains[n][count] for n, count in enumerate(counts))) / times[1 + sum(counts)])

        best = max((counts for counts in product(range(4), repeat=2) if sum(counts) <= 3), key=speed)
        found = share(chances, 2, 3, known)[0]
        assert speed((found.get(0, 0), found.get(1, 0))) == pytest.approx(speed(best))


def test_times_are_medians_of_what_was_lately() -> None:
    found = costs()
    for time in (100, *[2.0] * 6, 50):
        found.note(1, time)
    assert found.of(1) == 2
    for _ in range(4):
        found.note(1, 3.0)
    assert found.of(1) == 3


def test_what_was_long_ago_is_forgotten() -> None:
    """A pass that something else has slowed down is not held against its number of rows for ever."""
    found = costs(r1=1, r4=100)
    for _ in range(512):
        assert found.of(4) == 100
        found.note(1, 1.0)
    found.note(1, 1.0)
    assert found.of(4) == pytest.approx(1.3)
    found.note(4, 1.5)
    assert found.of(4) == 1.5


def test_what_has_not_been_measured_is_between_or_beyond() -> None:
    assert [costs().of(rows) for rows in (1, 3)] == pytest.approx([1, 1.2])
    assert costs(r2=2.2).of(1) == pytest.approx(2)
    assert costs(r1=2).of(4) == pytest.approx(2.6)
    both = costs(r1=1, r3=2)
    assert [both.of(rows) for rows in (1, 2, 3, 4)] == pytest.approx([1, 1.5, 2, 2.5])
