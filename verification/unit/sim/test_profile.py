"""Profiles of simulations: what compilers are asked for, and what is missing."""

from pathlib import Path

import pytest

from tailrace.sim.profile import Profile
from tailrace.sim.toolchain import Compiler
from tailrace.spec.errors import ToolError

#: Neither is on this machine under that name.
GCC, CLANG = Compiler(("some-g++",), "g++ 12.2.0"), Compiler(("some-clang++",), "Debian clang version 19.1.7")


def test_nothing_counted(tmp_path: Path) -> None:
    for compiler in (GCC, CLANG):
        with pytest.raises(ToolError) as error:
            Profile(compiler, tmp_path).take(tmp_path / "library.so", lambda library, environment: None)
        name = compiler.name
        assert str(error.value) == f"{name} counted nothing in the simulation that was to be optimised: leave that out"


def test_clang_without_its_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError) as error:
        Profile(CLANG, tmp_path).take(tmp_path / "library.so", _count)
    assert str(error.value) == (
        "to optimise a simulation, some-clang++ 19.1.7 needs llvm-profdata-19: install it (on Debian and Ubuntu: apt install llvm),"
        " or take g++ by CXX=g++"
    )


@pytest.mark.parametrize("name", ["llvm-profdata", "llvm-profdata-19"])
def test_clangs_tool_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / name).write_text('#!/bin/sh\necho "$@" > "$3"\n')
    (tmp_path / name).chmod(0o755)
    profile = Profile(CLANG, tmp_path)
    profile.take(tmp_path / "library.so", _count)
    assert (tmp_path / "counts.profdata").read_text().split() == ["merge", "-o", "counts.profdata", "counts.profraw"]
    assert profile.counting == ("-fprofile-instr-generate",)
    assert profile.using == ("-fprofile-instr-use=counts.profdata",)


def _count(library: Path, environment: dict[str, str]) -> None:
    Path(environment["LLVM_PROFILE_FILE"]).touch()
