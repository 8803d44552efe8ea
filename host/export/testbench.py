"""The plain testbench and the files that it reads."""

from collections.abc import Iterable

from tailrace.spec.registers import offset

from .naming import ExportedCore
from .program import BenchProgram
from .templates import template

#: Cycles for a run; these take some thousands.
_TIMEOUT = 1_000_000


def bench_files(core: ExportedCore, program: BenchProgram) -> dict[str, str]:
    """The files of the testbench.

    Parameters
    ----------
    core : ExportedCore
    program : BenchProgram

    Returns
    -------
    dict of str to str
        Names and contents.
    """
    config, module = core.config, core.module
    before, after = (_words(memory, config.bus_bytes) for memory in (program.before, program.after))
    registers = {name: f"{offset(name):03x}" for name in ("AP_CTRL", "ISR", "ERROR_CODE", "ERROR_COMMAND", "CYCLES_LO")}
    bench = template(
        "testbench.sv",
        HEADER=core.header("A testbench without Python", "//").rstrip(),
        MODULE=module,
        DATA_WIDTH=config.bus_width,
        ADDRESS_WIDTH=config.address_width,
        MEMORY_WORDS=len(before),
        IDENTIFICATIONS=len(program.identification),
        WRITES=len(program.writes),
        TIMEOUT=_TIMEOUT,
        **registers,
    )
    changed = [f"@{place:x} {new}" for place, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    return {
        f"{module}_axi_memory.sv": template("axi_memory.sv", MODULE=module),
        f"{module}_tb.sv": bench,
        "identification.hex": _lines("offset and value of the registers that tell the build", _pairs(program.identification)),
        "memory.hex": _lines(f"device memory before the first doorbell, in words of {config.bus_width} bits", before),
        "writes.hex": _lines("offset and value of each register write", _pairs(program.writes)),
        "expected.hex": _lines("words of device memory that differ after the last run", changed),
    }


def _words(memory: bytes, size: int) -> list[str]:
    return [memory[place : place + size][::-1].hex() for place in range(0, len(memory), size)]


def _pairs(pairs: Iterable[tuple[int, int]]) -> list[str]:
    return [f"{place:03x}_{value:08x}" for place, value in pairs]


def _lines(title: str, lines: Iterable[str]) -> str:
    return "\n".join((f"// {title}", *lines, ""))
