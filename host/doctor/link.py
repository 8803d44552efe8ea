"""Tells what the link had to put up with."""

from .examination import Examination, NothingToDo


def report_link(examination: Examination) -> str:
    """Report what the transport has counted."""
    statistics = getattr(examination.link, "statistics", None)
    if not statistics:
        raise NothingToDo(f"{examination.link.name} keeps no statistics")
    return ", ".join(f"{value:,} {name}" for name, value in statistics.items())
