"""Some hundred changed headers, and that what they must not do is found out."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from verification import header_mutations
from verification.header_mutations import CHANGES, _Seen, _try_one, mutation, read_original, run, small_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return small_files(tmp_path_factory.mktemp("originals"))


def test_every_changed_header_is_read_or_refused(files: list[Path]) -> None:
    results = run(files, 300, seed=20)
    assert results.mistakes == {}
    assert sum(results.outcomes.values()) == 300
    assert sum(n for (_, outcome), n in results.outcomes.items() if outcome == "runs") > 10
    assert results.grown < 64 << 20


def test_what_is_not_changed_runs(files: list[Path]) -> None:
    for path in files:
        assert _try_one(path, _Seen()) == ("runs", False)


def test_every_change_changes_something(files: list[Path], rng: np.random.Generator) -> None:
    originals = [read_original(path) for path in files]
    for original in originals:
        assert struct.unpack_from("<QQ", original.header, 8) == (len(original.tensors), len(original.entries))
    for change in CHANGES.values():
        assert any(change(original, rng) != original.header for original in originals)


def test_a_mutation_is_the_same_again(files: list[Path]) -> None:
    originals = [read_original(path) for path in files]
    assert [mutation(originals, n, 5) for n in range(20)] == [mutation(originals, n, 5) for n in range(20)]


@pytest.mark.parametrize(
    ("mistake", "outcome"),
    [
        (lambda: [][1], "IndexError in test_header_mutations.py"),
        (lambda: (_ for _ in ()).throw(MemoryError()), "MORE THAN 512 MiB"),
        (lambda: [None for _ in iter(int, 1)], "MORE THAN 0.2 s"),
    ],
)
def test_mistakes_are_found(mistake: Any, outcome: str, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_mutations, "open_model", lambda path: mistake())
    monkeypatch.setattr(header_mutations, "SECONDS", 0.2)
    found, wrong = _try_one(files[0], _Seen())
    assert wrong
    assert found.startswith(outcome.removesuffix(" in test_header_mutations.py"))
