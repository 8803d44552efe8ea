"""Counters and the closing table: the numbers that a run is judged by."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from tailrace.command.expectation import Expectation
from tailrace.command.report import Run, Setting, run_table
from tailrace.device.counters import NAMES, Counters
from tailrace.image.geometry import Geometry
from tailrace.spec.config import CONFIGS

VALUES = dict.fromkeys(NAMES, 0) | {
    "CYCLES": 2000,
    "COMMAND_BEATS": 20,
    "VECTOR_BEATS": 80,
    "WEIGHT_BEATS": 1700,
    "STALL_MEMORY": 150,
    "STALL_DRAIN": 50,
}


def text_of(counters: Counters, **changes: object) -> str:
    run = Run(prompt_tokens=7, new_tokens=3, seed=None, steps=2, counters=counters, seconds=4.0, digest="ab" * 32)
    setting = Setting("verilator", "base", True, "memory latency 100", 100.0)
    here = {name: changes.pop(name) for name in list(changes) if name in vars(setting)}
    run, setting = replace(run, **changes), replace(setting, **here)  # type: ignore[arg-type]
    table = run_table(run, setting, Geometry.of_config(CONFIGS["base"]))
    output = StringIO()
    Console(width=200, file=output).print(table)
    return output.getvalue()


def test_counters_add_and_divide() -> None:
    one = Counters(VALUES, 1, 24000)
    two = one + one
    assert (two.cycles, two.runs, two.weight_bytes, two.read_beats) == (4000, 2, 48000, 3600)
    assert (two - one) == one
    assert two.beat_utilisation == 0.9
    assert two.model_utilisation(16) == 0.75
    assert Counters().beat_utilisation == Counters().model_utilisation(16) == 0.0


def test_expected() -> None:
    """Of a device that counts no cycles; with drafts of a model those of its passes are among them."""
    expected = Expectation(2_000_000, 1_500_000, 100_000)
    text = text_of(Counters(), expected=expected, expected_of="memory: fast", device_name="emulator")
    assert "│ expected " in text
    assert "│ 2,000,000 cycles a token, 50.00 tokens/s at 100 MHz (model's error at most 0.5%); memory: fast " in text
    assert "with drafts" not in text
    assert "not counted" not in text
    assert "│ got " not in text
    text = text_of(Counters(), expected=expected, drafted=5, accepted=1, device_name="emulator")
    assert "expected with drafts │ 1,600,000 cycles a token, 62.50 tokens/s at 100 MHz: 1.25 times as fast" in text


def test_got() -> None:
    """What the device has counted, beside what was expected of its passes: 2,000 cycles for two tokens, or for three."""
    expected = Expectation(1000, 990, 100)
    text = text_of(Counters(VALUES, 1, 24000), expected=expected)
    assert "got " in text
    assert "│ 1,000 cycles a token, 100,000.00 tokens/s at 100 MHz: 1.0% more cycles than expected of these passes" in text
    text = text_of(Counters(VALUES, 1, 24000), expected=expected, drafted=3, accepted=1, clock=None)
    assert "│ 667 cycles a token: 32.7% fewer cycles than expected of these passes" in text


def test_closing_table() -> None:
    text = text_of(Counters(VALUES, 1, 24000))
    for part in (
        "3 new after a prompt of 7; 2 decode steps on the device",
        "1,000 (simulated, memory latency 100)",
        "12,000 of the model; 14,400 read over the bus",
        "90.00% beats carried over cycles; 75.00% model bytes over cycles x width",
        "75 cycles per token, 7.50%: reads were asked for and the memory had not answered yet",
        "25 cycles per token, 2.50%: all was read, and results were on their way to memory",
        "speed at 100 MHz",
        "100000.00 tokens/s (estimate from simulated cycles",
        "4.0 s, 2.00 s per token",
    ):
        assert part in text, text
    assert "stall fence" not in text


def test_without_a_clock_there_is_no_speed() -> None:
    text = text_of(Counters(VALUES | {"CYCLES": 0}, 1, 24000), device_name="golden", simulated=False)
    assert "not counted: golden has no clock" in text
    assert "tokens/s" not in text


def test_hardware() -> None:
    setting: dict[str, object] = {"device_name": "serial:/dev/x", "config_name": None, "simulated": False, "conditions": ""}
    text = text_of(Counters(VALUES, 1, 24000), **setting, clock=50.0)
    for part in (
        "serial:/dev/x, hardware (128-bit bus)",
        "1,000 (counted by the device)",
        "0.50 tokens/s: 4.0 s in all",
        "speed at 50 MHz",
        "50000.00 tokens/s (device only, from its cycles)",
    ):
        assert part in text, text
    assert "simulated" not in text
    assert "expected" not in text
    text = text_of(
        Counters(VALUES, 1, 24000), **setting, clock=50.0, expected=Expectation(600, 500, 0), expected_of="memory: fast"
    )
    assert (
        "│ 600 cycles a token, 83,333.33 tokens/s at 50 MHz (model's error at most 0.5%); with a memory that gives a beat in"
        in text
    )
    assert "│ at best " in text
    assert "│ 1,000 cycles a token, 50,000.00 tokens/s at 50 MHz: 100.0% more cycles than at best for these passes" in text
    assert "expected" not in text
    assert "memory: fast" not in text
    assert "speed at" not in text_of(Counters(VALUES, 1, 24000), **setting, clock=None)


def test_matrices_on_the_host_are_named() -> None:
    assert "1 matrices: blk.0.x.weight" in text_of(Counters(VALUES, 1, 24000), on_host=["blk.0.x.weight"])


def test_whole_steps() -> None:
    prompt = Counters(VALUES | {"CYCLES": 9000}, 6, 0)
    text = text_of(
        Counters(VALUES, 2, 24000), whole_steps=True, doorbells=1, prompt_steps=6, prompt_counters=prompt, prompt_seconds=9.0
    )
    assert "2 decode steps on the device, 1 doorbells" in text
    assert "6 tokens before the last on the device, one by one, 1,500 cycles each; 9.0 s" in text
    assert "100000.00 tokens/s (estimate from simulated cycles)" in text
    assert "on the host" not in text
    text = text_of(Counters(VALUES, 2, 24000), whole_steps=True, prompt_seconds=9.0)
    assert "on the host; 9.0 s" in text
