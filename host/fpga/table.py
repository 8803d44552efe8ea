"""The table of configurations in the documents: what each takes on each family, and the bandwidth that its clock allows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from .build import build_name, build_part
from .families import FAMILIES
from .progress import Activity
from .record import Record
from .report import mapping_text

#: The configurations of the table: those with a name, and a step from `base` to `wide`.
CONFIGS = ("tiny", "base", "base,bus_width=512", "wide")


def build_all(folder: Path, progress: Activity, *, target: float, seed: int) -> list[Record]:
    """Build the core of each configuration for each family; what is finished in the folder is not built again."""
    records = []
    for family in FAMILIES:
        for config in CONFIGS:

            def step(text: str, what: str = f"{config} on {family}") -> None:
                progress(f"{what}: {text}")

            place = folder / build_name("core", config, family)
            records.append(build_part("core", config, family, place, target=target, seed=seed, progress=step))
    return records


def table_text(records: Sequence[Record]) -> str:
    """The tables in Markdown, one for each family, then what became of memories and products of `base` on the ECP5."""
    lines: list[str] = []
    for name, family in FAMILIES.items():
        own = [record for record in records if record.family == name]
        lines += [f"### {family.title}", "", *_family_table(own), ""]
    seconds = sum(record.seconds for record in records)
    lines += [f"All of it took {seconds / 60:.0f} minutes of the tools' time.", ""]
    lines += [mapping_text(record) for record in records if (record.config, record.family) == ("base", "ecp5")]
    return "\n".join(lines)


def _family_table(records: Sequence[Record]) -> Iterator[str]:
    cells = tuple(records[0].cells)
    routed = any(record.megahertz for record in records)
    last = ("MHz, routed", "bus, GB/s", "critical path, ns", "of it routing") if routed else _estimated(records)
    yield f"| configuration | bus | {' | '.join((*cells, 'levels', *last))} |"
    yield f"| --- |{' ---: |' * (len(cells) + len(last) + 2)}"
    for record in records:
        counts = [f"{count:,}" for count in record.cells.values()]
        values = (f"`{record.config}`", str(8 * record.beat_bytes), *counts, str(record.levels), *_speed(record, routed))
        yield f"| {' | '.join(values)} |"


def _estimated(records: Sequence[Record]) -> tuple[str, ...]:
    if any(record.bound for record in records):
        return "MHz, bound (estimate)", "MHz, with routing (estimate)", "bus, GB/s (estimate)"
    return ()


def _speed(record: Record, routed: bool) -> tuple[str, ...]:
    if routed:
        if record.megahertz and record.path:
            path = record.path
            return (
                f"{record.megahertz:.1f}",
                f"{record.bandwidth(record.megahertz):.2f}",
                f"{path.logic + path.routing:.2f}",
                f"{path.routing:.2f}",
            )
        missing = ", ".join(f"{need:,} of {most:,} {what}" for what, (need, most) in record.excess.items())
        return f"does not fit: {missing}", "", "", ""
    if record.bound:
        half = record.bound / 2
        return f"{record.bound:.0f}", f"{half:.0f}", f"{record.bandwidth(half):.2f}"
    return ()
