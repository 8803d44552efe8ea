"""The examination, step by step."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailrace.spec.errors import TailraceError

from .decode import check_decode
from .examination import Check, Examination, Fault, NothingToDo
from .identity import identify, open_link
from .link import report_link
from .memory import check_memory, measure_bandwidth
from .products import check_products
from .registers import check_registers
from .runs import check_runs

_LINK = "check cable, power and bitstream, and run this again"
_RUNS = "the step before worked: run this again, and if it fails at another place each time, check the design's timing"

CHECKS: tuple[Check, ...] = (
    Check("open", open_link, (), "do what the message says, and run this again"),
    Check("identification", identify, ("open",), _LINK),
    Check("registers", check_registers, ("identification",), _LINK),
    Check("memory patterns", check_memory, ("identification",), _LINK),
    Check("memory bandwidth", measure_bandwidth, ("memory patterns",), _LINK),
    Check("commands and errors", check_runs, ("registers", "memory patterns"), _RUNS),
    Check("products", check_products, ("commands and errors",), _RUNS),
    Check("decode", check_decode, ("products",), _RUNS),
    Check("link", report_link, ("open",), _LINK),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a step.

    Attributes
    ----------
    name : str
    verdict : str
        ``ok``, ``failed`` or ``skipped``.
    text : str
        Figures, what is wrong, or why it was skipped.
    advice : str
        What to do; empty unless it failed.
    seconds : float
    """

    name: str
    verdict: str
    text: str
    advice: str = ""
    seconds: float = 0.0


def examine(
    examination: Examination,
    on_outcome: Callable[[Outcome], None],
    checks: Sequence[Check] = CHECKS,
) -> list[Outcome]:
    """Take the steps one after the other; those that need one that is not in order are skipped.

    Parameters
    ----------
    examination : Examination
        Closed at the end.
    on_outcome : callable
        Told about each step when it is done.
    checks : sequence of Check
    """
    outcomes: dict[str, Outcome] = {}
    try:
        for check in checks:
            missing = [name for name in check.needs if outcomes[name].verdict != "ok"]
            if missing:
                outcome = Outcome(check.name, "skipped", f"needs {' and '.join(missing)}")
            else:
                outcome = _take(check, examination)
            outcomes[check.name] = outcome
            on_outcome(outcome)
    finally:
        if examination.transport is not None:
            examination.transport.close()
    return list(outcomes.values())


def _take(check: Check, examination: Examination) -> Outcome:
    start = time.monotonic()
    advice = ""
    try:
        verdict, text = "ok", check.run(examination)
    except NothingToDo as reason:
        verdict, text = "skipped", str(reason)
    except Fault as fault:
        verdict, text, advice = "failed", fault.found, fault.advice
    except TailraceError as error:
        verdict, text, advice = "failed", str(error), check.advice
    return Outcome(check.name, verdict, text, advice, time.monotonic() - start)
