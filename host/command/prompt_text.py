"""Where a prompt comes from: the command line, a file, or standard input."""

import sys
from contextlib import nullcontext
from pathlib import Path

import click

#: The name that stands for standard input.
STANDARD_INPUT = "-"
#: More than any context takes; a device may have no end.
_MOST_BYTES = 1 << 26


def read_prompt(prompt: str | None, file: str | None) -> str:
    """The prompt's text.

    Parameters
    ----------
    prompt : str or None
        As given with ``-p``.
    file : str or None
        As given with ``-f``: a path, or ``-`` for standard input. With neither, standard input is read, if it is no terminal.

    Raises
    ------
    click.UsageError
        If there is no prompt or there are two, or the file can't be read, is too long or is no UTF-8.
    """
    if prompt is not None and file is not None:
        raise click.UsageError("-p and -f both give a prompt: leave one out")
    if prompt is not None:
        return prompt
    if file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError(
            "there is no prompt: give it with -p, in a file with -f, or on standard input; or start tailrace chat"
        )
    name = "standard input" if file in (None, STANDARD_INPUT) else file
    try:
        with nullcontext(sys.stdin.buffer) if file in (None, STANDARD_INPUT) else Path(str(file)).open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise click.UsageError(f"the prompt can't be read from {name}: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise click.UsageError(f"the prompt in {name} has more than {_MOST_BYTES >> 20} MiB: give a shorter one")
    try:
        # A mark at the start and one line end at the end are the editor's or the shell's, not the prompt's.
        return data.decode("utf-8").removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"the prompt in {name} is not UTF-8 (byte {error.start}): convert it, for example with iconv"
        ) from None
