"""Timelines: what they say about events, and whether a recording agrees with the core's own counters."""

from collections.abc import Sequence

import numpy as np
import pytest

from tailrace.hdl.control.probe import CycleUse
from tailrace.sim.timeline import BEATS, USES, EventKind, Span, Timeline
from tailrace.sim.verilated import _EVENT, VerilatedDevice
from tailrace.spec.commands import decode
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ConfigError
from tailrace.spec.isa import Opcode
from tailrace.spec.registers import AP_START, COUNTERS, offset
from verification.programs import MEMORY_BYTES, random_program

START, END, FETCH = EventKind.RUN_START, EventKind.RUN_END, EventKind.FETCH
MATRIX_START, MATRIX_FINISH = EventKind.MATRIX_START, EventKind.MATRIX_FINISH
VECTOR_START, VECTOR_FINISH = EventKind.VECTOR_START, EventKind.VECTOR_FINISH


def timeline(*events: tuple[int, EventKind, int]) -> Timeline:
    return Timeline(0, 100, np.array(list(events), dtype=_EVENT), np.zeros((0, len(USES)), dtype=np.int64), np.zeros(0))


def test_uses_are_those_of_the_probe() -> None:
    assert len(USES) == len(CycleUse)
    assert [use.name.endswith("_BEAT") for use in sorted(CycleUse, key=lambda u: u.value)] == [
        n < BEATS for n in range(len(USES))
    ]


def test_commands_are_fetched_one_after_the_other() -> None:
    """Each from the end of the one before it; the first of a run from its start."""
    record = timeline(
        (5, START, 0), (9, FETCH, 0), (9 + 7, FETCH, 1), (40, END, 0), (100, START, 0), (111, FETCH, 0), (120, END, 0)
    )
    assert record.fetched() == [Span(0, 5, 10), Span(1, 10, 17), Span(0, 100, 112)]
    assert record.runs() == [(5, 40), (100, 120)]


def test_a_recording_may_begin_and_end_in_a_run() -> None:
    assert timeline((9, FETCH, 3)).fetched() == [Span(3, 0, 10)]
    assert timeline((5, START, 0)).runs() == []
    assert timeline((9, VECTOR_START, 3)).executed("vector") == []
    assert timeline().fetched() == timeline().executed("matrix") == []


def test_a_product_that_waits_behind_another_counts_from_its_end() -> None:
    record = timeline(
        (10, MATRIX_START, 4),
        (12, MATRIX_START, 5),
        (30, VECTOR_START, 6),
        (50, MATRIX_FINISH, 0),
        (52, VECTOR_FINISH, 0),
        (70, MATRIX_FINISH, 0),
        (80, MATRIX_START, 7),
        (90, MATRIX_FINISH, 0),
    )
    assert record.executed("matrix") == [Span(4, 10, 51), Span(5, 51, 71), Span(7, 80, 91)]
    assert record.executed("vector") == [Span(6, 30, 53)]


def run(device: VerilatedDevice, rng: np.random.Generator) -> tuple[Sequence[bytes], dict[str, int]]:
    """Run a random program; returns its commands and the counters."""
    program = random_program(rng, device.config, 12)
    device.write(0, program.memory.tobytes())
    for name, value in (
        *((f"ARGUMENT_{i}", value) for i, value in enumerate(program.arguments)),
        ("QUEUE_ADDRESS_LO", program.queue),
        ("QUEUE_LENGTH", len(program.commands)),
        ("GIE", 1),
        ("IER", 1),
        ("AP_CTRL", AP_START),
    ):
        device.write_register(offset(name), value)
    device.wait(60)
    device.write_register(offset("ISR"), 1)
    assert device.read_register(offset("ERROR_CODE")) == 0
    return program.commands, {name: device.read_register(offset(f"{name}_LO")) for name, _ in COUNTERS}


def test_a_recording_agrees_with_the_counters(rng: np.random.Generator) -> None:
    """Two runs: every cycle is in a bucket with its use, every command in the events, in the order in which its unit works."""
    width = 64
    with VerilatedDevice(CONFIGS["tiny"], MEMORY_BYTES, timeline=width) as device:
        runs = [run(device, rng) for _ in range(2)]
        record = device.timeline()
    counters = [counted for _, counted in runs]
    names = ("COMMAND_BEATS", "VECTOR_BEATS", "WEIGHT_BEATS", "STALL_MEMORY", "STALL_BUFFER", "STALL_FENCE", "STALL_DRAIN")
    for use, name in enumerate((*names, "STALL_COMMAND")):
        assert record.uses[:, use].sum() == sum(counted[name] for counted in counters), name
    assert [end - start for start, end in record.runs()] == [counted["CYCLES"] for counted in counters]
    assert record.uses.sum(axis=1).max() == width
    assert record.levels.max() <= CONFIGS["tiny"].read_fifo_beats

    fetched = record.fetched()
    assert len(fetched) == sum(counted["COMMANDS"] for counted in counters)
    for unit, opcodes in (
        ("matrix", {Opcode.GEMV}),
        ("vector", {Opcode.LOAD_VECTOR, Opcode.ELEMENTWISE, Opcode.STORE, Opcode.ROTATE, Opcode.APPEND, Opcode.READ}),
    ):
        spans = record.executed(unit)
        expected = []
        for (first, last), (commands, _) in zip(record.runs(), runs, strict=True):
            of_run = [span.index for span in fetched if first <= span.start < last]
            expected += [index for index in of_run if (decoded := decode(commands[index])) and decoded[0] in opcodes]
        assert [span.index for span in spans] == expected
        assert all(before.end <= after.start for before, after in zip(spans, spans[1:], strict=False))
        # The counters of busy cycles are the cycles of the commands, which no other part of the core counts.
        for (first, last), (_, counted) in zip(record.runs(), runs, strict=True):
            busy = sum(span.end - span.start for span in spans if first <= span.start < last)
            assert counted[f"{unit.upper()}_BUSY"] == busy, unit
            assert 0 < busy < last - first
        assert all(span.start < span.end for span in spans)


def test_what_is_not_recorded_is_not_there() -> None:
    with VerilatedDevice(CONFIGS["tiny"], 1 << 16, timeline=10, timeline_window=(1 << 40, 1 << 41)) as device:
        device.run(1000)
        record = device.timeline()
    assert (len(record.events), len(record.uses), record.first_cycle) == (0, 0, 1 << 40)
    with pytest.raises(ConfigError, match=r"^timeline must be a number of cycles, or 0 for none, not -1$"):
        VerilatedDevice(CONFIGS["tiny"], 1 << 16, timeline=-1)
