"""Options that would change nothing are refused: whoever gives one expects something of it."""

from collections.abc import Iterable

import click
from click.core import ParameterSource


def given(context: click.Context, names: Iterable[str]) -> list[str]:
    """Those of these parameters that were given rather than left at their defaults, as the user writes them."""
    options = {parameter.name: max(parameter.opts, key=len) for parameter in context.command.params}
    there = (name for name in names if name in context.params)
    return [options[name] for name in there if context.get_parameter_source(name) is not ParameterSource.DEFAULT]


def refuse(context: click.Context, names: Iterable[str], why: str) -> None:
    """Refuse these parameters, where they were given.

    Parameters
    ----------
    context : click.Context
    names : iterable of str
        Of parameters; those that the command does not have are none.
    why : str
        How the message goes on behind the option.

    Raises
    ------
    click.UsageError
        If one was given.
    """
    for option in given(context, names):
        raise click.UsageError(f"{option} {why}")
