"""A build for people: a table of cells and frequency, and what memories and products became."""

from collections.abc import Iterable, Iterator

from rich.table import Table

from .families import FAMILIES
from .record import Record


def record_table(record: Record) -> Table:
    """Cells, frequency and critical path of a build."""
    family = FAMILIES[record.family]
    table = Table(title=f"{record.part} of {record.config} on {family.title}", caption_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for what, count in record.cells.items():
        most = family.capacity.get(what)
        table.add_row(what, f"{count:,} of {most:,}" if most else f"{count:,}")
    table.add_section()
    for what, value in frequency_rows(record):
        table.add_row(what, value)
    return table


def frequency_rows(record: Record) -> Iterator[tuple[str, str]]:
    """What is known of the frequency, a row for each fact."""
    if record.excess:
        missing = ", ".join(f"{need:,} {what} of {most:,}" for what, (need, most) in record.excess.items())
        yield "does not fit", missing
    if record.megahertz and record.path:
        path = record.path
        yield "after place and route", f"{record.megahertz:.1f} MHz"
        yield "bus at that clock", f"{record.bandwidth(record.megahertz):.2f} GB/s"
        yield "critical path", f"{path.logic + path.routing:.2f} ns: {path.logic:.2f} logic, {path.routing:.2f} routing"
        yield "from", path.start
        yield "to", path.end
    elif record.bound:
        yield "estimate: upper bound, without any routing", f"{record.bound:.0f} MHz"
        yield "estimate: routing as slow as logic", f"{record.bound / 2:.0f} MHz"
        yield "bus at that estimate", f"{record.bandwidth(record.bound / 2):.2f} GB/s"
    elif not record.excess:
        yield "frequency", "unknown: Yosys has no delays for this family"
    yield "levels of logic between registers", f"{record.levels}"
    yield "tools' time", f"{record.seconds:.0f} s"


def mapping_text(record: Record) -> str:
    """What became of each memory and of the products, in Markdown."""
    return "\n".join(
        [
            "## Memories",
            "",
            *_table(
                ("memory", "words", "bits", "became", "cells", "why"),
                ((m.name, m.words or "", m.width or "", m.kind, m.cells or "", m.reason) for m in record.memories),
            ),
            "",
            "## Products",
            "",
            *_table(
                ("place", "became", "cells", "why"),
                ((p.place, p.cell, p.cells, p.reason) for p in record.products),
            ),
            "",
        ]
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(str(value) for value in row)} |"
