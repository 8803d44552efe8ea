"""A timeline as a trace that Perfetto opens (the Trace Event Format, JSON), and back.

One cycle is one nanosecond on the trace's clock.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.sim.timeline import USES, Span, Timeline
from tailrace.sim.timing.prediction import Prediction
from tailrace.spec.commands import decode, format_command
from tailrace.spec.errors import ConfigError, ModelError, ToolError

#: Rows of the trace, from top to bottom.
THREADS = ("fetch", "matrix unit", "vector unit")
_PORT = "memory port (cycles)"
_LEVEL = "read FIFO (beats)"
_THREAD = "thread_name"
_KEY = "tailrace"


@dataclass(frozen=True)
class PortUse:
    """What the memory port did over time, as a trace holds it.

    Attributes
    ----------
    title : str
    bucket_cycles : int
        Cycles that a row stands for.
    start : int
        Cycle in which the first row begins.
    uses : ndarray of int64, shape (buckets, 8)
        Cycles with each use of `tailrace.sim.timeline.USES`.
    levels : ndarray of float64, shape (buckets,)
        Beats in the read FIFO.
    spans : mapping from thread to list of (name, start, end)
    """

    title: str
    bucket_cycles: int
    start: int
    uses: NDArray[np.int64]
    levels: NDArray[np.float64]
    spans: dict[str, list[tuple[str, int, int]]]


def write_trace(
    path: Path, timeline: Timeline, commands: Sequence[bytes], sections: Sequence[tuple[int, str]], title: str
) -> None:
    """Write a trace.

    Parameters
    ----------
    path : Path
    timeline : Timeline
        The recording, of runs of one program.
    commands : sequence of bytes
        The program.
    sections : sequence of (int, str)
        Where a part of the program begins, and what it does.
    title : str

    Raises
    ------
    ToolError
        If the file can't be written.
    """
    spans = timeline.fetched(), timeline.executed("matrix"), timeline.executed("vector")
    events = _events(title, dict(zip(THREADS, spans, strict=True)), commands, sections)
    for row, (uses, level) in enumerate(zip(timeline.uses, timeline.levels, strict=True)):
        if uses.any():
            when = (timeline.first_cycle + row * timeline.bucket_cycles) / 1000
            used = {use: int(count) for use, count in zip(USES, uses, strict=True)}
            events.append({"ph": "C", "pid": 1, "name": _PORT, "ts": when, "args": used})
            events.append({"ph": "C", "pid": 1, "name": _LEVEL, "ts": when, "args": {"beats": round(float(level), 1)}})
    trace = {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        _KEY: {"title": title, "bucket_cycles": timeline.bucket_cycles},
    }
    try:
        path.write_text(json.dumps(trace, separators=(",", ":")), encoding="utf-8")
    except OSError as error:
        raise ToolError(f"the trace {path} can't be written: {error.strerror}. Choose another place.") from error


def predicted_trace(
    prediction: Prediction, commands: Sequence[bytes], sections: Sequence[tuple[int, str]], title: str
) -> dict[str, Any]:
    """What the units are predicted to do, as a trace for Perfetto; it says nothing of the memory port.

    Parameters
    ----------
    prediction : Prediction
        An exact one.
    commands : sequence of bytes
        The program.
    sections : sequence of (int, str)
        Where a part of the program begins, and what it does.
    title : str
    """
    spans: dict[str, list[Span]] = {thread: [] for thread in THREADS[1:]}
    for one in prediction.operations:
        spans[f"{one.unit} unit"].append(Span(one.index, one.start, one.end))
    events = _events(f"{title}, predicted", spans, commands, sections)
    return {"traceEvents": events, "displayTimeUnit": "ns", _KEY: {"title": title, "predicted": True}}


def _events(
    title: str, spans: dict[str, list[Span]], commands: Sequence[bytes], sections: Sequence[tuple[int, str]]
) -> list[dict[str, Any]]:
    """The names of the process and of its threads, and the commands on them."""
    events: list[dict[str, Any]] = [{"ph": "M", "pid": 1, "name": "process_name", "args": {"name": title}}]
    names = _names(commands, sections)
    # Perfetto takes the thread 0 for that of the process' number, and would drop what is on both.
    for number, (thread, rows) in enumerate(spans.items(), 1):
        events.append({"ph": "M", "pid": 1, "tid": number, "name": _THREAD, "args": {"name": thread}})
        events.append({"ph": "M", "pid": 1, "tid": number, "name": "thread_sort_index", "args": {"sort_index": number}})
        events += [_slice(span, number, names, commands) for span in rows]
    return events


def cut(use: PortUse, first: int, end: int) -> PortUse:
    """The part of a trace from cycle `first` up to cycle `end`, counted from its beginning, in whole rows.

    Raises
    ------
    ConfigError
        If it holds no row of the trace.
    """
    rows = slice(first // use.bucket_cycles, -(-end // use.bucket_cycles))
    if not 0 <= first < end or not len(use.uses[rows]):
        total = len(use.uses) * use.bucket_cycles
        raise ConfigError(f"the cycles {first:,} to {end:,} are not in the trace, which has {total:,}: choose others")
    start = use.start + rows.start * use.bucket_cycles
    stop = start + len(use.uses[rows]) * use.bucket_cycles
    spans = {
        thread: [(name, max(a, start), min(b, stop)) for name, a, b in slices if a < stop and b > start]
        for thread, slices in use.spans.items()
    }
    return PortUse(use.title, use.bucket_cycles, start, use.uses[rows], use.levels[rows], spans)


def read_trace(path: Path) -> PortUse:
    """Read what `write_trace` has written.

    Raises
    ------
    ModelError
        If the file is missing or is not such a trace.
    """
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"the trace {path} can't be read: it is not a file")
        trace = json.loads(path.read_text(encoding="utf-8"))
        facts = trace[_KEY]
        if "predicted" in facts:
            raise ModelError(f"{path} is a prediction, which says nothing of the memory port: open it at ui.perfetto.dev")
        rows = [(e["ts"], e["args"]) for e in trace["traceEvents"] if e["ph"] == "C" and e["name"] == _PORT]
        levels = [e["args"]["beats"] for e in trace["traceEvents"] if e["ph"] == "C" and e["name"] == _LEVEL]
        slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
        threads = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == _THREAD}
        spans: dict[str, list[tuple[str, int, int]]] = {thread: [] for thread in THREADS}
        for e in slices:
            start = round(e["ts"] * 1000)
            spans[threads[e["tid"]]].append((e["name"], start, start + round(e["dur"] * 1000)))
        width, first = int(facts["bucket_cycles"]), round(rows[0][0] * 1000)
        places = [(round(when * 1000) - first) // width for when, _ in rows]
        uses = np.zeros((places[-1] + 1, len(USES)), dtype=np.int64)
        filled = np.zeros(len(uses))
        for place, (_, used), level in zip(places, rows, levels, strict=True):
            uses[place] = [used[use] for use in USES]
            filled[place] = level
        return PortUse(str(facts["title"]), width, first, uses, filled, spans)
    except OSError as error:
        raise ModelError(f"the trace {path} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, IndexError, TypeError, ZeroDivisionError) as error:
        raise ModelError(f"{path} is no trace of tailrace: write one with `tailrace run --trace {path}`") from error


def _names(commands: Sequence[bytes], sections: Sequence[tuple[int, str]]) -> list[str]:
    """What each command is called in the trace: its opcode, and the part of the program that it belongs to."""
    names, rest = [], sorted(sections)
    text = ""
    for index, command in enumerate(commands):
        while rest and rest[0][0] <= index:
            text = rest.pop(0)[1]
        decoded = decode(command)
        names.append(" · ".join(part for part in (decoded[0].name if decoded else "invalid", text) if part))
    return names


def _slice(span: Span, thread: int, names: Sequence[str], commands: Sequence[bytes]) -> dict[str, Any]:
    known = span.index < len(names)
    return {
        "ph": "X",
        "pid": 1,
        "tid": thread,
        "name": names[span.index] if known else f"command {span.index}",
        "ts": span.start / 1000,
        "dur": (span.end - span.start) / 1000,
        "args": {"index": span.index, "command": format_command(commands[span.index]) if known else ""},
    }
