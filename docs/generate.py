"""Write docs/registers.md and docs/isa.md from `tailrace.spec`; with ``--check`` only say whether they are up to date."""

import sys
from collections.abc import Iterable
from inspect import cleandoc
from pathlib import Path
from types import ModuleType

from tailrace.spec import errors, formats, isa, registers

DOCS = Path(__file__).resolve().parent


def _prose(text: str) -> str:
    """A docstring as Markdown."""
    return cleandoc(text).replace("``", "`")


def _introduction(module: ModuleType) -> str:
    """What a module says about itself, under a line that says where the page comes from."""
    source = f"spec/{module.__name__.rpartition('.')[2]}.py"
    notice = f"<!-- Written by docs/generate.py from {source}; change that, then run `make docs`. -->"
    return f"{notice}\n\n{_prose(module.__doc__ or '')}"


def _table(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    titles = list(titles)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def registers_page() -> str:
    """The page on the register map."""

    def table(group: Iterable[registers.Register]) -> str:
        return _table(
            ("Offset", "Name", "Access", "Meaning"),
            (
                (
                    f"`{r.offset:#05x}`",
                    f"`{r.name}`",
                    r.access,
                    _prose(r.doc) + (f" (after reset {r.reset})" if r.reset else ""),
                )
                for r in group
            ),
        )

    counters = _table(
        ("Offset", "Name", "Meaning"),
        (
            (f"`{registers.COUNTER_BASE + 8 * i:#05x}`", f"`{name}_LO`, `_HI`", _prose(doc))
            for i, (name, doc) in enumerate(registers.COUNTERS)
        ),
    )
    return f"""# Registers

{_introduction(registers)}

Access: `rw` is read and written, `ro` only read; `special` does what its text says.
After reset all are 0 unless said otherwise. Offsets are in bytes.
{registers.ADDRESS_BITS} bits of an address are decoded. `_LO` and `_HI` are the lower and the upper half of a 64-bit number.

## Control

{table(registers.CONTROL)}

A run goes like this: write the address and the length of the [command queue](isa.md), write 1 to bit 0 of `AP_CTRL`, wait for
the interrupt or for bit 1 of `AP_CTRL`, then read `ERROR_CODE`. After an error the next start works like any other.

## Identification

What the build is. A driver reads these first, and lays weights out for what they say.

{table(registers.IDENTIFICATION)}

## Errors

{table(registers.ERROR)}

{_error_codes()}

## Performance counters

Each counter is 64 bits wide, starts at 0 with a run and stops with it. Every cycle of a run is counted once in `CYCLES`, and
once in one of the counters from `COMMAND_BEATS` down to `STALL_DRAIN`: these are a full account of where the time went.

{counters}
"""


def _error_codes() -> str:
    """The table of error codes."""
    return _table(
        ("Code", "Name", "What to do"),
        ((int(code), f"`{code.name}`", _prose(errors.ADVICE[code])) for code in errors.ErrorCode),
    )


def _command(opcode: isa.Opcode) -> str:
    """The section on one command."""

    def bits(field: isa.Field) -> str:
        if field.low + field.width > 32:
            return "all"
        return f"{field.low + field.width - 1}:{field.low}" if field.width > 1 else str(field.low)

    def words(field: isa.Field) -> str:
        last = field.word + (field.low + field.width - 1) // 32
        return str(field.word) if last == field.word else f"{field.word} and {last}"

    rows = (
        (
            words(f),
            bits(f) if f.low + f.width <= 32 else "all",
            f"`{f.name}`",
            f"{int(opcode)}" if f.name == "opcode" else f.doc,
        )
        for f in sorted(isa.FIELDS[opcode], key=lambda field: field.position)
    )
    return f"## {opcode.name}\n\n{_prose(isa.DOCS[opcode])}\n\n{_table(('Word', 'Bits', 'Field', 'Meaning'), rows)}"


def isa_page() -> str:
    """The page on the instruction set."""
    commands = "\n\n".join(_command(opcode) for opcode in isa.Opcode)
    weights = _table(
        ("Number", "Name", "GGUF type", "Bits per weight"),
        ((f.number, f.name, f.ggml_type, f"{f.bits_per_weight:g}") for f in formats.FORMATS),
    )
    return f"""# Instruction set

{_introduction(isa)}

This page describes version {isa.ISA_MAJOR}.{isa.ISA_MINOR}. A queue holds up to {isa.MAX_COMMANDS} commands.
Where it is and how many commands it holds is written to [registers](registers.md) before a run is started.

{commands}

## Weight formats

{weights}

The layout of a weight stream is stated in `spec/formats.py`, that of a vector in `spec/vector.py`.

## Limits

* The rows of a matrix and the floats of a `STORE`: at most {isa.MAX_ROWS}.
* The stride of a `QUANTISE`: at most {isa.MAX_STRIDE}.
* Every other limit is a [register](registers.md#identification) of the build.

## What is checked

A command is checked before it does anything. The first of these that applies is reported, with the index of the command:

1. `BAD_OPCODE`: the opcode is none of the above;
2. `BAD_FIELD`: a bit outside the command's fields is set, a slot does not exist, or the format is not one of the build;
3. `OUT_OF_RANGE`: a count is zero or above its limit, an address has more bits than the build drives, or the command would
   go beyond the end of the result buffer;
4. `MISALIGNED`: an address is not a multiple of {isa.ALIGNMENT}.

A queue whose length or address is out of range, or whose address is misaligned, is reported in the same way with index 0.
Commands before the failing one have done their work; those after it have not.

{_error_codes()}
"""


PAGES = {"registers.md": registers_page, "isa.md": isa_page}


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    stale = [name for name, page in PAGES.items() if not (DOCS / name).exists() or (DOCS / name).read_text() != page()]
    if arguments == ["--check"]:
        for name in stale:
            print(f"docs/{name} does not follow from spec/: run `make docs` and commit what it writes")
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(PAGES[name]())
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
