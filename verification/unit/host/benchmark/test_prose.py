"""The text that comes along, in passages."""

from tailrace.benchmark.prose import PROSE, passages


def test_passages_are_the_text() -> None:
    found = passages(2000)
    assert "".join(found).split() == PROSE.read_text(encoding="utf-8").split()
    assert all(2000 <= len(passage) < 6000 for passage in found[:-1])
    assert len(found) > 20


def test_a_passage_for_each_speech() -> None:
    assert all("\n\n" not in passage.strip() for passage in passages(1))
