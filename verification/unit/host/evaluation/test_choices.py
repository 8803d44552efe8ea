"""The questions that come along are well-formed; that their answers are right, people have read."""

import json
from collections import Counter

from tailrace.evaluation import TASKS

QUESTIONS = [json.loads(line) for line in (TASKS / "choices.jsonl").read_text().splitlines()]


def test_there_are_a_hundred_of_several_kinds() -> None:
    assert len(QUESTIONS) == 100
    assert min(Counter(question["subject"] for question in QUESTIONS).values()) >= 10


def test_each_has_four_different_choices_and_one_answer() -> None:
    for question in QUESTIONS:
        assert question.keys() == {"subject", "question", "choices", "answer"}
        assert len(set(question["choices"])) == 4
        assert question["answer"] in range(4)
        assert question["question"].strip() == question["question"]
        assert all(choice.strip() == choice and choice for choice in question["choices"])


def test_none_is_asked_twice_with_the_same_choices() -> None:
    assert len({(question["question"], *sorted(question["choices"])) for question in QUESTIONS}) == 100


def test_no_place_is_a_good_guess() -> None:
    counts = Counter(question["answer"] for question in QUESTIONS)
    assert max(counts.values()) <= 30
    longest = sum(max(question["choices"], key=len) == question["choices"][question["answer"]] for question in QUESTIONS)
    assert longest <= 35
