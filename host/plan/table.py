"""Boards and GPUs to choose from: a TOML file that comes along, or the user's own."""

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from tailrace.sim.memory_models import MEMORIES, dram_of
from tailrace.spec.config import Config, parse_config
from tailrace.spec.errors import ConfigError
from tailrace.spec.formats import LANE_BYTES

from ..transports.sizes import parse_size

#: The table that comes along.
SHIPPED = Path(__file__).with_name("hardware.toml")
#: How it is known that a core clocks as fast as a board's line says.
CLOCKS = ("routed", "estimated", "assumed")
#: Figures that may be guesses.
_GUESSES = ("watts", "usd")
_OPTIONAL = ("reads", "guessed")


@dataclass(frozen=True)
class Board:
    """A board or card with Tailrace on it. `hardware.toml` says what each field is.

    Attributes
    ----------
    name, title, build : str
    cores, ports, port_bits : int
    clock_mhz : float
    clock_is : str
        One of `CLOCKS`; or ``given``, if whoever asks has said what to reckon with.
    memory, memory_size : str
    memory_gb_s : float
    memory_timing : str
    link_mb_s, watts, usd : float
    source : str
    reads : float
        0: what the timing of the memory leaves.
    guessed : tuple of str
        Which of watts and USD nobody has stated.
    """

    name: str
    title: str
    build: str
    cores: int
    ports: int
    port_bits: int
    clock_mhz: float
    clock_is: str
    memory: str
    memory_size: str
    memory_gb_s: float
    memory_timing: str
    link_mb_s: float
    watts: float
    usd: float
    source: str
    reads: float = 0.0
    guessed: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """The build of each of its cores."""
        return parse_config(self.build)

    @property
    def bus_bytes(self) -> int:
        """Bytes that each core takes in a cycle, from all of its ports."""
        return self.config.lanes * LANE_BYTES

    @property
    def core_bytes(self) -> int:
        """Bytes of memory that each core has."""
        return parse_size(self.memory_size) // self.cores

    def rate(self, cycles: float) -> float:
        """How often a second has time for so many cycles."""
        return self.clock_mhz * 1e6 / cycles


@dataclass(frozen=True)
class Gpu:
    """A GPU that computes prompts. `hardware.toml` says what each field is.

    Attributes
    ----------
    name, title : str
    fp16_tflops, part : float
    memory_size : str
    memory_gb_s, watts, usd : float
    source : str
    guessed : tuple of str
    """

    name: str
    title: str
    fp16_tflops: float
    part: float
    memory_size: str
    memory_gb_s: float
    watts: float
    usd: float
    source: str
    guessed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hardware:
    """What there is to choose from.

    Attributes
    ----------
    boards : tuple of Board
    gpus : tuple of Gpu
    """

    boards: tuple[Board, ...]
    gpus: tuple[Gpu, ...]


_Entry = TypeVar("_Entry", Board, Gpu)


def read_table(path: Path = SHIPPED) -> Hardware:
    """Read a table of boards and GPUs.

    Raises
    ------
    ConfigError
        If it is no TOML, or says something of a board or a GPU that can't be.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    if unknown := found.keys() - {"board", "gpu"}:
        raise ConfigError(f"{path}: unknown table {min(unknown)!r}: choose [[board]] or [[gpu]]")
    hardware = Hardware(_entries(path, found, "board", Board, _check_board), _entries(path, found, "gpu", Gpu, _check_gpu))
    if not hardware.boards:
        raise ConfigError(f"{path} has no [[board]]: tailrace plan --write-table FILE writes a table to begin with")
    return hardware


def write_table(path: Path) -> None:
    """Write a copy of the table that comes along, to be edited.

    Raises
    ------
    ConfigError
        If there is such a file: it may be a table that somebody has edited.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already: name another file")
    path.write_bytes(SHIPPED.read_bytes())


def _entries(
    path: Path, found: Mapping[str, Any], kind: str, what: type[_Entry], check: Callable[[_Entry], None]
) -> tuple[_Entry, ...]:
    given = found.get(kind, [])
    if not isinstance(given, list) or not all(isinstance(values, dict) for values in given):
        raise ConfigError(f"{path}: {kind} must be written as [[{kind}]], once for each")
    entries: list[_Entry] = []
    for number, values in enumerate(given, 1):
        name = values.get("name")
        place = f"{path}: {kind} {name!r}" if isinstance(name, str) else f"{path}: {kind} number {number}"
        try:
            entry = what(**_values(values, what))
            check(entry)
            if entry.name in {other.name for other in entries}:
                raise ConfigError("there is another one of this name")
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        entries.append(entry)
    return tuple(entries)


def _values(values: Mapping[str, Any], what: type[Board] | type[Gpu]) -> dict[str, Any]:
    """The values of an entry, each checked by itself."""
    known = {field.name: field for field in fields(what)}
    if unknown := [name for name in values if name not in known]:
        raise ConfigError(f"unknown field {unknown[0]!r}: choose from {', '.join(known)}")
    if missing := [name for name in known if name not in values and name not in _OPTIONAL]:
        raise ConfigError(f"{missing[0]} is missing")
    return {name: _value(name, value, known[name].type) for name, value in values.items()}


def _value(name: str, value: Any, kind: Any) -> Any:
    if kind is str:
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{name} must be a text, not {value!r}")
        return value
    if name == "guessed":
        if not isinstance(value, list) or any(one not in _GUESSES for one in value):
            raise ConfigError(f"guessed must be a list of {' and '.join(_GUESSES)}, not {value!r}")
        return tuple(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind is int and not (whole and value >= 1):
        raise ConfigError(f"{name} must be a whole number from 1 on, not {value!r}")
    if not (whole or isinstance(value, float)) or not math.isfinite(value):
        raise ConfigError(f"{name} must be a number, not {value!r}")
    # What divides something can't be nothing.
    least = "0 or more" if name in _GUESSES else "above 0"
    if value < 0 or (value == 0 and least == "above 0"):
        raise ConfigError(f"{name} must be {least}, not {value!r}")
    return value if kind is int else float(value)


def _check_board(board: Board) -> None:
    config, bits = board.config, board.ports * board.port_bits
    if bits != 8 * board.bus_bytes:
        there = f"{board.ports} x {board.port_bits} bits of ports are {bits}"
        raise ConfigError(f"{there}, and {board.build} takes {8 * board.bus_bytes}")
    if board.clock_is not in CLOCKS:
        raise ConfigError(f"clock_is must be one of {', '.join(CLOCKS)}, not {board.clock_is!r}")
    if board.memory_timing not in MEMORIES:
        raise ConfigError(f"memory_timing must be one of {', '.join(MEMORIES)}, not {board.memory_timing!r}")
    if dram_of(board.memory_timing) and board.reads:
        raise ConfigError(f"reads is for memory_timing = 'ideal': what {board.memory_timing} leaves is known")
    if not dram_of(board.memory_timing) and not 0 < board.reads <= 1:
        raise ConfigError(f"reads must be above 0 and up to 1 where memory_timing = 'ideal', not {board.reads:g}")
    config.check_memory_size(board.core_bytes // 64 * 64)


def _check_gpu(gpu: Gpu) -> None:
    parse_size(gpu.memory_size)
    if gpu.part > 1:
        raise ConfigError(f"part must be up to 1, not {gpu.part:g}")
    if gpu.name == "device":
        raise ConfigError("the name is taken: device is what computes prompts without a GPU")
