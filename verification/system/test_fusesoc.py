"""The repository as a library of FuseSoC: added as its users do, the Verilog made when it is needed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tailrace
from tailrace.sim.toolchain import find_compiler, find_verilator

ROOT = Path(__file__).resolve().parents[2]
CORE = """CAPI=2:
name: someone:else:user:1.0
filesets:
  rtl:
    depend: [tailrace:cores:generator]
generate:
  small:
    generator: tailrace_export
    parameters: {config: CONFIG}
targets:
  lint:
    filesets: [rtl]
    generate: [small]
    toplevel: tailrace_tiny
    flow: lint
    flow_options: {tool: verilator, verilator_options: [-Wall]}
"""


class Fusesoc:
    """FuseSoC in a folder of its own, with the repository as a library."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        find_compiler()
        verilator = find_verilator()
        # FuseSoC starts what it finds under these names: Python of this environment, and a Verilator that runs from anywhere.
        tools = folder / "bin"
        tools.mkdir()
        (tools / "verilator").write_text(f'#!/bin/sh\nVERILATOR_ROOT="{verilator.root}" exec "{verilator.command}" "$@"\n')
        (tools / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        for tool in tools.iterdir():
            tool.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / 'src'}",
            "VERILATOR_ROOT": str(verilator.root),
        }
        (folder / "fusesoc.conf").write_text("[main]\n")
        code, output = self("library", "add", "tailrace", str(ROOT / "fusesoc"))
        assert code == 0, output

    def __call__(self, *arguments: str) -> tuple[int, str]:
        run = subprocess.run(
            [sys.executable, "-m", "fusesoc.main", "--config", "fusesoc.conf", *arguments],
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return run.returncode, run.stdout


@pytest.fixture
def fusesoc(tmp_path: Path) -> Fusesoc:
    return Fusesoc(tmp_path)


def test_their_names_have_the_version_of_the_package(fusesoc: Fusesoc) -> None:
    code, output = fusesoc("core", "list")
    assert code == 0
    for name in ("tailrace", "generator"):
        assert re.search(rf"^tailrace:cores:{name}:{re.escape(tailrace.__version__)} ", output, re.MULTILINE), output


def test_a_core_that_generates_one(fusesoc: Fusesoc) -> None:
    """In the configuration that it chooses; nothing but its name and its parameters are written down there."""
    (fusesoc.folder / "user.core").write_text(CORE.replace("CONFIG", "tiny"))
    code, output = fusesoc("--cores-root", ".", "run", "--target=lint", "someone:else:user")
    assert code == 0, output
    assert "%Warning" not in output
    source = next(fusesoc.folder.rglob("tailrace_tiny.v"))
    assert source.stat().st_size > 1 << 16


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("huge", "tailrace_export: unknown configuration 'huge'"),
        ("tiny, speed: 1", "tailrace_export: unknown parameter 'speed': there are config, testbench"),
    ],
)
def test_other_parameters(fusesoc: Fusesoc, config: str, message: str) -> None:
    (fusesoc.folder / "user.core").write_text(CORE.replace("CONFIG", config))
    code, output = fusesoc("--cores-root", ".", "run", "--target=lint", "someone:else:user")
    assert code != 0
    assert message in output


@pytest.mark.slow
@pytest.mark.parametrize("target", ["lint", "sim"])
def test_its_own_targets(fusesoc: Fusesoc, target: str) -> None:
    code, output = fusesoc("run", f"--target={target}", "tailrace:cores:tailrace")
    assert code == 0, output
    assert target == "lint" or re.search(r"PASS: 3 runs in \d+ cycles", output)
