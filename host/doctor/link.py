"""Tells what the link had to put up with."""

from ..transports.facts import statistics_of
from .examination import Examination, Fault, NothingToDo

#: Part of the frames that may have to be sent again before something must be done about it.
_MOST_RETRIES = 0.01


def report_link(examination: Examination) -> str:
    """Report what the transport has counted."""
    statistics = statistics_of(examination.link)
    if not statistics:
        raise NothingToDo(f"{examination.link.name} keeps no statistics")
    text = ", ".join(f"{value:,} {name}" for name, value in statistics.items())
    requests, retried = statistics.get("requests", 0), statistics.get("retried", 0)
    if retried > _MOST_RETRIES * requests:
        raise Fault(
            f"{retried:,} of {requests:,} requests had to be sent again ({text})",
            "nothing was lost, but it is slow: use a shorter cable or another port, or build the board for a lower baud rate",
        )
    return text
