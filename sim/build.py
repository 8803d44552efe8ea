"""Builds the simulated device: Amaranth to Verilog to a shared object, each step at most once.

Two caches: the Verilog of a configuration, named after the sources of the gateware and the contract, so that a warm start needs
neither Amaranth nor Yosys; and the shared object, named after the Verilog, the harness, the options and the tools.
"""

from collections.abc import Sequence
from dataclasses import astuple, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tailrace.spec.config import Config

from .cache import cached, content_key
from .compile import compile_library
from .profile import Training
from .progress import announced
from .sources import module_parts, source_parts

#: Name of the top module.
TOP = "tailrace"

_HARNESS = Path(__file__).parent / "cpp"


def build_device(
    config: Config, *, trace: bool = False, probe: bool = False, threads: int = 1, train: Training | None = None
) -> Path:
    """Build the simulation of a configuration, or find it in the cache.

    Parameters
    ----------
    config : Config
    trace : bool
        Whether it can write waveforms; such a build is slower.
    probe : bool
        Whether it can record timelines; such a build is a little slower.
    threads : int
        Threads that evaluate the core.
    train : Training, optional
        For long runs: how the simulation is run to be measured, before it is compiled again with what was found.

    Returns
    -------
    Path
        The shared object.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    verilog = core_verilog(config, probe)
    what = f"configuration {config.name}"
    return build_library(verilog, what, channels=config.channels, trace=trace, probe=probe, threads=threads, train=train)


def simulated_cycles_key(config: Config) -> str:
    """A name of all that the cycles of a simulation depend on: its Verilog and its harness, whoever compiled them."""
    return content_key([core_verilog(config, probe=True), *_harness_parts()])


def core_verilog(config: Config, probe: bool = False) -> str:
    """Verilog of the co-processor's top level, as Verilator likes it, from the cache if its sources have not changed."""

    def key() -> str:
        sources = module_parts("tailrace.hdl", "tailrace.spec", "tailrace.sim.verilog", __name__)
        versions = [installed_version(package) for package in ("amaranth", "pyosys")]
        # The name is not part of the hardware.
        return content_key([*sources, *versions, repr(astuple(replace(config, name=""))), str(probe)])

    def make(folder: Path) -> None:
        from .verilog import require_tools, to_verilog

        require_tools()
        from tailrace.hdl.top import Top

        with announced(f"elaborating the gateware of configuration {config.name}"):
            verilog = to_verilog(Top(config, probe, gated=True), name=TOP, flatten=False, processes=True)
        (folder / "core.v").write_text(verilog, encoding="utf-8")

    what = f"the Verilog of configuration {config.name}"
    return (cached("verilog", key, make, what=what) / "core.v").read_text(encoding="utf-8")


def build_library(
    verilog: str,
    what: str,
    *,
    channels: int = 1,
    options: Sequence[str] = (),
    brief: bool = False,
    trace: bool = False,
    probe: bool = False,
    threads: int = 1,
    train: Training | None = None,
) -> Path:
    """Build the simulation of a module named `TOP` with the co-processor's ports, or find it in the cache.

    Parameters
    ----------
    verilog : str
    what : str
        What is built, for the line on standard error.
    channels : int
        Its memory ports.
    options : sequence of str
        More for Verilator.
    brief : bool
        It runs for a short time only: better compiled soon than well.
    trace, probe, threads, train
        See `build_device`.

    Returns
    -------
    Path
        The shared object.
    """
    return compile_library(
        verilog,
        TOP,
        "Vcore",
        lambda _: [_HARNESS / "device.cpp"],
        what=what,
        identity=_harness_parts,
        options=options,
        brief=brief,
        definitions=(
            *(("TAILRACE_PROBE=1",) if probe else ()),
            *((f"TAILRACE_PORTS={channels}",) if channels > 1 else ()),
        ),
        trace=trace,
        threads=threads,
        train=train,
    )


def _harness_parts() -> list[str | bytes]:
    # Not the harness of boards, which begins with a b: a change to it must not rebuild every device.
    return source_parts((_HARNESS,), "[!b]*")


def installed_version(package: str) -> str:
    """Version of an installed package, for the cache; ``missing`` if it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
