"""The driver with PYNQ's own package, which wants another numpy than this project: in a Python that has it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

#: Names a Python in which pynq (4.0.0, with setuptools below 81) and Tailrace are installed.
PYTHON = "TAILRACE_PYNQ_PYTHON"
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no Python that has the package pynq")
def test_tokens_are_golden_s() -> None:
    run = subprocess.run(
        [os.environ[PYTHON], "-m", "verification.system.pynq_board", "emulator"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["ours"] == found["golden"]
    assert len(found["ours"]) == 8
    assert found["where"] == "pynq:tailrace_0"
    # The model, once, and little else.
    assert 1_000_000 < found["flushed"] < 1_100_000
