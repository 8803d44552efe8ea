"""What a driver in C needs to know besides the registers."""

from tailrace.spec.errors import ADVICE, ErrorCode
from tailrace.spec.isa import ARGUMENTS, COMMAND_BYTES, ISA_VERSION, MAX_COMMANDS
from tailrace.spec.registers import MAGIC, NO_WATCHDOG, PAGE_BYTES
from tailrace.spec.vector import ALIGNMENT

from .naming import ExportedCore
from .templates import template


def constants_header(core: ExportedCore) -> str:
    """A C header with constants of the contract, all from `tailrace.spec`.

    Parameters
    ----------
    core : ExportedCore

    Returns
    -------
    str
    """
    numbers = {
        "MAGIC": (f"{MAGIC:#x}", "value of the register MAGIC"),
        "ISA_VERSION": (f"{ISA_VERSION:#x}", "of the instruction set: major number in the upper half, minor in the lower"),
        "COMMAND_BYTES": (COMMAND_BYTES, "bytes of a command"),
        "MAX_COMMANDS": (MAX_COMMANDS, "commands in a queue"),
        "ADDRESS_ALIGNMENT": (ALIGNMENT, "addresses of queues, streams and vectors are multiples of this"),
        "PAGE_BYTES": (PAGE_BYTES, "BASE is a multiple of this, LIMIT of this times CHANNELS"),
        "NO_WATCHDOG": (f"{NO_WATCHDOG:#x}", "value of WATCHDOG_CYCLES with which the device waits for ever"),
        "ARGUMENTS": (ARGUMENTS, "registers ARGUMENT_0 and following"),
    }
    defines = "".join(f"#define {core.macro}_{name} {value}  // {doc}\n" for name, (value, doc) in numbers.items())
    codes = "".join(f"    {core.macro}_{code.name} = {code.value},  // {ADVICE[code]}\n" for code in ErrorCode)
    return (
        core.header("Constants besides the registers, in C", "//")
        + f"\n#ifndef {core.macro}_CONSTANTS_H\n#define {core.macro}_CONSTANTS_H\n\n"
        + defines
        + f"\n// Values of the register ERROR_CODE, and what to do about them.\nenum {core.module}_error {{\n"
        + codes
        + "};\n\n#endif\n"
    )


def run_header(core: ExportedCore) -> str:
    """A C header that starts a command queue and waits for its end.

    Parameters
    ----------
    core : ExportedCore

    Returns
    -------
    str
    """
    return template("run.h", HEADER=core.header("A driver in C", "//").rstrip(), MODULE=core.module, MACRO=core.macro)
