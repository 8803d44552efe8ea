"""Hardware by name: on the command line, what is refused, and a whole run on a card that a thread plays."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tailrace.command.cli import main
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ConfigError
from tailrace.spec.link import IDENTITY
from tailrace.transports import open as opening
from tailrace.transports.facts import clock_of, statistics_of
from tailrace.transports.link import LinkCounters
from tailrace.transports.open import HardwareName, is_hardware, open_transport, parse_hardware
from tailrace.transports.search import find_hardware
from verification.unit.host.tiny_models import write_model
from verification.unit.host.transports.stand_in import Xdma, make_uio_files

MEMORY = 1 << 20


@pytest.mark.parametrize(
    ("text", "kind", "place", "options"),
    [
        ("serial:/dev/ttyUSB0", "serial", "/dev/ttyUSB0", {}),
        ("serial:COM3,baud=115200,patience=0.5", "serial", "COM3", {"baud": 115200, "patience": 0.5}),
        ("xdma:/dev/xdma0,memory=4GiB", "xdma", "/dev/xdma0", {"memory": 4 << 30}),
        (
            "xdma:/dev/xdma0,memory=1M,control=0x10000,offset=64,wait=poll",
            "xdma",
            "/dev/xdma0",
            {"memory": 1 << 20, "control": 0x10000, "offset": 64, "wait": "poll"},
        ),
        (
            "uio:/dev/uio0,memory=0x30000000+1MiB,base=0x30000000",
            "uio",
            "/dev/uio0",
            {"memory": "0x30000000+1MiB", "base": 0x3000_0000},
        ),
        (
            "litex:build/csr.csv,host=lab,port=0x4d2,core=second,patience=60",
            "litex",
            "build/csr.csv",
            {"host": "lab", "port": 1234, "core": "second", "patience": 60.0},
        ),
    ],
)
def test_names(text: str, kind: str, place: str, options: dict[str, Any]) -> None:
    assert is_hardware(text)
    assert parse_hardware(text) == HardwareName(kind, place, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fpga",
            "unknown device 'fpga': choose emulator, golden or verilator, or name hardware like serial:/dev/ttyUSB0,baud=3000000,"
            " xdma:/dev/xdma0,memory=4GiB, uio:/dev/uio0,memory=udmabuf0 or litex:build/csr.csv,port=1234",
        ),
        ("serial:", "'serial:' names no device: write it like serial:/dev/ttyUSB0,baud=3000000"),
        ("serial:/dev/x,speed=1", "'serial:/dev/x,speed=1': serial has no option 'speed', choose from baud, patience"),
        ("serial:/dev/x,baud=1,baud=2", "'serial:/dev/x,baud=1,baud=2': baud is given twice"),
        ("serial:/dev/x,baud=0", "'serial:/dev/x,baud=0': baud must be a whole number, not '0'"),
        ("serial:/dev/x,baud", "'serial:/dev/x,baud': baud must be a whole number, not ''"),
        ("serial:/dev/x,patience=s", "'serial:/dev/x,patience=s': patience must be a number of seconds, not 's'"),
        ("xdma:/dev/xdma0", "'xdma:/dev/xdma0' does not tell the memory: write it like xdma:/dev/xdma0,memory=4GiB"),
        ("xdma:/dev/xdma0,memory=big", "'big' is not a size of memory: write it like 512MiB or 1GiB"),
        (
            "uio:/dev/uio0,base=1",
            "'uio:/dev/uio0,base=1' does not tell the memory: write it like uio:/dev/uio0,memory=udmabuf0",
        ),
        ("uio:/dev/uio0,memory=a,wait=no", "'uio:/dev/uio0,memory=a,wait=no': wait must be interrupt or poll, not 'no'"),
        ("litex:csr.csv,host=", "'litex:csr.csv,host=': host is empty"),
        ("litex:csr.csv,port=0", "'litex:csr.csv,port=0': port must be a whole number, not '0'"),
        ("litex:csr.csv,port=70000", "port must be 1 to 65535, not 70000"),
    ],
)
def test_bad_names(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        open_transport(text)


def test_what_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def note(*args: object, **options: object) -> None:
        calls.append((args, options))

    kinds = {"serial": "SerialTransport", "xdma": "XdmaTransport", "uio": "UioTransport", "litex": "LitexTransport"}
    for kind, name in kinds.items():
        monkeypatch.setattr(f"tailrace.transports.{kind}.{name}", note)
    for text in (
        "serial:/dev/x",
        "serial:/dev/x,baud=9600,patience=2",
        "xdma:/dev/x,memory=1K",
        "xdma:/dev/x,memory=1K,control=4,offset=64,wait=poll",
        "uio:/dev/x,memory=b,wait=interrupt",
        "uio:/dev/x,memory=b,base=0,wait=poll",
        "litex:x.csv",
        "litex:x.csv,host=lab,port=2,core=second,patience=3",
    ):
        opening.open_transport(text)
    assert calls == [
        (("/dev/x",), {}),
        (("/dev/x",), {"baud": 9600, "patience": 2.0}),
        (("/dev/x", 1024), {"control_offset": 0, "memory_offset": 0, "events": True}),
        (("/dev/x", 1024), {"control_offset": 4, "memory_offset": 64, "events": False}),
        (("/dev/x", "b"), {"base": None, "events": True}),
        (("/dev/x", "b"), {"base": 0, "events": False}),
        (("x.csv",), {}),
        (("x.csv",), {"host": "lab", "port": 2, "core": "second", "patience": 3.0}),
    ]


def test_facts() -> None:
    board: Any = SimpleNamespace(link=SimpleNamespace(clock=48_000_000, counters=LinkCounters(requests=7)))
    card: Any = SimpleNamespace(statistics={"interrupts": 3})
    assert IDENTITY.size  # a board tells its clock when it is opened
    assert (clock_of(board), clock_of(card)) == (48.0, None)
    assert statistics_of(card) == {"interrupts": 3}
    assert statistics_of(board)["requests"] == 7
    assert statistics_of(board)["bytes sent"] == 0
    assert statistics_of(SimpleNamespace()) == {}  # type: ignore[arg-type]


def test_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [
        SimpleNamespace(device="/dev/ttyUSB0", description="ULX3S", hwid="USB"),
        SimpleNamespace(device="/dev/ttyS0", description="n/a", hwid="n/a"),
    ]
    monkeypatch.setitem(sys.modules, "serial.tools.list_ports", SimpleNamespace(comports=lambda: ports))
    make_uio_files(tmp_path, MEMORY)
    (tmp_path / "dev/xdma0_user").touch()
    (tmp_path / "dev/uio1").touch()
    assert find_hardware(tmp_path / "dev", tmp_path / "sys") == [
        ("serial:/dev/ttyUSB0", "ULX3S"),
        (f"xdma:{tmp_path}/dev/xdma0,memory=SIZE", "PCIe card behind XDMA"),
        (f"uio:{tmp_path}/dev/uio0,memory=udmabuf0", "tailrace"),
        (f"uio:{tmp_path}/dev/uio1,memory=udmabuf0", "UIO device"),
    ]
    monkeypatch.setitem(sys.modules, "serial.tools.list_ports", None)
    assert find_hardware(tmp_path / "none", tmp_path) == []


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize(
    "option", ["--config=tiny", "--memory-timing=ddr4", "--latency=3", "--threads=2", "--trace=t", "--wave=w.vcd"]
)
def test_options_of_simulated_devices(option: str) -> None:
    result = invoke("run", "m", "-p", "x", "--device", "serial:/dev/ttyUSB0", option)
    name = option.partition("=")[0]
    assert result.exit_code == 2
    assert (
        result.stderr.splitlines()[-1]
        == f"Error: {name} is for devices without hardware: serial:/dev/ttyUSB0 is built as it is"
    )


def test_memory_has_its_place_in_the_name() -> None:
    result = invoke("run", "m", "-p", "x", "--device", "xdma:/dev/xdma0,memory=1GiB", "--memory", "4GiB")
    assert result.stderr.splitlines()[-1] == (
        "Error: --memory is for devices without hardware: xdma:/dev/xdma0,memory=1GiB is built as it is; its memory is named as in"
        " xdma:/dev/xdma0,memory=4GiB"
    )
    result = invoke("run", "m", "-p", "x", "--device", "xdma:/dev/xdma0")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(
        "Error: Invalid value for '--device': 'xdma:/dev/xdma0' does not tell the memory: "
    )


def test_a_run_on_hardware(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.gguf")
    arguments = ["run", model, "-p", "Hello", "-n", 4, "--tokens-per-doorbell", 2, "--device"]
    golden = invoke(*arguments, "golden", "--config", "tiny")
    card = Xdma(monkeypatch, tmp_path, CONFIGS["tiny"], MEMORY)
    result = invoke(*arguments, f"xdma:{card.prefix},memory=1MiB", "--clock", 50)
    card.close()
    assert result.exit_code == 0, result.output
    assert result.stdout == golden.stdout
    for part in (f"xdma:{card.prefix}, hardware (128-bit bus)", "speed, host included", " tokens/s: "):
        assert part in " ".join(result.stderr.split()), result.stderr
    for part in ("simulated", "configuration", "on this machine"):
        assert part not in result.stderr
    assert [line for line in result.stderr.splitlines() if "SHA-256" in line] == [
        line for line in golden.stderr.splitlines() if "SHA-256" in line
    ]


def test_a_model_that_does_not_fit_the_hardware(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.gguf")
    card = Xdma(monkeypatch, tmp_path, CONFIGS["tiny"], 1 << 16)
    result = invoke("run", model, "-p", "Hello", "--device", f"xdma:{card.prefix},memory=64KiB")
    card.close()
    assert result.exit_code == 1
    assert "but only 65536 are available" in result.stderr
