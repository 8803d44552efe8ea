"""The ULX3S's bitstream."""

from pathlib import Path

import pytest

from tailrace.fpga import bitstream
from tailrace.fpga.ulx3s import build
from tailrace.hdl.boards import ulx3s
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import MissingPackage
from verification.unit.hdl.boards.test_ulx3s import SITES
from verification.unit.hdl.boards.without_core import leave_out_core


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bitstream, "find_spec", lambda package: None if package == "amaranth_boards" else object())
    with pytest.raises(MissingPackage, match="^the Python package amaranth_boards is needed to build a board: "):
        build(tmp_path)


@pytest.mark.slow
def test_bitstream_of_all_but_the_core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole way; with the core it takes a quarter of an hour."""
    leave_out_core(monkeypatch)
    steps: list[str] = []
    made = build(tmp_path, CONFIGS["tiny"], progress=steps.append)
    assert made.path == tmp_path / "ulx3s.bit"
    # The preamble of Lattice's bitstreams.
    assert bytes.fromhex("ffffbdb3") in made.path.read_bytes()[:1024]
    assert set(made.megahertz) == {"system_clock", "memory_clock"}
    for reached, wanted in made.megahertz.values():
        assert reached >= wanted == pytest.approx(ulx3s.CLOCK_HZ / 1e6, rel=1e-3)
    # Every pad of the memory has its register at the pad.
    assert made.cells["IOLOGIC"][0] == 39
    assert made.cells["EHXPLLL"][0] == 1
    assert made.cells["TRELLIS_IO"][0] == sum(len(sites.split()) for sites in SITES.values())
    assert steps[:2] == ["making the memory controller", "elaborating"]
    assert steps[-1] == "packing the bitstream"
    assert {step.split()[0].rstrip(":,") for step in steps[2:-1]} == {"synthesis", "packing", "placement", "routing"}
