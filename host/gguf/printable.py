"""Text from files, made fit to be shown: nothing in it reaches a terminal as a command."""

_LONGEST = 80


def printable(text: str) -> str:
    r"""Text with every character that is not printable (control characters, line ends, marks of direction) as its escape.

    Examples
    --------
    >>> printable("Müller\x1b[31m\n")
    'Müller\\x1b[31m\\n'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def shortened(text: str) -> str:
    """Printable text that is not longer than a line."""
    text = printable(text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def printable_lines(text: str) -> str:
    """The same for text that has lines: their ends stay."""
    return "\n".join(map(printable, text.split("\n")))


def shown(value: object) -> str:
    """What a caller gave, in a message: as Python writes it, or, where that is long, its type."""
    text = repr(value)
    return text if len(text) <= _LONGEST and "\n" not in text else f"a {type(value).__name__}"
