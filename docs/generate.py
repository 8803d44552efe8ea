"""Write what follows from the sources into the documents; ``--check`` compares, ``--help`` says the rest.

docs/registers.md and docs/isa.md come from `tailrace.spec`, the tables of docs/models.md from what is known of models, and the
cycles on the pages of the blocks from the components: a figure there has its source behind it, in a comment, as in
``20<!-- GemvEngine.latency -->``, ``57<!-- Total(4).latency -->`` or ``3<!-- VectorLoader(wide).commit_latency -->``.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from functools import cache, partial
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from types import ModuleType
from typing import Any

from tailrace.spec import errors, formats, isa, registers
from tailrace.spec.config import CONFIGS

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

Builds of several memory ports have a base for each:

{table(registers.CHANNEL_BASES)}

## Identification

What the build is. A driver reads these first, and lays weights out for what they say.

{table(registers.IDENTIFICATION)}

## Errors

{table(registers.ERROR)}

{_error_codes()}

## Performance counters

Each counter is 64 bits wide, starts at 0 with a run and stops with it. Every cycle of a run is counted once in `CYCLES`, and
once in one of the counters from `COMMAND_BEATS` down to `STALL_DRAIN`: these are a full account of where the time went.
They may be read while a run lasts: the halves of one may then be of different moments
([details](blocks/control.md#what-a-cycle-is-counted-as)).

{counters}
"""


def _error_codes() -> str:
    """The table of error codes."""
    return _table(
        ("Code", "Name", "What to do"),
        ((int(code), f"`{code.name}`", _prose(errors.ADVICE[code])) for code in errors.ErrorCode),
    )


def _bits(field: isa.Field) -> str:
    """Where a field lies in its word."""
    if field.width == 32:
        return "all"
    return f"{field.low + field.width - 1}:{field.low}" if field.width > 1 else str(field.low)


#: Limits of fields that depend on the build, as `tailrace.spec.commands.limits` computes them.
_BUILD_LIMITS = {
    "slot": "`RIGHT_HAND_SIDES` - 1",
    "slots": "`RIGHT_HAND_SIDES`",
    "block": "`MAX_BLOCKS` - 1",
    "blocks": "`MAX_BLOCKS`",
    "entry": "`BUFFER_ENTRIES` - 1",
    "entries": "`BUFFER_ENTRIES`",
    "address": "2^(`ADDRESS_WIDTH` - 6) - 1",
    "format": "a format of the build",
}


def _range(field: isa.Field) -> str:
    """Values of a field that are accepted; what the device answers to others is in the column beside it."""
    if field.name == "opcode":
        return ""
    if field.maximum == "format":
        return _BUILD_LIMITS["format"]
    low = -(1 << field.width - 1) if field.signed else field.minimum
    high = (1 << field.width - field.signed) - 1 if field.maximum is None else field.maximum
    top = _BUILD_LIMITS[high] if isinstance(high, str) else "2^32 - 1" if high == (1 << 32) - 1 else str(high)
    of = "a beat, if that is more" if isinstance(field.multiple, str) else field.multiple
    step = f", multiples of {of}" if of != 1 else ""
    return f"{low} to {top}{step}" if field.width > 1 else "0, 1"


def _answer(field: isa.Field) -> str:
    """What the device answers to a value out of range; nothing if there is none."""
    return f"`{field.error.name}`" if field.minimum or field.maximum is not None or field.multiple != 1 else ""


def _is_modifier(field: isa.Field) -> bool:
    return field.name.startswith("modifier_")


def _command(opcode: isa.Opcode) -> str:
    """The section on one command."""
    rows = (
        (
            f.word,
            _bits(f),
            f"`{f.name}`",
            int(opcode) if f.name == "opcode" else _prose(f.doc),
            _range(f),
            _answer(f),
        )
        for f in sorted(isa.FIELDS[opcode], key=lambda field: field.position)
        if not _is_modifier(f)
    )
    modifiers = "\n\nIt may have [modifiers](#modifiers)." if opcode in isa.MODIFIABLE else ""
    table = _table(("Word", "Bits", "Field", "Meaning", "Range", "Otherwise"), rows)
    return f"## {opcode.name}\n\n{_prose(isa.DOCS[opcode])}{modifiers}\n\n{table}"


def isa_page() -> str:
    """The page on the instruction set."""
    commands = "\n\n".join(_command(opcode) for opcode in isa.Opcode)
    modifiers = _table(
        ("Word", "Bits", "Field", "Meaning", "Range"),
        ((f.word, _bits(f), f"`{f.name}`", _prose(f.doc), _range(f)) for f in isa.FIELDS[isa.Opcode.FENCE] if _is_modifier(f)),
    )
    overview = _table(
        ("Opcode", "Command", "Unit"),
        ((int(o), f"[{o.name}](#{o.name.lower()})", _unit(o)) for o in isa.Opcode),
    )
    weights = _table(
        ("Number", "Name", "GGUF type", "Bits per weight"),
        ((f.number, f.name, f.ggml_type if f.ggml_type >= 0 else "", f"{f.bits_per_weight:g}") for f in formats.FORMATS),
    )
    return f"""# Instruction set

{_introduction(isa)}

This page describes version {isa.ISA_MAJOR}.{isa.ISA_MINOR}. A queue holds up to {isa.MAX_COMMANDS} commands.
Where it is and how many commands it holds is written to [registers](registers.md) before a run is started.

{overview}

## Modifiers

{modifiers}

Modifiers are applied one after the other. They change whole words: what a sum carries over goes into the next field of the
word. The command is then checked as if these values had been written in it.

{commands}

## Formats

{weights}

`I8` is the format of cached values. The layout of streams is stated in `spec/formats.py`, that of a vector in `spec/vector.py`,
that of the KV cache in `spec/kv_cache.py`; [Numerics](numerics.md) says what the numbers are.

## What is checked

A command is checked before it does anything, with its modifiers applied. The first of these that applies is reported, with the
index of the command:

1. `BAD_OPCODE`: the opcode is none of the above;
2. `BAD_FIELD`: a bit outside the command's fields is set, a field whose table says so is out of its range, the format is
   not one of the build, or `stride` is not 0 for a format other than I8;
3. `OUT_OF_RANGE`: a field whose table says so is out of its range.

A queue whose length or address is out of range is reported as `OUT_OF_RANGE`, one whose address is not a multiple of
{isa.ADDRESS_UNIT} as `MISALIGNED`, both with index 0. Commands before the failing one have done their work; those after it
have not.

{_error_codes()}
"""


def _unit(opcode: isa.Opcode) -> str:
    """Which part of the device carries a command out."""
    if opcode is isa.Opcode.GEMV:
        return "matrix"
    return "vector" if opcode in isa.VECTOR_OPCODES else "sequencer"


def architectures_page() -> str:
    """The page on models, with the table of their architectures."""
    from tailrace.gguf.architectures import ARCHITECTURES
    from tailrace.gguf.features import features

    rows = [(f"`{a.name}`", a.models, features(a)) for a in ARCHITECTURES.values()]
    table = _table(("architecture", "models", "what is special"), rows)
    return _replaced((DOCS / "models.md").read_text(encoding="utf-8"), "tailrace models", table)


def models_page() -> str:
    """The same page, with the table of what models need, too."""
    from tailrace.benchmark.models import all_needs, markdown

    return _replaced(architectures_page(), "tailrace bench models", markdown(all_needs()))


#: A command of `tailrace plan` with its output, as a page shows them.
_PLAN = re.compile(r"(?<=^```\n)\$ tailrace (plan .*)\n[^`]*(?=^```$)", re.MULTILINE)


def plan_page() -> str:
    """The page on plans, with what its command prints."""
    from click.testing import CliRunner

    from tailrace.command.cli import main as program

    def shown(match: re.Match[str]) -> str:
        result = CliRunner().invoke(program, match[1].split())
        if result.exit_code:
            raise ValueError(f"plan.md: tailrace {match[1]} ends with {result.exit_code}: {result.output}")
        return "\n".join([f"$ tailrace {match[1]}", *(line.rstrip() for line in result.stdout.splitlines()), ""])

    return _PLAN.sub(shown, (DOCS / "plan.md").read_text(encoding="utf-8"))


def _replaced(text: str, command: str, table: str) -> str:
    """A page with another table in the place that a command has there."""
    begin, end = f"<!-- Written by docs/generate.py: `{command}`. -->\n", "<!-- End of the table. -->"
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{table}\n\n{end}{rest.partition(end)[2]}"


#: A room of host in the table of docs/architecture.md, and what follows its description: files and lines.
_ROOM = re.compile(r"^(\| (?:`(\w+|\(top\))`|all) \| .*\|) +[\d,]+ \| +[\d,]+ \|$", re.MULTILINE)


def architecture_page() -> str:
    """The page on the architecture, with the sizes of host's rooms."""
    host = DOCS.parent / "host"

    def row(match: re.Match[str]) -> str:
        start, room = match.groups()
        # The row of all rooms names none.
        files = list(host.glob("*.py" if room == "(top)" else f"{room}/*.py" if room else "**/*.py"))
        # To a hundred, so that not every change changes the page.
        return f"{start} {len(files)} | {round(sum(len(f.read_bytes().splitlines()) for f in files), -2):,} |"

    text = _ROOM.sub(row, (DOCS / "architecture.md").read_text(encoding="utf-8"))
    rooms = {place.name for place in host.iterdir() if (place / "__init__.py").exists() and not place.is_symlink()}
    if missing := rooms - {match[2] for match in _ROOM.finditer(text)}:
        raise ValueError(f"architecture.md: what is in {', '.join(sorted(missing))}? Add a row to the table of rooms")
    return text


#: A figure and the comment behind it: a component, the numbers or the configuration that it is made with, and its attribute.
_FIGURE = re.compile(r"\d+(<!-- (\w+)(?:\((\w+(?:, \w+)*)\))?\.(\w+) -->)")


@cache
def _component(name: str) -> Any:
    """The only component of that name in the gateware."""
    hdl = DOCS.parent / "hdl"
    defined = re.compile(rf"^class {name}\b", re.MULTILINE)
    places = [path for path in sorted(hdl.rglob("*.py")) if defined.search(path.read_text(encoding="utf-8"))]
    if len(places) != 1:
        raise ValueError(f"{len(places)} components in hdl/ are called {name}")
    module = ".".join(places[0].relative_to(hdl).with_suffix("").parts)
    return getattr(import_module(f"tailrace.hdl.{module}"), name)


def _figure(match: re.Match[str]) -> str:
    """The figure that an attribute has, with its comment."""
    comment, name, arguments, attribute = match.groups()
    component = _component(name)
    if arguments:
        component = component(*(CONFIGS[one] if one in CONFIGS else int(one) for one in arguments.split(", ")))
    return f"{getattr(component, attribute)}{comment}"


def block_page(path: Path) -> str:
    """A page on a part of the gateware, with the cycles that its components state.

    Raises
    ------
    ValueError
        If a latency in a table of components has no source.
    """
    text = _FIGURE.sub(_figure, path.read_text(encoding="utf-8"))
    in_table = False
    for line in text.splitlines():
        in_table = line.endswith("| Latency |") or (in_table and line.startswith("|"))
        latency = line.rpartition(" | ")[2]
        if in_table and re.search(r"\d", latency) and "<!--" not in latency:
            raise ValueError(f"{path.name}: whose attribute is this latency? {line}")
    return text


PAGES = {
    "registers.md": registers_page,
    "isa.md": isa_page,
    "models.md": architectures_page,
    "architecture.md": architecture_page,
} | {f"blocks/{path.name}": partial(block_page, path) for path in sorted((DOCS / "blocks").glob("*.md"))}
#: Pages that take half a minute to write whole; a slow test compares them.
SLOW_PAGES = {"models.md": models_page, "plan.md": plan_page}


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description="Write what follows from the sources into the documents.")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="such as plan.md or blocks/float.md; default: all")
    parser.add_argument("--check", action="store_true", help="write nothing, name pages that differ; of slow ones a part")
    chosen = parser.parse_args(arguments)
    pages = PAGES if chosen.check else PAGES | SLOW_PAGES
    if unknown := set(chosen.pages) - pages.keys():
        parser.error(f"there is no page {min(unknown)} that is generated: choose from {', '.join(sorted(pages))}")
    texts = {name: page() for name, page in pages.items() if name in chosen.pages or not chosen.pages}
    written = {name: (DOCS / name).read_text(encoding="utf-8") if (DOCS / name).exists() else "" for name in texts}
    stale = [name for name, text in texts.items() if written[name] != text]
    if chosen.check:
        for name in stale:
            print(f"docs/{name} does not follow from the sources: run `make docs` and commit what it writes")
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(texts[name], encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
