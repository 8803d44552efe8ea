"""Builds the simulated device: Amaranth to Verilog to C++ to a shared object, each step at most once.

Two caches: the Verilog of a configuration, named after the sources of the gateware and the contract, so that a warm start needs
neither Amaranth nor Yosys; and the shared object, named after the Verilog, the C++ sources, the options and Verilator's version.
"""

import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from tailrace.spec.config import Config

from .cache import cached, content_key, source_parts
from .processes import run_all
from .toolchain import Verilator, find_compiler, find_verilator

#: Name of the shared object within its folder of the cache.
LIBRARY = "device.so"
#: Name of the top module and of the Verilated class.
TOP = "tailrace"

_CPP = Path(__file__).parent / "cpp"
_VERILATOR_FLAGS = (
    "--cc", "--quiet", "--prefix", "Vcore", "--make", "json", "-O3", "--noassert", "--x-assign", "fast", "--x-initial", "fast",
    "-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-MULTIDRIVEN", "-Wno-UNOPTFLAT",
)  # fmt: skip
_COMMON_FLAGS = ("-std=gnu++17", "-pthread", "-fPIC", "-fvisibility=hidden", "-w", "-DVERILATOR=1")
_FAST_FLAGS = ("-O3", "-march=native")
_SLOW_FLAGS = ("-O0",)


def build_device(config: Config, *, trace: bool = False, threads: int = 1) -> Path:
    """Build the simulation of a configuration, or find it in the cache.

    Parameters
    ----------
    config : Config
    trace : bool
        Whether it can write waveforms; such a build is slower.
    threads : int
        Threads that evaluate the core.

    Returns
    -------
    Path
        The shared object.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    return build_library(core_verilog(config, flatten=not trace), f"configuration {config.name}", trace=trace, threads=threads)


def core_verilog(config: Config, *, flatten: bool = True) -> str:
    """Verilog of the co-processor's top level, from the cache if its sources have not changed.

    Parameters
    ----------
    config : Config
    flatten : bool
        See `tailrace.hdl.verilog.to_verilog`.
    """
    sources = source_parts((Path(str(files("tailrace.hdl"))), Path(str(files("tailrace.spec")))), "*.py")
    versions = [_installed(package) for package in ("amaranth", "pyosys")]
    # The name is not part of the hardware.
    key = content_key([*sources, *versions, repr(astuple(replace(config, name=""))), str(flatten)])

    def make(folder: Path) -> None:
        from tailrace.hdl.top import Top
        from tailrace.hdl.verilog import to_verilog

        with _announced(f"elaborating the gateware of configuration {config.name}"):
            (folder / "core.v").write_text(to_verilog(Top(config), name=TOP, flatten=flatten), encoding="utf-8")

    return (cached("verilog", key, make) / "core.v").read_text(encoding="utf-8")


def build_library(verilog: str, what: str, *, trace: bool = False, threads: int = 1) -> Path:
    """Build the simulation of a module named `TOP` with the co-processor's ports, or find it in the cache.

    Parameters
    ----------
    verilog : str
    what : str
        What is built, for the line on standard error.
    trace, threads
        See `build_device`.

    Returns
    -------
    Path
        The shared object.
    """
    verilator, compiler = find_verilator(), find_compiler()
    harness = source_parts((_CPP,), "*")
    flags = [*_VERILATOR_FLAGS, *_COMMON_FLAGS, *_FAST_FLAGS, *_SLOW_FLAGS, str(trace), str(threads)]
    key = content_key([verilog, *harness, *flags, verilator.version, *compiler, _processor()])

    def make(folder: Path) -> None:
        with _announced(f"compiling the simulation of {what}"):
            _compile(folder, verilog, verilator, compiler, trace, threads)

    return cached("device", key, make) / LIBRARY


def _compile(folder: Path, verilog: str, verilator: Verilator, compiler: Sequence[str], trace: bool, threads: int) -> None:
    work = folder / "work"
    work.mkdir()
    (work / "core.v").write_text(verilog, encoding="utf-8")
    arguments = [*_VERILATOR_FLAGS, "--top-module", TOP, "--Mdir", ".", "--threads", str(threads), *(["--trace-vcd"] if trace else []), "core.v"]
    run_all([[str(verilator.command), *arguments]], work, verilator.environment)

    sources = json.loads((work / "Vcore.json").read_text(encoding="utf-8"))["sources"]
    fast: list[str] = [*sources["classes_fast"], str(_CPP / "device.cpp")]
    slow: list[str] = [*sources["classes_slow"], *sources["support_slow"]]
    # Slow sources run once, at the start: together they compile faster, since each reads the same long headers.
    (work / "slow.cpp").write_text("".join(f'#include "{path}"\n' for path in slow), encoding="utf-8")
    include = verilator.root / "include"
    definitions = [f"-DVM_{name}={int(value)}" for name, value in _features(trace).items()]
    common = [*compiler, *_COMMON_FLAGS, *definitions, "-I.", f"-I{_CPP}", f"-I{include}", f"-I{include}/vltstd", "-c"]
    if "clang" not in compiler[0]:
        # Otherwise two devices in one process would share what belongs to one of them.
        common.append("-fno-gnu-unique")
    # The longest first, so that the processors finish together.
    fast.sort(key=lambda path: -(work / path).stat().st_size)
    jobs = [(path, _FAST_FLAGS) for path in fast] + [(path, ("-O1",)) for path in sources["global"]] + [("slow.cpp", _SLOW_FLAGS)]
    commands, objects = [], []
    for number, (path, optimisation) in enumerate(jobs):
        objects.append(f"{number}.o")
        commands.append([*common, *optimisation, "-o", objects[-1], path])
    run_all(commands, work)
    run_all([[*compiler, "-shared", "-pthread", "-Wl,-Bsymbolic", "-o", str(folder / LIBRARY), *objects]], work)
    for path in sorted(work.iterdir()):
        path.unlink()
    work.rmdir()


def _features(trace: bool) -> dict[str, bool]:
    return {"COVERAGE": False, "SC": False, "TIMING": False, "TRACE": trace, "TRACE_VCD": trace, "TRACE_FST": False, "TRACE_SAIF": False, "VPI": False}


@contextmanager
def _announced(what: str) -> Iterator[None]:
    """Say on standard error what takes long, and at the end how long it took."""
    start = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(f"{what} (once; then it is cached)"):
            yield
    else:
        print(f"tailrace: {what} (once; then it is cached)", file=sys.stderr, flush=True)
        yield
    print(f"tailrace: {what}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


@cache
def _processor() -> str:
    """The kind of processor: the build uses all its instructions, and a cache may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "") + platform.machine()


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
