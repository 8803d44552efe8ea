"""Builds for FPGAs: what is kept, what is told, and the command line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("amaranth")

from amaranth.lib import wiring

from tailrace.command.cli import main
from tailrace.fpga import build as building
from tailrace.fpga.build import build_name, build_part
from tailrace.fpga.critical_path import CriticalPath, Hop
from tailrace.fpga.families import FAMILIES
from tailrace.fpga.mapping import MappedMemory, MappedProduct
from tailrace.fpga.parts import BLOCKS, PARTS, make_part
from tailrace.fpga.place_and_route import Timing
from tailrace.fpga.record import Record, read_record
from tailrace.fpga.report import frequency_rows, mapping_text
from tailrace.fpga.synthesis import Synthesis
from tailrace.fpga.table import CONFIGS, table_text
from tailrace.spec.config import parse_config

PATH = CriticalPath("a.b", "c", 3.0, 5.0, (Hop("routing", 5.0, "a.b [LUT4.Z]", "c [LUT4.A]"),))
MEMORIES = [MappedMemory("fifo", 512, 36, "block RAM", 1), MappedMemory("few", 4, 8, "flip-flops", 0)]
PRODUCTS = [MappedProduct("hdl/gemv/lane.py:7", "MULT18X18D", 3), MappedProduct("core.$3", "LUT", 1)]
CELLS = {"LUT4": 1000, "flip-flops": 2000, "carry pairs": 30, "distributed RAM": 4, "block RAM": 5, "multipliers": 6}


def record(**changes: Any) -> Record:
    values = Record(
        *("key", "base", "core", "ecp5", 16, 100.0, 1, CELLS, {}, 12, None, 125.0, PATH, MEMORIES, PRODUCTS, 90.0),
    )
    return replace(values, **changes)


class Tools:
    """Stands for Yosys and nextpnr: counts its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cells: dict[str, int]) -> None:
        self.calls: list[str] = []

        def synthesise(folder: Path, family: Any, progress: Any) -> Synthesis:
            self.calls.append("synthesis")
            return Synthesis(cells, MEMORIES, PRODUCTS, 12, None)

        def place_and_route(folder: Path, *, target: float, seed: int, spread: bool, progress: Any) -> Timing:
            self.calls.append(f"{target:g} {seed}" + " spread" * spread)
            return Timing(125.0, PATH)

        monkeypatch.setattr(building, "synthesise", synthesise)
        monkeypatch.setattr(building, "place_and_route", place_and_route)
        monkeypatch.setattr(building, "require_nextpnr", lambda: None)
        # The design of a part without elaborating it, which takes seconds.
        monkeypatch.setattr(building, "make_part", lambda part, config: (part, config))
        monkeypatch.setattr(
            building,
            "write_design",
            lambda made, folder: (folder.mkdir(exist_ok=True), (folder / "design.il").write_text(repr(made))),
        )


@pytest.mark.parametrize(("part", "how"), [("core", "100 1 spread"), ("lane", "100 1"), ("counters", "100 1")])
def test_cells_of_a_core_are_spread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str, how: str) -> None:
    tools = Tools(monkeypatch, CELLS)
    build_part(part, "tiny", "ecp5", tmp_path / "a")
    assert tools.calls == ["synthesis", how]


def test_what_is_finished_is_not_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = Tools(monkeypatch, CELLS)
    first = build_part("lane", "tiny", "ecp5", tmp_path / "a")
    assert tools.calls == ["synthesis", "100 1"]
    assert build_part("lane", "tiny", "ecp5", tmp_path / "a") == first == read_record(tmp_path / "a")
    assert tools.calls == ["synthesis", "100 1"]
    assert (first.megahertz, first.path, first.bandwidth(125.0)) == (125.0, PATH, 2.0)
    for changed in ({"seed": 2}, {"target": 120.0}):
        assert build_part("lane", "tiny", "ecp5", tmp_path / "a", **changed).key != first.key
    assert build_part("lane", "tiny,vector_blocks=256", "ecp5", tmp_path / "a").key != first.key
    assert tools.calls[2:] == ["synthesis", "100 2", "synthesis", "120 1", "synthesis", "100 1"]


def test_what_does_not_fit_is_not_placed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = Tools(monkeypatch, {**CELLS, "multipliers": 200})
    built = build_part("core", "wide", "ecp5", tmp_path / "a")
    assert tools.calls == ["synthesis"]
    assert (built.megahertz, built.excess) == (None, {"multipliers": (200, 156)})
    assert read_record(tmp_path / "a") == built
    assert next(frequency_rows(built)) == ("does not fit", "200 multipliers of 156")


def test_other_families_are_synthesised_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = Tools(monkeypatch, dict.fromkeys(FAMILIES["xc7"].cells, 1))
    assert build_part("core", "base", "xc7", tmp_path / "a").megahertz is None
    assert tools.calls == ["synthesis"]


@pytest.mark.parametrize("text", ["", "{", '{"key": 1}', "[]", "null"])
def test_a_broken_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    assert read_record(tmp_path) is None


def test_facts_about_the_frequency() -> None:
    assert dict(frequency_rows(record())) == {
        "after place and route": "125.0 MHz",
        "bus at that clock": "2.00 GB/s",
        "critical path": "8.00 ns: 3.00 logic, 5.00 routing",
        "from": "a.b",
        "to": "c",
        "levels of logic between registers": "12",
        "tools' time": "90 s",
    }
    estimated = dict(frequency_rows(record(family="xc7", megahertz=None, path=None, logic_delay=5.0)))
    assert estimated["estimate: upper bound, without any routing"] == "200 MHz"
    assert estimated["estimate: routing as slow as logic"] == "100 MHz"
    unknown = dict(frequency_rows(record(family="xcup", megahertz=None, path=None)))
    assert unknown["frequency"] == "unknown: Yosys has no delays for this family"


def test_memories_and_products_are_listed_with_reasons() -> None:
    text = mapping_text(record())
    assert "| fifo | 512 | 36 | block RAM | 1 |  |" in text
    assert "| few | 4 | 8 | flip-flops |  | 4 words of 8 bits: read at more places" in text
    assert "| hdl/gemv/lane.py:7 | MULT18X18D | 3 |  |" in text
    assert "| core.$3 | LUT | 1 | an operand" in text


def test_the_table_has_a_row_for_each_configuration() -> None:
    xilinx = {name: dict.fromkeys(FAMILIES[name].cells, 7) for name in ("xc7", "xcup")}
    records = [record(config=config) for config in CONFIGS[:-1]]
    records += [record(config="wide", megahertz=None, path=None, excess={"multipliers": (200, 156)})]
    records += [
        record(config=c, family="xc7", cells=xilinx["xc7"], megahertz=None, path=None, logic_delay=5.0) for c in CONFIGS
    ]
    records += [record(config=c, family="xcup", cells=xilinx["xcup"], megahertz=None, path=None) for c in CONFIGS]
    lines = table_text(records).splitlines()
    assert "| `base` | 128 | 1,000 | 2,000 | 30 | 4 | 5 | 6 | 12 | 125.0 | 2.00 | 8.00 | 5.00 |" in lines
    assert "| `wide` | 128 | 1,000 | 2,000 | 30 | 4 | 5 | 6 | 12 | does not fit: 200 of 156 multipliers |  |  |  |" in lines
    assert "| `wide` | 128 | 7 | 7 | 7 | 7 | 7 | 7 | 7 | 7 | 12 | 200 | 100 | 1.60 |" in lines
    assert "| `wide` | 128 | 7 | 7 | 7 | 7 | 7 | 7 | 7 | 7 | 7 | 12 |" in lines
    assert "All of it took 18 minutes of the tools' time." in lines
    for first, second in zip(lines, lines[1:]):
        if second.startswith("| ---"):
            assert first.count("|") == second.count("|")


def test_every_part_can_be_made() -> None:
    for config in CONFIGS:
        for part in PARTS:
            assert isinstance(make_part(part, parse_config(config)), wiring.Component)
    with pytest.raises(ValueError, match="^unknown part 'adder': choose from lane, engine, core, float-multiply, "):
        make_part("adder", parse_config("tiny"))


def test_single_blocks_are_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = Tools(monkeypatch, CELLS)
    arguments = ["bench", "area", "-o", str(tmp_path), "--config", "tiny"]
    for _ in range(2):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        rows = [line.split("│") for line in result.stdout.splitlines() if line.startswith("│")]
        assert [row[1].strip() for row in rows] == list(BLOCKS)
        assert {row[2].strip() for row in rows} == {"1,000"}
        assert {row[8].strip() for row in rows} == {"125.0"}
    # What the first call has built serves the second one, and a build of the same part by itself.
    assert len(tools.calls) == 2 * len(BLOCKS)
    assert build_part("append", "tiny", "ecp5", tmp_path / build_name("append", "tiny", "ecp5")).part == "append"
    assert len(tools.calls) == 2 * len(BLOCKS)


@pytest.mark.parametrize("arguments", [[], ["--family", "ecp5", "--table"], ["--board", "ulx3s", "--family", "xc7"]])
def test_one_thing_is_built(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["build", *arguments])
    assert result.exit_code == 2
    assert "choose one of --family, --board and --table" in result.output


def test_an_unknown_configuration_is_told() -> None:
    result = CliRunner().invoke(main, ["build", "--family", "ecp5", "--config", "huge"])
    assert result.exit_code == 1
    assert "unknown configuration 'huge': choose one of tiny, base, large, wide, arty, kv260, u280-hbm" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--board", "ulx3s", "--part", "lane"], "--part is not for --board"),
        (["--table", "--part", "core"], "--part is not for --table"),
        (["--table", "--config", "tiny"], "--config is not for --table"),
    ],
)
def test_what_has_no_effect_is_refused(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(main, ["build", *arguments])
    assert result.exit_code == 2
    assert f"Error: {text}" in result.output


def test_a_bus_that_the_board_has_no_memory_for() -> None:
    result = CliRunner().invoke(main, ["build", "--board", "ulx3s", "--config", "wide"])
    assert result.exit_code == 1
    assert "ulx3s takes a bus of 128 bits, and wide has 512: its memory has 16, and more lanes would only wait" in result.output


def test_the_command_shows_and_keeps_what_it_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Tools(monkeypatch, CELLS)
    folder = tmp_path / "out"
    result = CliRunner().invoke(main, ["build", "--family", "ecp5", "--part", "lane", "-o", str(folder)])
    assert result.exit_code == 0, result.output
    for text in ("lane of base on Lattice ECP5", "1,000 of 83,640", "125.0 MHz", "a.b"):
        assert text in result.output
    assert (folder / "mapping.md").read_text() == mapping_text(record())
    assert read_record(folder) is not None
