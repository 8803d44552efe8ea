"""`tailrace bench speed`: what is measured side by side, and what the tables say."""

from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.table import Table

from tailrace.benchmark import speed
from tailrace.benchmark.report import speed_table, start_table
from tailrace.benchmark.speed import Speed, Start, compare, measure_golden
from tailrace.command.cli import main
from tailrace.models.fetch import SMALL
from tailrace.spec.errors import LimitError, MissingPackage


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "REPEATS", 2)
    monkeypatch.setattr(speed, "_STEPS", dict.fromkeys(speed._STEPS, 1))


def rows_of(table: Table) -> list[list[str]]:
    console = Console(width=200, file=StringIO())
    with console.capture() as captured:
        console.print(table)
    lines = [line for line in captured.get().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_what_no_build_takes_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four sequences of a large model, say: the command tells why, and goes on."""

    def refused() -> Speed:
        raise LimitError("no room for four sequences")

    def found() -> Speed:
        return Speed("emulator", "base", 1, 1, 1, (0.5, 0.5))

    monkeypatch.setattr(speed, "compare", lambda *_, **__: iter([refused, found]))
    monkeypatch.setattr(speed, "measure_start", lambda path: Start("emulator", 2.0, 1.0))
    result = CliRunner().invoke(main, ["bench", "speed", "shakespeare"])
    assert result.exit_code == 0, result.output
    assert "not measured: no room for four sequences" in result.stderr
    assert "emulator" in result.stdout


@pytest.mark.skipif(find_spec("cyllama") is None, reason="cyllama is not installed")
def test_side_by_side() -> None:
    speeds = [measure() for measure in compare(SMALL, (), 1, slow=False)]
    assert [(s.what, s.batch) for s in speeds] == [(who, n) for who in ("emulator", "llama.cpp") for n in (1, 2, 4)]
    assert all(len(s.seconds) == 2 and s.rate > 0 and s.cycles == 0 for s in speeds)
    assert [s.between > 0 for s in speeds] == [True] * 3 + [False] * 3
    assert speeds[0].conditions.startswith("base, ")
    assert speeds[-1].conditions.startswith("cyllama ")


def test_golden_and_the_simulation_are_measured_where_they_are_asked_for() -> None:
    names = [measure.func.__name__ for measure in compare(SMALL, ("base", "wide"), 1)]  # type: ignore[attr-defined]
    assert names == ["measure_emulator"] * 3 + ["measure_golden"] + ["measure_simulation"] * 4 + ["measure_llama_cpp"] * 3
    assert measure_golden(SMALL).what == "golden"


def test_llama_cpp_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.benchmark.llama_cpp.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="^the Python package cyllama is needed to compare with llama.cpp: "):
        speed.measure_llama_cpp(SMALL, 1)


def test_large_models_take_fewer_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_STEPS", {"emulator": 16})
    monkeypatch.setattr(speed, "_STEPS_BYTES", 1000)
    path = tmp_path / "model"
    for size, steps in ((1, 16), (1000, 16), (4000, 4), (1_000_000, 1)):
        path.write_bytes(bytes(size))
        assert speed._steps("emulator", path) == steps


def test_rates_are_those_of_the_median() -> None:
    quick = Speed("verilator", "base, g++ 12.2.0", 1, 2, 3, (4.0, 1.0, 2.0), 1000, 0.00125)
    assert (quick.rate, quick.spread) == (3.0, 4.0)
    assert rows_of(speed_table("model.gguf", [quick])) == [
        ["verilator", "base, g++ 12.2.0", "1", "2", "3", "3", "4.00", "1,000", "1,500", "1.25"]
    ]


def test_starts_are_shown() -> None:
    assert rows_of(start_table("model.gguf", [Start("emulator", 12.345, 0.5)])) == [["emulator", "12.35 s", "0.50 s"]]
