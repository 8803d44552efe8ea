"""Runs the bench of the core under Verilator."""

from pathlib import Path

import pytest

from verification.cocotb import octal_paths
from verification.cocotb.simulation import run_bench

#: Small FIFOs, so that they fill up, and little memory on the chip.
CONFIGS = (
    "tiny,vector_blocks=64,buffer_entries=1024,read_fifo_beats=64,burst_beats=16",
    "base,bus_width=256,right_hand_sides=2,vector_blocks=64,buffer_entries=2048,read_fifo_beats=128,burst_beats=32",
    "wide,vector_blocks=64,buffer_entries=2048,read_fifo_beats=64,burst_beats=16",
    "base,channels=2,vector_blocks=64,buffer_entries=1024,read_fifo_beats=64,burst_beats=16",
)


@pytest.mark.parametrize(
    "config",
    [CONFIGS[0], *(pytest.param(c, marks=pytest.mark.slow) for c in CONFIGS[1:])],
    ids=lambda c: ",".join(c.split(",")[:2]),
)
def test_core(config: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_bench("verification.cocotb.bench_core", config, seed, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[3]], ids=["one port", "two ports"])
def test_the_example(config: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's bench, as `docs/cocotb.md` shows it."""
    run_bench("examples.cocotb_bench", config, seed, tmp_path, monkeypatch)


def test_paths_beyond_ascii() -> None:
    """As Verilator writes them into its makefiles; an escape that is none stays."""
    assert octal_paths.plain(rb"include /home/j\303\266rg/\101.mk \999") == "include /home/jörg/".encode() + rb"\101.mk \999"
