"""Help texts in which options stand under headings, and summaries are whole."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

#: Where options stand that no group names.
OTHER = "Other options"


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings.

    Parameters
    ----------
    groups : mapping from str to sequence of str
        Names of the parameters under each heading, in the order in which they are listed.

    Raises
    ------
    ValueError
        If a group names a parameter that the command has not.
    """

    def __init__(self, *arguments: Any, groups: Mapping[str, Sequence[str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        names = {parameter.name for parameter in self.params}
        if unknown := [name for group in groups.values() for name in group if name not in names]:
            raise ValueError(f"{self.name} has no parameter {unknown[0]}")
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        records = {p.name: p.get_help_record(ctx) for p in self.get_params(ctx) if isinstance(p, click.Option)}
        for heading, names in self.groups.items():
            _section(formatter, heading, [records.pop(name) for name in names])
        _section(formatter, OTHER, list(records.values()))


class WholeSummaries(click.Group):
    """A group whose help gives each command's first sentence in full, over as many lines as it needs."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and what they do."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=10_000)))
        _section(formatter, "Commands", rows)


def _section(formatter: click.HelpFormatter, heading: str, rows: Sequence[tuple[str, str] | None]) -> None:
    shown = [row for row in rows if row is not None]
    if shown:
        with formatter.section(heading):
            formatter.write_dl(shown)
