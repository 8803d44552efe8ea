"""Compiles Verilog and a C++ harness to a shared object.

Verilator is asked only for C++; the compiler is run from here. So neither make nor Perl nor a second Python is needed, folders
may have spaces in their names, and Ctrl-C stops everything.
"""

import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import cached, content_key, is_cached
from .processes import run_all
from .processor import processor
from .profile import Profile, Training
from .progress import announced
from .sources import module_parts
from .toolchain import Compiler, Verilator, find_compiler, find_verilator

#: Name of the shared object within its folder of the cache.
LIBRARY = "library.so"

_VERILATOR = (
    "--cc", "--quiet", "--make", "json", "-O3", "--noassert", "--x-assign", "fast", "--x-initial", "fast",
    # Functions and files of a size that compiles in half the time, and on several processors.
    "--output-split", "20000", "--output-split-cfuncs", "2000",
    "-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-MULTIDRIVEN", "-Wno-UNOPTFLAT",
)  # fmt: skip
_COMMON = ("-std=gnu++17", "-pthread", "-fPIC", "-w", "-DVERILATOR=1")
#: For what runs in every cycle. GCC 12 may copy large structures with moves of 64 bytes that want more alignment than these
#: have, and the simulation of a wide core would end in a segmentation fault.
_FAST = ("-O3", "-march=native", *(("-mno-avx512f",) if platform.machine() in ("x86_64", "AMD64") else ()))
#: For what runs in every cycle, but not for long.
_BRIEF = ("-O1",)
#: For Verilator's runtime, most of which never runs.
_RUNTIME = ("-O1",)
#: For what runs once.
_SLOW = ("-O0",)
#: An octal escape, or another one.
_ESCAPE = re.compile(rb"\\(?:([0-3][0-7]{2})|.)", re.DOTALL)
#: Bytes from which on a source is compiled by itself.
_LARGE = 200_000


def compile_library(
    verilog: str,
    top: str,
    prefix: str,
    harness: Callable[[Path], Sequence[Path]],
    *,
    what: str,
    identity: Callable[[], Sequence[str | bytes]],
    options: Sequence[str] = (),
    definitions: Sequence[str] = (),
    trace: bool = False,
    threads: int = 1,
    brief: bool = False,
    train: Training | None = None,
) -> Path:
    """Compile, or find in the cache what was compiled from the same things with the same tools.

    Parameters
    ----------
    verilog : str
    top : str
        The module to simulate.
    prefix : str
        Name of its C++ class.
    harness : callable
        Takes the folder with Verilator's output, and returns C++ sources to compile with it.
    what : str
        What is compiled, for the line on standard error.
    identity : callable
        Returns everything that the harness depends on, for the cache.
    options : sequence of str
        More for Verilator.
    definitions : sequence of str
        Preprocessor definitions, ``NAME=value``.
    trace : bool
        Whether waveforms (VCD) can be written.
    threads : int
        Threads that evaluate the module.
    brief : bool
        It runs for a short time only: better compiled soon than well.
    train : Training, optional
        It runs for a long time: compiled twice, the second time with what is counted while this runs.

    Returns
    -------
    Path
        The shared object.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    verilator, compiler = find_verilator(), find_compiler()
    options = [
        *_VERILATOR,
        "--prefix",
        prefix,
        "--top-module",
        top,
        "--threads",
        str(threads),
        *options,
        *(["--trace-vcd"] if trace else []),
    ]
    fast = _BRIEF if brief else _FAST
    flags = [*_COMMON, *_features(trace), *(f"-D{definition}" for definition in definitions)]
    if not compiler.is_clang:
        # Otherwise two libraries in one process would share what belongs to one of them.
        flags.append("-fno-gnu-unique")
    tools = [*compiler.identity, verilator.version, processor(), *(["trained"] if train else [])]

    def key() -> str:
        return content_key([*module_parts(__name__), verilog, *identity(), *options, *flags, *fast, *tools])

    def make(folder: Path) -> None:
        work = folder / "work"
        work.mkdir()
        with announced(f"compiling the simulation of {what} with {compiler.name}"):
            written = _verilate(work, verilog, prefix, harness, verilator, options)
            compilation = _Compilation(work, written, verilator, compiler, flags)
            if train is None:
                compilation.link(Path("..") / LIBRARY, fast)
        if train is not None:
            profile = Profile(compiler, work)
            with announced(f"optimising the simulation of {what}: it decodes a token to be measured, and is compiled again"):
                compilation.link(Path(LIBRARY), (*fast, *profile.counting), profile.counting)
                profile.take(work / LIBRARY, train)
                compilation.link(Path("..") / LIBRARY, (*fast, *profile.using))
        shutil.rmtree(work)

    return cached("compiled", key, make, what=f"the simulation of {what}") / LIBRARY


@dataclass(frozen=True)
class _Written:
    """C++ sources: those of what runs in every cycle, the longest first; those of what runs once; Verilator's runtime."""

    often: list[Path]
    once: list[Path]
    runtime: list[Path]


def _verilate(
    work: Path,
    verilog: str,
    prefix: str,
    harness: Callable[[Path], Sequence[Path]],
    verilator: Verilator,
    options: Sequence[str],
) -> _Written:
    (work / "design.v").write_text(verilog, encoding="utf-8")
    run_all([[str(verilator.command), *options, "--Mdir", ".", "design.v"]], work, verilator.environment)
    sources = read_sources((work / f"{prefix}.json").read_bytes())
    often = [work / path for kind, paths in sources.items() if kind.endswith("_fast") for path in paths] + [*harness(work)]
    # Small sources compile faster together, since each reads the same long headers.
    large = [path for path in often if path.stat().st_size >= _LARGE]
    _join(work / "often.cpp", [path for path in often if path not in large])
    _join(work / "once.cpp", [work / path for kind, paths in sources.items() if kind.endswith("_slow") for path in paths])
    # The longest first, so that the processors finish together.
    large.sort(key=lambda path: -path.stat().st_size)
    return _Written([*large, work / "often.cpp"], [work / "once.cpp"], [Path(path) for path in sources["global"]])


class _Compilation:
    """Makes a shared object of what Verilator has written, perhaps more than once."""

    def __init__(self, work: Path, written: _Written, verilator: Verilator, compiler: Compiler, flags: Sequence[str]) -> None:
        self._work, self._written, self._verilator, self._compiler = work, written, verilator, compiler
        include = verilator.root / "include"
        self._command = [*compiler.command, *flags, "-I.", f"-I{include}", f"-I{include}/vltstd", "-c"]
        self._once: list[Path] = []

    def link(self, library: Path, fast: Sequence[str], linking: Sequence[str] = ()) -> None:
        """Compile and link to a path relative to the folder, with these flags for what runs in every cycle."""
        jobs = self._commands(self._written.often, fast)
        if self._once:
            run_all(jobs, self._work)
        else:
            runtime = self._shared_runtime([*jobs, *self._commands(self._written.once, _SLOW)])
            self._once = [*self._objects(self._work, self._written.once), *runtime]
        objects = map(str, [*self._objects(self._work, self._written.often), *self._once])
        command = [*self._compiler.command, "-shared", "-pthread", *linking, "-Wl,-Bsymbolic", "-o", str(library)]
        run_all([[*command, *objects]], self._work)

    def _commands(self, sources: Sequence[Path], level: Sequence[str]) -> list[list[str]]:
        return [[*self._command, *level, "-o", f"{source.stem}.o", str(source)] for source in sources]

    @staticmethod
    def _objects(folder: Path, sources: Sequence[Path]) -> list[Path]:
        return [folder / f"{source.stem}.o" for source in sources]

    def _shared_runtime(self, jobs: list[list[str]]) -> list[Path]:
        """Run the jobs, and those of Verilator's runtime: it depends on the tools alone, and takes a third of the time."""
        runtime = self._written.runtime
        commands = self._commands(runtime, _RUNTIME)
        names, tools = [source.name for source in runtime], [*self._compiler.identity, self._verilator.version]
        key = content_key([*self._command, *_RUNTIME, *names, *tools])
        ready = is_cached("runtime", key)
        run_all(jobs if ready else [*jobs, *commands], self._work)

        def share(folder: Path) -> None:
            if ready:
                # Somebody has removed it since.
                run_all(commands, self._work)
            for made in self._objects(self._work, runtime):
                shutil.copy(made, folder)

        return self._objects(cached("runtime", key, share, what=f"the runtime of {self._verilator.version}"), runtime)


def read_sources(written: bytes) -> dict[str, list[str]]:
    """Paths of C++ sources, by what they are for, as Verilator writes them.

    It is nearly JSON, but bytes beyond ASCII are octal, as in C.
    """
    plain = _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]) if found[1] else found[0], written)
    sources: dict[str, list[str]] = json.loads(os.fsdecode(plain), strict=False)["sources"]
    return sources


def _join(target: Path, sources: Sequence[Path]) -> None:
    names = [source.name if source.parent == target.parent else source for source in sources]
    target.write_bytes(b"".join(b'#include "%s"\n' % os.fsencode(name) for name in names))


def _features(trace: bool) -> list[str]:
    values = {
        "COVERAGE": 0,
        "SC": 0,
        "TIMING": 0,
        "TRACE": trace,
        "TRACE_VCD": trace,
        "TRACE_FST": 0,
        "TRACE_SAIF": 0,
        "VPI": 0,
    }
    return [f"-DVM_{name}={int(value)}" for name, value in values.items()]
