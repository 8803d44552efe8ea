"""`tailrace run` on the simulated gateware: golden's text, and what its options do to time."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tailrace.command.cli import main
from verification.unit.host.tiny_models import write_model

pytest.importorskip("amaranth")
pytest.importorskip("pyosys")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


def run(model: Path, *options: object) -> Result:
    arguments = [
        "run",
        model,
        "--raw",
        "-p",
        "Hello",
        "-n",
        2,
        "--device",
        "verilator",
        "--config",
        "base",
        "--memory",
        "4MiB",
        *options,
    ]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def cycles(result: Result) -> int:
    found = re.search(r"cycles per token +│ +([\d,]+)", result.stderr)
    assert found is not None, result.stderr
    return int(found[1].replace(",", ""))


def test_text_is_goldens_and_time_that_of_the_memory(model: Path) -> None:
    golden = run(model, "--device", "golden").stdout
    taken = {}
    for options in ((), ("--latency", 400), ("--bandwidth", 0.25), ("--memory-timing", "ddr4")):
        result = run(model, "--device", "verilator", *options)
        assert result.stdout == golden
        taken[options[:1]] = cycles(result)
    ideal = taken.pop(())
    assert ideal < taken["--latency",]
    assert ideal < taken["--bandwidth",]
    # Less latency than the ideal memory has by default, but pages, banks and refresh: other cycles in any case.
    assert taken["--memory-timing",] != ideal


@pytest.mark.slow
def test_threads_waveform_and_timeline(model: Path, tmp_path: Path) -> None:
    """Each needs a build of its own."""
    plain = run(model, "--device", "verilator")
    threads = run(model, "--device", "verilator", "--threads", 2)
    assert (threads.stdout, cycles(threads)) == (plain.stdout, cycles(plain))
    wave, trace = tmp_path / "ü.vcd", tmp_path / "ü.json"
    assert run(model, "--device", "verilator", "--wave", f"{wave}:100:200").stdout == plain.stdout
    assert "$enddefinitions" in wave.read_text(encoding="utf-8")
    assert run(model, "--device", "verilator", "--trace", trace).stdout == plain.stdout
    assert json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
