"""What Verilator writes about its output is read whatever folder it lies in."""

import json
import os
from pathlib import Path

import pytest

from tailrace.sim.compile import read_sources
from tailrace.sim.processes import run_all
from tailrace.sim.toolchain import find_verilator
from tailrace.spec.errors import ToolError


@pytest.mark.parametrize("folder", ["jörg ü", "a b", "'quoted'", "back\\303slash", "日本", "x\n\ty"])
def test_sources_in_any_folder(tmp_path: Path, folder: str) -> None:
    try:
        verilator = find_verilator()
    except ToolError as error:
        pytest.skip(str(error))
    work = tmp_path / folder
    work.mkdir()
    (work / "design.v").write_text("module top(input a, output b); assign b = a; endmodule\n", encoding="utf-8")
    command = [str(verilator.command), "--cc", "--quiet", "--make", "json", "--prefix", "Vtop", "--Mdir", ".", "design.v"]
    run_all([command], work, verilator.environment)
    sources = read_sources((work / "Vtop.json").read_bytes())
    made = [Path(path) for kind, paths in sources.items() if kind.startswith("classes") for path in paths]
    assert made
    assert all(path.parent == work and path.is_file() for path in made)


def test_what_is_not_beyond_ascii_stays_as_it_is() -> None:
    path = '/tmp/\xfc "x" \\101 \udcff'
    octal = b'/tmp/\\303\\274 \\"x\\" \\\\101 \\377'
    assert read_sources(b'{"sources": {"global": ["%s"]}}' % octal) == {"global": [path]}
    assert os.fsencode(path) == b'/tmp/\xc3\xbc "x" \\101 \xff'
    plain = {"global": ["/usr/include/verilated.cpp"]}
    assert read_sources(json.dumps({"sources": plain}).encode()) == plain
