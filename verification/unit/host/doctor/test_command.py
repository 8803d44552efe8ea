"""``tailrace doctor``: its lines, its exit code, what goes where; and on the gateware."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tailrace.command.cli import main
from tailrace.doctor import command
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.registers import offset
from verification.unit.host.doctor.broken import Broken
from verification.unit.host.transports.stand_in import Xdma


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)])


def test_golden() -> None:
    result = invoke("--device", "golden", "--config", "tiny", "--memory", "1MiB")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "examining golden: what its memory holds will be lost"
    assert [line[:8] for line in lines[1:-1]] == ["ok      "] * 8 + ["skipped "]
    assert re.fullmatch(r"ok       open: golden, 1,048,576 bytes of memory \(0\.\d s\)", lines[1])
    assert lines[-2:] == ["skipped  link: golden keeps no statistics", "golden is in order: 8 steps passed, 1 skipped"]
    assert "decode …" in result.stderr


def test_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_device(kind: str, config: Config, memory_size: int) -> Broken:
        return Broken(config, memory_size, registers={offset("QUEUE_LENGTH"): lambda value: value | 1})

    monkeypatch.setattr(command, "open_device", open_device)
    result = invoke("--device", "golden", "--config", "tiny", "--memory", "1MiB")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[3].startswith("failed   registers: QUEUE_LENGTH reads 0x00000001 after 0x00000000 was written (bits 0) (")
    assert lines[4] == (
        "         advice: check the data lines and the byte strobes of the control bus: every access must be one of 32 bits"
    )
    assert lines[-4:] == [
        "skipped  products: needs commands and errors",
        "skipped  decode: needs products",
        "skipped  link: broken keeps no statistics",
        "1 of 9 steps failed, 4 skipped",
    ]


def test_hardware(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card = Xdma(monkeypatch, tmp_path, CONFIGS["tiny"], 1 << 20)
    result = invoke("--device", f"xdma:{card.prefix},memory=1MiB")
    card.close()
    assert result.exit_code == 0, result.output
    assert re.search(r"^ok       link: \d+ interrupts, 0 missed interrupts \(0\.\d s\)$", result.stdout, re.MULTILINE)
    assert result.stdout.endswith("memory=1MiB is in order: 9 steps passed, 0 skipped\n")


def test_usage() -> None:
    assert invoke().exit_code == 2
    result = invoke("--device", "serial:/dev/none", "--memory", "1MiB")
    assert result.exit_code == 2
    assert "Error: --memory is for devices without hardware: serial:/dev/none is built as it is" in result.stderr
    result = invoke("--device", "xdma:/dev/none,memory=1MiB")
    assert result.exit_code == 1
    assert "failed   open: /dev/none_user does not exist: load the xdma driver" in result.stdout
    assert result.stdout.endswith("1 of 9 steps failed, 8 skipped\n")


@pytest.mark.slow
def test_gateware() -> None:
    result = invoke("--device", "verilator", "--config", "tiny", "--memory", "1MiB", "--clock", 100)
    assert result.exit_code == 0, result.output
    beats = re.search(r"(0\.\d+) beats per cycle, ([\d,]+) MB/s at 100 MHz", result.stdout)
    assert beats is not None
    assert float(beats[1]) > 0.95
    assert abs(float(beats[2].replace(",", "")) - 1600 * float(beats[1])) < 2
