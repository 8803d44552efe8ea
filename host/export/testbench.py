"""The plain testbench and the files that it reads."""

from collections.abc import Iterable

from tailrace.spec.config import memory_port_names
from tailrace.spec.registers import offset

from .naming import ExportedCore
from .program import BenchProgram
from .templates import template

#: Cycles for a run; these take some thousands.
_TIMEOUT = 1_000_000
#: What lies between the seeds of two memories (the golden ratio, as a fraction of 2^32), so that they stall apart.
_APART = 0x9E37_79B9


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
    before, after = (_words(memory, config.beat_bytes) for memory in (program.before, program.after))
    registers = {name: f"{offset(name):03x}" for name in ("AP_CTRL", "ISR", "ERROR_CODE", "ERROR_COMMAND", "CYCLES_LO")}
    ports = memory_port_names(config)
    memories = [template("testbench_memory.sv", MODULE=module, PORT=port, SEED=_seed(n)) for n, port in enumerate(ports)]
    bench = template(
        "testbench.sv",
        HEADER=core.header("A testbench without Python", "//").rstrip(),
        MODULE=module,
        DATA_WIDTH=config.bus_width,
        CHANNELS=config.channels,
        CONNECTIONS=",\n".join(template("testbench_connections.sv", PORT=port).rstrip() for port in ports),
        MEMORIES="\n".join(memories),
        PARTS=", ".join(f"{port}_memory.words[i]" for port in reversed(ports)),
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
        "memory.hex": _lines(f"device memory before the first doorbell, in words of {config.beat_width} bits", before),
        "writes.hex": _lines("offset and value of each register write", _pairs(program.writes)),
        "expected.hex": _lines("words of device memory that differ after the last run", changed),
    }


def _seed(port: int) -> str:
    """What the memory behind a port draws its stalls from: 1 behind the first."""
    return f"{(1 + port * _APART) % (1 << 32):08x}"


def _words(memory: bytes, size: int) -> list[str]:
    return [memory[place : place + size][::-1].hex() for place in range(0, len(memory), size)]


def _pairs(pairs: Iterable[tuple[int, int]]) -> list[str]:
    return [f"{place:03x}_{value:08x}" for place, value in pairs]


def _lines(title: str, lines: Iterable[str]) -> str:
    return "\n".join((f"// {title}", *lines, ""))
