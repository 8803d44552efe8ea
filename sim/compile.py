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
from pathlib import Path

from .cache import cached, content_key, is_cached
from .processes import run_all
from .processor import processor
from .progress import announced
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
    identity: Sequence[str | bytes],
    options: Sequence[str] = (),
    definitions: Sequence[str] = (),
    trace: bool = False,
    threads: int = 1,
    brief: bool = False,
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
    identity : sequence of str or bytes
        Everything that the harness depends on, for the cache.
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
    recipe = Path(__file__).read_bytes()
    tools = [*compiler.identity, verilator.version, processor()]
    key = content_key([recipe, verilog, *identity, *options, *flags, *fast, *tools])

    def make(folder: Path) -> None:
        work = folder / "work"
        work.mkdir()
        with announced(f"compiling the simulation of {what} with {compiler.name}"):
            objects = _compile(work, verilog, prefix, harness, verilator, options, compiler, flags, fast)
            link = [*compiler.command, "-shared", "-pthread", "-Wl,-Bsymbolic", "-o", "../" + LIBRARY]
            run_all([[*link, *map(str, objects)]], work)
        shutil.rmtree(work)

    return cached("compiled", key, make, what=f"the simulation of {what}") / LIBRARY


def _compile(
    work: Path,
    verilog: str,
    prefix: str,
    harness: Callable[[Path], Sequence[Path]],
    verilator: Verilator,
    options: Sequence[str],
    compiler: Compiler,
    flags: Sequence[str],
    fast: Sequence[str],
) -> list[Path]:
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
    jobs = [(path, fast) for path in [*large, work / "often.cpp"]] + [(work / "once.cpp", _SLOW)]
    include = verilator.root / "include"
    compile_one = [*compiler.command, *flags, "-I.", f"-I{include}", f"-I{include}/vltstd", "-c"]

    def commands(jobs: Sequence[tuple[Path, Sequence[str]]]) -> list[list[str]]:
        return [[*compile_one, *level, "-o", f"{source.stem}.o", str(source)] for source, level in jobs]

    def objects(folder: Path, jobs: Sequence[tuple[Path, Sequence[str]]]) -> list[Path]:
        return [folder / f"{source.stem}.o" for source, _ in jobs]

    # Verilator's runtime depends on the tools and flags alone, and takes a third of the time.
    runtime = [(Path(path), _RUNTIME) for path in sources["global"]]
    key = content_key([*compile_one, *_RUNTIME, *(source.name for source, _ in runtime), *compiler.identity, verilator.version])
    ready = is_cached("runtime", key)
    run_all(commands(jobs if ready else [*jobs, *runtime]), work)

    def share(folder: Path) -> None:
        if ready:
            # Somebody has removed it since.
            run_all(commands(runtime), work)
        for made in objects(work, runtime):
            shutil.copy(made, folder)

    shared = cached("runtime", key, share, what=f"the runtime of {verilator.version}")
    return objects(work, jobs) + objects(shared, runtime)


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
