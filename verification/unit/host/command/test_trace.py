"""Traces for Perfetto: written, read back, refused when they are something else; and the picture of the memory port."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.command import plot
from tailrace.command.plot import draw
from tailrace.command.trace import THREADS, PortUse, cut, predicted_trace, read_trace, write_trace
from tailrace.sim.timeline import BEATS, USES, EventKind, Timeline
from tailrace.sim.timing.prediction import Operation, Prediction
from tailrace.spec.commands import encode
from tailrace.spec.errors import ConfigError, MissingPackage, ModelError, ToolError
from tailrace.spec.isa import Opcode

WIDTH, FIRST = 100, 5000
COMMANDS = [encode(Opcode.GEMV, rows=7, blocks=2, slots=1), encode(Opcode.STORE, count=9), bytes(64)]
SECTIONS = [(1, "logits")]
EVENTS = [
    (5007, EventKind.RUN_START, 0),
    (5010, EventKind.FETCH, 0),
    (5011, EventKind.MATRIX_START, 0),
    (5020, EventKind.FETCH, 1),
    (5300, EventKind.MATRIX_FINISH, 0),
    (5302, EventKind.VECTOR_START, 1),
    (5399, EventKind.VECTOR_FINISH, 0),
    (5400, EventKind.RUN_END, 0),
]


@pytest.fixture
def timeline(rng: np.random.Generator) -> Timeline:
    """A run in the second bucket and after the fourth; nothing in the first and the third."""
    uses = np.zeros((8, len(USES)), dtype=np.int64)
    for bucket in (1, 3, 4, 5, 6, 7):
        uses[bucket] = rng.multinomial(WIDTH, np.full(len(USES), 1 / len(USES)))
    levels = np.where(uses.any(axis=1), rng.integers(0, 4096, 8) / 8, 0)
    events = np.array(EVENTS, dtype=[("cycle", "<u8"), ("kind", "<u4"), ("index", "<u4")])
    return Timeline(FIRST, WIDTH, events, uses, levels)


@pytest.fixture
def path(tmp_path: Path, timeline: Timeline) -> Path:
    path = tmp_path / "token.json"
    write_trace(path, timeline, COMMANDS, SECTIONS, "a token of tiny")
    return path


def test_what_is_written_is_read_back(path: Path, timeline: Timeline) -> None:
    use = read_trace(path)
    assert (use.title, use.bucket_cycles, use.start) == ("a token of tiny", WIDTH, FIRST + WIDTH)
    assert np.array_equal(use.uses, timeline.uses[1:])
    assert np.abs(use.levels - timeline.levels[1:]).max() < 0.06
    assert use.spans == {
        "fetch": [("GEMV", 5007, 5011), ("STORE · logits", 5011, 5021)],
        "matrix unit": [("GEMV", 5011, 5301)],
        "vector unit": [("STORE · logits", 5302, 5400)],
    }


def test_the_file_is_a_trace_of_its_format(path: Path) -> None:
    """What the Trace Event Format asks of complete events, counters and names."""
    trace = json.loads(path.read_text(encoding="utf-8"))
    events = trace["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "C"}
    assert all(isinstance(event["pid"], int) and isinstance(event["name"], str) for event in events)
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    # None is 0, which Perfetto does not keep apart.
    assert names == dict(enumerate(THREADS, 1))
    slices = [event for event in events if event["ph"] == "X"]
    assert all(event["dur"] > 0 and event["tid"] in names for event in slices)
    # Microseconds: a cycle is a nanosecond.
    assert slices[0]["ts"] == 5.007
    assert slices[0]["args"] == {"index": 0, "command": "GEMV slots=1 rows=7 blocks=2"}
    counters = [event for event in events if event["ph"] == "C"]
    assert all(isinstance(value, int | float) for event in counters for value in event["args"].values())


def test_commands_that_are_not_the_programs_have_a_name(tmp_path: Path, timeline: Timeline) -> None:
    write_trace(tmp_path / "t.json", timeline, COMMANDS[:1], [], "t")
    assert read_trace(tmp_path / "t.json").spans["vector unit"] == [("command 1", 5302, 5400)]
    write_trace(tmp_path / "t.json", timeline, [bytes(64), COMMANDS[1]], [], "t")
    assert read_trace(tmp_path / "t.json").spans["matrix unit"] == [("invalid", 5011, 5301)]


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda trace: {key: value for key, value in trace.items() if key != name}


def _edited(edit: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    def change(trace: dict[str, Any]) -> object:
        edit(trace)
        return trace

    return change


@pytest.mark.parametrize(
    "broken",
    [
        lambda trace: [],
        lambda trace: 7,
        lambda trace: None,
        lambda trace: {},
        _without("tailrace"),
        _without("traceEvents"),
        _edited(lambda trace: trace.update(traceEvents=[])),
        _edited(lambda trace: trace["tailrace"].update(bucket_cycles=0)),
        _edited(lambda trace: trace["tailrace"].update(bucket_cycles="many")),
        _edited(lambda trace: trace["traceEvents"].reverse()),
        _edited(lambda trace: [event["args"].clear() for event in trace["traceEvents"] if event["ph"] == "C"]),
        _edited(lambda trace: [event.update(tid=9) for event in trace["traceEvents"] if event["ph"] == "X"]),
        _edited(lambda trace: [event.pop("dur") for event in trace["traceEvents"] if event["ph"] == "X"]),
        _edited(lambda trace: trace["traceEvents"].pop()),
    ],
)
def test_other_files_are_refused(path: Path, broken: Callable[[dict[str, Any]], object]) -> None:
    path.write_text(json.dumps(broken(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    text = re.escape(f"{path} is no trace of tailrace: write one with `tailrace run --trace {path}`")
    with pytest.raises(ModelError, match=f"^{text}$"):
        read_trace(path)


def test_a_prediction_is_told_from_a_trace(path: Path) -> None:
    commands = [encode(Opcode.FENCE), encode(Opcode.LOAD_VECTOR), encode(Opcode.GEMV)]
    prediction = Prediction(30, 7, (Operation("vector", 1, 3, 9), Operation("matrix", 2, 10, 25)))
    trace = predicted_trace(prediction, commands, [(1, "layer 0"), (2, "head")], "a step")
    slices = [(e["tid"], e["name"], e["ts"], e["dur"]) for e in trace["traceEvents"] if e["ph"] == "X"]
    assert slices == [(1, "GEMV · head", 0.01, 0.015), (2, "LOAD_VECTOR · layer 0", 0.003, 0.006)]
    names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert names == {1: "matrix unit", 2: "vector unit"}
    assert trace["traceEvents"][0]["args"] == {"name": "a step, predicted"}
    path.write_text(json.dumps(trace), encoding="utf-8")
    text = f"{path} is a prediction, which says nothing of the memory port: open it at ui.perfetto.dev"
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        read_trace(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'{"traceEvents": ['])
def test_files_that_are_no_json_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r" is no trace of tailrace: "):
        read_trace(path)


def test_files_that_are_not_there(tmp_path: Path, timeline: Timeline) -> None:
    with pytest.raises(ModelError, match=f"^the trace {re.escape(str(tmp_path / 'x.json'))} can't be read: No such file"):
        read_trace(tmp_path / "x.json")
    with pytest.raises(ModelError, match="^the trace /dev/zero can't be read: it is not a file$"):
        read_trace(Path("/dev/zero"))
    place = tmp_path / "missing" / "x.json"
    text = f"the trace {place} can't be written: No such file or directory. Choose another place."
    with pytest.raises(ToolError, match=f"^{re.escape(text)}$"):
        write_trace(place, timeline, COMMANDS, SECTIONS, "t")


def test_a_part_is_cut_out_in_whole_rows(path: Path) -> None:
    """Cycles count from the trace's beginning, in cycle 5100; what lies across an end is shortened."""
    whole = read_trace(path)
    part = cut(whole, 150, 201)
    assert (part.start, part.title) == (FIRST + 200, whole.title)
    assert np.array_equal(part.uses, whole.uses[1:3])
    assert np.array_equal(part.levels, whole.levels[1:3])
    assert part.spans == {
        "fetch": [],
        "matrix unit": [("GEMV", 5200, 5301)],
        "vector unit": [("STORE · logits", 5302, 5400)],
    }
    assert cut(whole, 0, 10_000).spans["matrix unit"] == [("GEMV", 5100, 5301)]


@pytest.mark.parametrize(("first", "end"), [(700, 800), (-1, 5), (20, 20), (30, 20)])
def test_cycles_that_are_not_in_the_trace(path: Path, first: int, end: int) -> None:
    text = f"the cycles {first:,} to {end:,} are not in the trace, which has 700: choose others"
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        cut(read_trace(path), first, end)


def share(use: PortUse) -> float:
    return float(use.uses[:, :BEATS].sum() / use.uses.sum())


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG\r\n"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_is_drawn(path: Path, tmp_path: Path, ending: str, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    use = read_trace(path)
    picture = tmp_path / f"port.{ending}"
    assert draw(use, picture) == pytest.approx(share(use))
    assert picture.read_bytes().startswith(start)


def test_a_long_trace_is_drawn_in_fewer_points(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets are joined, the last ones too if they do not come out even."""
    pytest.importorskip("matplotlib")
    use = read_trace(path)
    monkeypatch.setattr(plot, "POINTS", 3)
    assert draw(use, tmp_path / "port.png") == pytest.approx(share(use))


@pytest.mark.parametrize("name", ["missing/port.png", "port.words"])
def test_pictures_that_can_not_be_written(path: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ToolError, match=f"^the picture {re.escape(str(tmp_path / name))} can't be written: "):
        draw(read_trace(path), tmp_path / name)


def test_without_matplotlib(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(MissingPackage, match="^the Python package matplotlib is needed to draw: "):
        draw(read_trace(path), tmp_path / "port.png")
