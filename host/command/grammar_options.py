"""The options that say what an answer may be."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tailrace.spec.errors import ConfigError

if TYPE_CHECKING:
    from ..text.grammar import Grammar

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Their names, in the order of help.
GRAMMAR = ("json_schema", "grammar")
_OPTIONS = (
    click.option("--json-schema", metavar="SCHEMA", help="The answer is JSON that fits this schema; @FILE: the one in a file."),
    click.option(
        "--grammar", metavar="GRAMMAR", help="The answer fits this grammar, in GBNF or Lark; @FILE: the one in a file."
    ),
)


def grammar_options(command: _Command) -> _Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given_grammar(context: click.Context) -> "Grammar | None":
    """What the answer may be; None: anything.

    Raises
    ------
    click.UsageError
        If it can't be read, is no grammar, or if both options are given.
    ToolError
        If llguidance is not installed.
    """
    schema, text = (context.params[name] for name in GRAMMAR)
    if schema is None and text is None:
        return None
    if schema is not None and text is not None:
        raise click.UsageError("--json-schema and --grammar both say what the answer may be: leave one of them out")
    from ..text.grammar import Grammar

    try:
        return Grammar.text(_read("--grammar", text)) if schema is None else Grammar.json_schema(_read("--json-schema", schema))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _read(option: str, value: str) -> str:
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{option}: {value[1:]} can't be read: {error}") from None
