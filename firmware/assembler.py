"""Programs as text and back, bit for bit: one command a line, every field by its name.

::

    # A comment.
    repeat:
        gemv pending=2 slots=1 format=Q4_1 offset=64 source=0x1000+r5 rows=192 blocks=18
        elementwise function=sigmoid multiplier=a target=buffer a=64 d=64 count=192 segments=1 p=1 m=1
        set register=r5 y=r5 addend=216
        loop register=r4 target=repeat

Fields that are left out are 0. Addresses and distances in memory are in bytes. ``+r5`` behind a value is a modifier: the
register is added to the word of the command that the field lies in, in the units that the command has (64 bytes for addresses).
Commands that no device accepts are written as ``raw`` and their 64 bytes as hexadecimal digits.
"""

import re
from collections.abc import Iterator, Sequence

from tailrace.spec.commands import decode, encode, reserved_mask
from tailrace.spec.isa import COMMAND_BYTES, FIELDS, MODIFIERS, Field, Opcode

from .notation import SCALARS, AssemblyError, read_field, register, write_field

_LABEL = re.compile(r"([A-Za-z_]\w*):")
_MODIFIED = re.compile(r"(.*?)((?:\+r\d+)*)")
_MODIFIER = re.compile(r"modifier_(word|register)_\d")
#: Fields that are not written by themselves.
_OF_SCALARS = ("load", "advance")


def disassemble(commands: Sequence[bytes], sections: Sequence[tuple[int, str]] = ()) -> str:
    """Write a program as text.

    Parameters
    ----------
    commands : sequence of bytes
    sections : sequence of (int, str)
        Comments, and the commands that they go before.

    Returns
    -------
    str
        What `assemble` makes the same commands of.
    """
    targets = {target for command in commands if (target := _target(command)) is not None and target < len(commands)}
    lines = []
    for index, command in enumerate(commands):
        lines += [f"# {text}" for first, text in sections if first == index]
        if index in targets:
            lines.append(f"command_{index}:")
        lines.append(f"    {write_command(command, targets)}")
    return "\n".join(lines) + "\n"


def _target(command: bytes) -> int | None:
    decoded = decode(command)
    return decoded[1]["target"] if decoded and decoded[0] is Opcode.LOOP else None


def write_command(command: bytes, labels: set[int] | frozenset[int] = frozenset()) -> str:
    """One command as text. `labels`: commands that have a label, ``command_`` and their number."""
    decoded = decode(command)
    if decoded is None or int.from_bytes(command, "little") & reserved_mask(decoded[0]):
        return f"raw {command.hex()}"
    opcode, values = decoded
    modifiers = [
        (values[f"modifier_word_{i}"], values[f"modifier_register_{i}"]) for i in range(MODIFIERS) if opcode in _MODIFIABLE
    ]
    behind, explicit = _behind_fields(opcode, modifiers)
    words = [opcode.name.lower()]
    for field in FIELDS[opcode]:
        name, value, registers = field.name, values.get(field.name, 0), behind.get(field.name, "")
        advances = (
            opcode is Opcode.ELEMENTWISE and name in SCALARS and (values["load"] | values["advance"]) >> SCALARS.index(name) & 1
        )
        if name in ("opcode", *_OF_SCALARS) or not (value or registers or advances) or (_MODIFIER.match(name) and not explicit):
            continue
        text = f"command_{value}" if name == "target" and opcode is Opcode.LOOP and value in labels else None
        words.append(f"{name}={text or write_field(opcode, field, values)}{registers}")
    return " ".join(words)


_MODIFIABLE = {opcode for opcode, fields in FIELDS.items() if any(_MODIFIER.match(f.name) for f in fields)}


def _modified_field(opcode: Opcode, word: int) -> Field | None:
    """The field that a modifier of a word is written behind: the one in the word's lowest bits.

    None if that is a scalar, or one of the fields that the scalars' texts stand for.
    """
    fields = (f for f in FIELDS[opcode] if f.word == word and f.low == 0 and 1 <= word <= 14)
    return next((f for f in fields if not (opcode is Opcode.ELEMENTWISE and f.name in (*SCALARS, *_OF_SCALARS))), None)


def _behind_fields(opcode: Opcode, modifiers: list[tuple[int, int]]) -> tuple[dict[str, str], bool]:
    """Modifiers as they are written behind fields; or none, if that would not say which is which."""
    used = [m for m in modifiers if m != (0, 0)]
    order = [f.name for f in FIELDS[opcode]]
    fields = [_modified_field(opcode, word) for word, _ in used]
    if None in fields or modifiers[: len(used)] != used:
        return {}, True
    names = [f.name for f in fields if f]
    if names != sorted(names, key=order.index):
        return {}, True
    behind: dict[str, str] = {}
    for name, (_, number_of_register) in zip(names, used):
        behind[name] = behind.get(name, "") + f"+r{number_of_register}"
    return behind, False


def assemble(text: str) -> list[bytes]:
    """Read a program.

    Raises
    ------
    AssemblyError
        With the number of the line, what is wrong there, and what could be there.
    """
    labels: dict[str, int] = {}
    commands: list[tuple[int, list[str]]] = []
    for line, label, words in _lines(text):
        if label in labels:
            raise AssemblyError(f"line {line}: there is a label {label!r} already")
        if label:
            labels[label] = len(commands)
        if words:
            commands.append((line, words))
    result = []
    for line, words in commands:
        try:
            result.append(_read_command(words, labels))
        except ValueError as error:
            raise AssemblyError(f"line {line}: {error}") from None
    return result


def _lines(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yield number, label and words of each line."""
    for line, content in enumerate(text.splitlines(), 1):
        content = content.partition("#")[0].strip()
        label = _LABEL.match(content)
        yield line, label[1] if label else "", content[label.end() if label else 0 :].split()


def _read_command(words: list[str], labels: dict[str, int]) -> bytes:
    name, *settings = words
    if name == "raw":
        return _read_raw(settings)
    try:
        opcode = Opcode[name.upper()]
    except KeyError:
        raise AssemblyError(
            f"there is no command {name!r}: choose from {', '.join(o.name.lower() for o in Opcode)}, raw"
        ) from None
    fields = {f.name: f for f in FIELDS[opcode] if f.name not in ("opcode", "load", "advance")}
    values: dict[str, int] = {}
    modifiers: list[tuple[int, int]] = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not text:
            raise AssemblyError(f"{setting!r} is no setting of a field: write field=value")
        if key not in fields:
            shown = ", ".join(n for n in fields if not _MODIFIER.match(n))
            raise AssemblyError(f"{name} has no field {key!r}: choose from {shown}")
        if key in values:
            raise AssemblyError(f"{key} is there twice")
        match = _MODIFIED.fullmatch(text)
        assert match
        if match[2]:
            modifiers += _read_modifiers(opcode, fields[key], match[2])
            text = match[1]
        if opcode is Opcode.LOOP and key == "target" and not text[0].isdigit():
            if text not in labels:
                raise AssemblyError(f"there is no label {text!r}")
            text = str(labels[text])
        for one, value in read_field(opcode, fields[key], text).items():
            values[one] = values.get(one, 0) | value
    return encode(opcode, **values, **_modifier_values(opcode, modifiers, values))


def _read_raw(settings: list[str]) -> bytes:
    digits = "".join(settings)
    if len(digits) != 2 * COMMAND_BYTES or not re.fullmatch("[0-9a-fA-F]*", digits):
        raise AssemblyError(f"raw needs {2 * COMMAND_BYTES} hexadecimal digits")
    return bytes.fromhex(digits)


def _read_modifiers(opcode: Opcode, field: Field, text: str) -> list[tuple[int, int]]:
    if opcode not in _MODIFIABLE:
        raise AssemblyError(f"{opcode.name.lower()} has no modifiers")
    if _modified_field(opcode, field.word) != field:
        raise AssemblyError(f"{field.name} can't have a register behind it")
    return [(field.word, register(name)) for name in text[1:].split("+")]


def _modifier_values(opcode: Opcode, modifiers: list[tuple[int, int]], values: dict[str, int]) -> dict[str, int]:
    if len(modifiers) > MODIFIERS:
        raise AssemblyError(f"a command has at most {MODIFIERS} modifiers, not {len(modifiers)}")
    if modifiers and any(_MODIFIER.match(name) for name in values):
        raise AssemblyError("write modifiers behind fields or as fields of their own, not both")
    return {
        f"modifier_{what}_{i}": value for i, pair in enumerate(modifiers) for what, value in zip(("word", "register"), pair)
    }
