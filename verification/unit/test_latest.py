"""Which newer package breaks which test."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from verification.latest import Newer, blame, failures, newer

A, B = Newer("a", "1", "2"), Newer("b", "1", "1.1")


def test_newer_versions() -> None:
    locked = {"a": "1.9", "b": "1", "c": "3", "torch": "2.13.0"}
    assert newer(locked, {"a": "1.10", "b": "1", "c": "2.9", "torch": "2.14.0", "pip": "23"}) == [Newer("a", "1.9", "1.10")]


def test_each_failure_is_laid_at_a_door() -> None:
    """Test 1 fails anyway, 2 with a, 3 with a and with b, 4 only with both."""
    asked: list[tuple[str, list[str]]] = []

    def with_lock(tests: Sequence[str]) -> set[str]:
        asked.append(("lock", list(tests)))
        return {"1"}

    def with_newer(package: Newer):  # type: ignore[no-untyped-def]
        def run(tests: Sequence[str]) -> set[str]:
            asked.append((package.name, list(tests)))
            return {"a": {"2", "3"}, "b": {"3"}}[package.name]

        return run

    assert blame(["4", "1", "2", "3"], with_lock, [A, B], with_newer) == {
        "the locked versions": {"1"},
        "a 2": {"2", "3"},
        "b 1.1": {"3"},
        "several together": {"4"},
    }
    assert asked == [("lock", ["1", "2", "3", "4"]), ("a", ["2", "3", "4"]), ("b", ["2", "3", "4"])]


def test_nothing_is_tried_for_tests_that_fail_anyway() -> None:
    assert blame(["1"], lambda tests: {"1"}, [A], lambda package: pytest.fail("tried")) == {"the locked versions": {"1"}}


def test_failures_of_a_report(tmp_path: Path) -> None:
    test = tmp_path / "test_x.py"
    test.write_text(
        "import pytest\nclass TestA:\n    @pytest.mark.parametrize('n', [1, 2])\n    def test_b(self, n): assert n == 1\n"
        "def test_c(): raise OSError\ndef test_d(): pass\n"
    )
    report = tmp_path / "report.xml"
    pytest.main(
        [
            "-q",
            "-p",
            "no:cacheprovider",
            f"--rootdir={tmp_path}",
            f"--junitxml={report}",
            "-o",
            "junit_family=xunit1",
            str(test),
        ]
    )
    assert failures(report) == {"test_x.py::TestA::test_b[2]", "test_x.py::test_c"}
