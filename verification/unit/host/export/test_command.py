import errno
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tailrace.command.cli import main
from tailrace.export import export as exporting
from tailrace.export import registers
from tailrace.export.naming import ExportedCore
from tailrace.spec.errors import MissingPackage

FILES = [
    "README.md", "lint/tailrace_tiny.vlt", "registers/tailrace_tiny.rdl", "registers/tailrace_tiny.xml", "rtl/tailrace_tiny.v",
    "sim/expected.hex", "sim/identification.hex", "sim/memory.hex", "sim/tailrace_tiny_axi_memory.sv",
    "sim/tailrace_tiny_tb.sv", "sim/writes.hex", "software/tailrace_tiny.h", "software/tailrace_tiny_constants.h",
    "software/tailrace_tiny_run.h", "tailrace.core", "tools/verilator", "tools/yosys", "xrt/kernel.xml",
    "xrt/package_kernel.tcl",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for package in ("systemrdl", "peakrdl_cheader", "peakrdl_ipxact"):
        pytest.importorskip(package)
    # The Verilog itself takes half a minute; verification/system/test_export.py makes and simulates it.
    file = tmp_path_factory.mktemp("verilog") / "core.v"

    def kept(core: ExportedCore) -> Path:
        file.write_text(f"module {core.module};\nendmodule\n")
        return file

    monkeypatch.setattr(exporting, "kept_verilog", kept)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *(str(a) for a in arguments)])


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_folder_is_complete_and_says_what_is_in_it(tmp_path: Path) -> None:
    target = tmp_path / "core"
    result = invoke("--config", "tiny", "-o", target)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{target}: tailrace_tiny; read README.md there\n"
    assert [line[:5] for line in result.stderr.splitlines()] == [f"[{n}/4]" for n in range(1, 5)]
    assert files(target) == FILES
    readme = (target / "README.md").read_text()
    for name in FILES:
        assert (
            name in readme
            or name.rpartition("/")[0] + "/*" in readme
            or name.rpartition("/")[0] + "/`" in readme
            or name == "README.md"
        ), name
    for name in FILES:
        text = (target / name).read_text()
        assert str(tmp_path) not in text
        assert "@MODULE@" not in text
    assert all((target / "tools" / name).stat().st_mode & 0o111 for name in ("verilator", "yosys"))
    before = {name: (target / name).read_bytes() for name in FILES}
    assert invoke("--config", "tiny", "-o", target).stderr.splitlines()[-1] == (
        f"tailrace: {target} holds an earlier export: replace it with --force, or choose another folder with -o"
    )
    assert invoke("--config", "tiny", "-o", target, "--force").exit_code == 0
    assert {name: (target / name).read_bytes() for name in files(target)} == before


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(core: ExportedCore, program: object) -> dict[str, str]:
        raise OSError(errno.ENOSPC, "No space left on device", "memory.hex")

    monkeypatch.setattr(exporting, "bench_files", full)
    result = invoke("--config", "tiny", "-o", tmp_path / "core")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "tailrace: No space left on device (memory.hex): free some space"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registers, "find_spec", lambda name: None)
    result = invoke("-o", tmp_path / "core")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"tailrace: {MissingPackage('systemrdl-compiler', 'to export', 'export')}\n"
    assert list(tmp_path.iterdir()) == []


def test_configurations_are_checked(tmp_path: Path) -> None:
    result = invoke("--config", "huge", "-o", tmp_path / "core")
    assert result.exit_code == 1
    assert (
        result.stderr
        == "tailrace: unknown configuration 'huge': choose one of tiny, base, large, wide, arty, kv260, u280-hbm\n"
    )
    assert invoke("--config", "tiny").exit_code == 2
