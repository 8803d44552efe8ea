"""Options that would change nothing are refused, in every command, each with where it belongs."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tailrace.command.cli import main
from tailrace.command.without_effect import given, refuse
from verification.unit.host.tiny_models import write_model, write_undescribed

_SIMULATION = "is for the simulation, --device verilator: golden has neither cycles nor signals"
_CYCLES = "is for devices that count cycles: golden has none"
_STEPS = "is for whole decode steps, and here operations run one by one: leave it out"
_TORCH = "is for what PyTorch computes, and here it computes nothing: give --prefill torch, or leave it out"
_DRAM = "is for --memory-timing ideal: {} has a timing of its own"
_DRAWN = "is for tokens that are drawn, and nothing is drawn without a temperature: give one"
_BEST = "is for the best token, which the device chooses itself: leave temperature, penalties and grammars out"
_ROUTED = "is for what is placed and routed, and that is only ecp5: leave it out for {}"

_GOLDEN = ("run", "none.gguf", "-p", "x", "--device", "golden")
_EMULATOR = ("run", "none.gguf", "-p", "x", "--device", "emulator")
_VERILATOR = ("run", "none.gguf", "-p", "x", "--device", "verilator")
_CHAT = ("chat", "none.gguf")
#: Cycles are predicted for whole decode steps only.
_OPERATIONS = ("--path", "operations")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("command", "option", "why"),
    [
        ((*_GOLDEN, *_OPERATIONS), "--memory-timing=ddr4", _CYCLES),
        ((*_GOLDEN, *_OPERATIONS), "--latency=100", _CYCLES),
        ((*_GOLDEN, *_OPERATIONS), "--bandwidth=0.5", _CYCLES),
        (_GOLDEN, "--threads=1", "is for --device emulator and verilator: golden computes with one thread"),
        ((*_EMULATOR, *_OPERATIONS), "--clock=100", _CYCLES.replace("golden", "emulator")),
        (_EMULATOR, "--wave=/tmp/w.vcd", _SIMULATION.replace("golden", "emulator")),
        ((*_EMULATOR, "--memory-timing", "ddr4"), "--latency=5", _DRAM.format("ddr4")),
        (_GOLDEN, "--trace=/tmp/t.json", _SIMULATION),
        (_GOLDEN, "--wave=/tmp/w.vcd", _SIMULATION),
        ((*_GOLDEN, *_OPERATIONS), "--clock=100", _CYCLES),
        (("doctor", "--device", "golden"), "--clock=100", _CYCLES),
        ((*_VERILATOR, "--memory-timing", "ddr4"), "--latency=5", _DRAM.format("ddr4")),
        ((*_VERILATOR, "--memory-timing", "hbm2"), "--bandwidth=1", _DRAM.format("hbm2")),
        (_VERILATOR, "--seed=1", _DRAWN),
        (_CHAT, "--seed=1", _DRAWN),
        ((*_CHAT, "--temperature", "1"), "--tokens-per-doorbell=2", _BEST),
        ((*_VERILATOR, "--repetition-penalty", "2"), "--tokens-per-doorbell=2", _BEST),
        ((*_CHAT, "--load", "x"), "--system=y", "is for a new conversation: the one of --load has its own, which /system changes"),
        (("cache",), "--days=3", "is for --sweep: give both"),
        (("cache", "--clear"), "--days=3", "is for --sweep: give both"),
        (("build", "--family", "xc7"), "--seed=2", _ROUTED.format("xc7")),
        (("build", "--family", "xcup"), "--target=50", _ROUTED.format("xcup")),
    ],
)  # fmt: skip
def test_refused_before_anything_is_looked_for(command: tuple[str, ...], option: str, why: str) -> None:
    result = invoke(*command, option)
    assert result.stderr.splitlines()[-1] == f"Error: {option.partition('=')[0]} {why}"
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("option", ["--torch-device=cpu", "--torch-dtype=float32"])
def test_without_pytorch(tmp_path: Path, option: str) -> None:
    path = write_model(tmp_path / "m.gguf")
    result = invoke("run", path, "-p", "ab", "--device", "golden", option)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == f"tailrace: {option.partition('=')[0]} {_TORCH}"


@pytest.mark.parametrize(
    "option",
    ["--prefill=torch", "--tokens-per-doorbell=2", "--stop=x", "--presence-penalty=1", "--frequency-penalty=1", "--trace={}"],
)
def test_operation_by_operation(tmp_path: Path, option: str) -> None:
    path = write_model(tmp_path / "m.gguf")
    name, option = option.partition("=")[0], option.format(tmp_path / "t.json")
    result = invoke("run", path, "-p", "ab", "--path", "operations", "--device", "verilator", option)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == f"tailrace: {name} {_STEPS}"


@pytest.mark.parametrize("option", ["--memory-timing=ddr4", "--latency=5", "--bandwidth=0.5"])
def test_nothing_is_predicted_of_operations(tmp_path: Path, option: str) -> None:
    path = write_undescribed(tmp_path / "m.gguf")
    result = invoke("run", path, "-p", "ab", "--device", "golden", option)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == f"tailrace: {option.partition('=')[0]} {_STEPS}"


@pytest.mark.parametrize("option", ["--program", "--context=8", "--memory-timing=hbm2"])
def test_inspect_without_a_program(tmp_path: Path, option: str) -> None:
    path = write_undescribed(tmp_path / "m.gguf")
    assert invoke("inspect", path).exit_code == 0
    result = invoke("inspect", path, option)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"tailrace: {path} can't be decoded as a whole: its heads have 36 elements, which is not a multiple of 8."
        f" {option.partition('=')[0]} is for models that can: leave it out\n"
    )


def test_what_was_given() -> None:
    """An option that is given with its default is given; those that a command lacks are not."""
    seen: list[list[str]] = []

    @click.command()
    @click.option("-n", "--new-tokens", default=1)
    @click.option("--other", default=2)
    @click.pass_context
    def command(context: click.Context, **_: int) -> None:
        seen.append(given(context, ["new_tokens", "other", "third"]))
        refuse(context, ["other"], "is not to be")

    assert CliRunner().invoke(command, ["-n", "1"]).exit_code == 0
    result = CliRunner().invoke(command, ["--other", "3"])
    assert seen == [["--new-tokens"], ["--other"]]
    assert (result.exit_code, result.output.splitlines()[-1]) == (2, "Error: --other is not to be")
