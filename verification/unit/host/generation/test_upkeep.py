"""What passes take more for a layer that drafts: as measured, and borne by whoever can."""

import pytest

from tailrace.generation.budget import Budget
from tailrace.generation.upkeep import FillingCosts, Upkeep, bearers
from verification.unit.host.generation.draft_models import Fixed


def test_it_is_measured() -> None:
    """Both kinds of passes, some times, with as many rows; before it is what they read more, and never less."""
    upkeep = Upkeep(0.02)
    costs = FillingCosts(Fixed(10.0, 1.0), upkeep)
    assert costs.are_known
    for seconds in (1.1, 1.1, 9.0, 1.1):
        assert upkeep.factor(1) == pytest.approx(1.02)
        assert upkeep.note(1, seconds, True) == pytest.approx(seconds / 1.02)
    for seconds in (1.0, 1.0, 7.0):
        assert upkeep.factor(1) == pytest.approx(1.02)
        assert upkeep.note(1, seconds, False) == seconds
    assert upkeep.factor(1) == pytest.approx(1.1)
    assert upkeep.factor(2) == pytest.approx(1.02)
    assert [costs.of(rows) for rows in (1, 2)] == pytest.approx([11.0, 11.22])
    for _ in range(7):
        upkeep.note(1, 1.5, False)
    assert upkeep.factor(1) == pytest.approx(1.02)


def test_who_bears_it() -> None:
    """Who can't leaves it to the others, until nobody can."""
    poor, rich, other = Budget(), Budget(), Budget()
    poor.note(1, 0.395)
    budgets = {0: poor, 2: rich, 3: other}
    assert bearers(budgets, (), 0.24) == pytest.approx({0: 0.08, 2: 0.08, 3: 0.08})
    assert bearers(budgets, (), 0.6) == pytest.approx({2: 0.3, 3: 0.3})
    # Not before as much is left as to begin with.
    assert bearers(budgets, (), 0.03) == pytest.approx({2: 0.015, 3: 0.015})
    assert bearers(budgets, (), 1.2) == {}
    assert bearers({}, (), 0.0) == {}
    # Passes over a prompt bear a little themselves.
    assert bearers({1: Budget()}, {1}, 0.49) == {1: 0.49}
    assert bearers({1: Budget()}, (), 0.49) == {}
