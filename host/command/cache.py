"""Shows what the cache holds, and empties it."""

import click
from rich.table import Table

from tailrace.sim.cache import VARIABLE, cache_folder
from tailrace.sim.cache_contents import Stored, check, clear, contents, sweep

from .finite_range import FiniteRange
from .plain_console import PlainConsole
from .terminal import Terminal
from .without_effect import refuse

#: Days after which `--sweep` takes an entry for one that nobody needs.
DAYS = 30.0


@click.command()
@click.option("--path", is_flag=True, help="Print the folder of the cache alone.")
@click.option(
    "--sweep",
    "swept",
    is_flag=True,
    help="Remove what is damaged or was left behind by a process that was killed, and what was not used for --days.",
)
@click.option("--days", type=FiniteRange(min=0), default=DAYS, show_default=True, help="Days without use, for --sweep.")
@click.option("--check", "checked", is_flag=True, help="Read everything, and name what is not as it was made.")
@click.option("--clear", "cleared", is_flag=True, help="Remove everything but what is being made right now.")
@click.pass_context
def cache(context: click.Context, path: bool, swept: bool, days: float, checked: bool, cleared: bool) -> None:
    """List what was fetched, compiled, laid out and measured, and is kept.

    Images of models are kept up to 32 GiB, or what TAILRACE_IMAGES says (0: none); those that were not used for the longest
    time go first. All of it is made again when it is needed. End the programs that use a device before you remove something.
    """
    if path + swept + checked + cleared > 1:
        raise click.UsageError("--path, --sweep, --check and --clear are for one at a time")
    if not swept:
        refuse(context, ["days"], "is for --sweep: give both")
    if path:
        click.echo(cache_folder())
    elif checked:
        with Terminal().phase("reading the cache"):
            damaged = check()
        for stored in damaged:
            click.echo(f"damaged: {stored.what} ({stored.path}); it is made again when it is needed")
        click.echo(f"{_count(damaged)} damaged in {cache_folder()}")
        if damaged:
            context.exit(1)
    elif swept or cleared:
        removed = sweep(days) if swept else clear()
        click.echo(f"{_count(removed)} removed from {cache_folder()}, {_megabytes(removed)} MB")
    else:
        _list(contents())


def _list(stored: list[Stored]) -> None:
    if stored:
        table = Table("what", "MB", "made", "last used", "")
        for column in table.columns[1:2]:
            column.justify = "right"
        for entry in stored:
            state = "" if entry.state == "whole" else entry.state
            table.add_row(entry.what, _megabytes([entry]), _ago(entry.age), _ago(entry.unused), state)
        console = PlainConsole()
        if not console.is_terminal:
            console.width = 120
        console.print(table)
    click.echo(f"{_count(stored)} in {cache_folder()}, {_megabytes(stored)} MB; {VARIABLE} names another place")


def _count(stored: list[Stored]) -> str:
    return f"{len(stored)} {'entry' if len(stored) == 1 else 'entries'}"


def _megabytes(stored: list[Stored]) -> str:
    return f"{sum(entry.size for entry in stored) / 1e6:,.1f}"


def _ago(days: float) -> str:
    if days < 1:
        return "today"
    return f"{days:.0f} day{'s' if round(days) != 1 else ''} ago"
