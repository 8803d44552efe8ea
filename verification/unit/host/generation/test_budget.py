"""What drafts may cost: whatever they are, an answer loses a fiftieth of its speed at most, but for half a token."""

import numpy as np
import pytest

from tailrace.generation.budget import Budget


@pytest.mark.parametrize("right", [0.0, 0.02, 0.1, 0.5], ids="{} right".format)
@pytest.mark.parametrize("row", [0.01, 0.09, 0.3, 1.0], ids="{} a row".format)
def test_no_answer_is_much_slower(row: float, right: float, rng: np.random.Generator) -> None:
    """Three drafts are always wanted, and how many are right has nothing to do with that."""
    for _ in range(20):
        budget, tokens, time = Budget(), 0, 0.0
        while tokens < 400:
            drafts = budget.most([row, 2 * row, 3 * row])
            given = 1
            while given <= drafts and rng.random() < right:
                given += 1
            budget.note(given, drafts * row)
            tokens += given
            time += 1 + drafts * row
            assert time <= 1.015 * tokens + 0.5, (tokens, time)
            assert tokens < 89 or tokens / time > 0.98, (tokens, time)


def test_what_is_wrong_is_tried_again_later() -> None:
    """After some drafts in vain at the beginning one each six or seven tokens, as long as none is right."""
    budget, tried = Budget(), []
    for token in range(40):
        drafts = budget.most([0.1])
        budget.note(1, drafts * 0.1)
        if drafts:
            tried.append(token)
    assert tried == [0, 1, 2, 3, 4, 9, 15, 22, 29, 35]


def test_what_drafts_bring_may_be_spent() -> None:
    budget = Budget()
    assert budget.most([0.2, 0.4, 0.6]) == 2
    assert budget.most([0.5, 0.7, 0.9]) == 0
    budget.note(2, 0.4)
    assert budget.most([0.2, 0.4, 0.6]) == 3
    # A draft model has taken its time before it is known what for.
    budget.note(1, 2.0)
    assert budget.most([0.0]) == 0


def test_rows_that_cost_nothing_are_always_taken() -> None:
    budget = Budget()
    for _ in range(100):
        assert budget.most([0.0, 0.0, 0.0]) == 3
        budget.note(1, 0.0)


def test_what_passes_take_more_is_borne_until_nothing_is_left() -> None:
    """And then again once as much is left as an answer begins with."""
    budget, borne = Budget(), []
    for _ in range(120):
        bears = budget.bears(0.06, False)
        budget.note(1, 0.06 if bears else 0.0)
        borne.append(bears)
    # 0.48 tokens, and 0.015 for each: ten passes, and 32 until there is as much again.
    changes = [n for n in range(1, 120) if borne[n] != borne[n - 1]]
    assert borne[0]
    assert changes == [10, 40, 50, 80, 90], changes
    assert budget.left >= 0


def test_a_prompt_bears_what_its_passes_take_more() -> None:
    """As much as a token does, of which nothing is left for the answer; and the rest counts."""
    budget = Budget()
    for price, left in ((0.0, 0.48), (0.015, 0.48), (0.035, 0.46)):
        assert budget.bears(price, True)
        budget.note_prompt(price)
        assert budget.left == pytest.approx(left)
    assert budget.bears(0.47, True)
    assert not budget.bears(0.48, True)
    assert not budget.bears(0.0, False)
