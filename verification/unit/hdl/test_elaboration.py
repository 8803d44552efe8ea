"""Components can be elaborated as often as one likes: what they are does not change by it."""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from amaranth.back import rtlil
from amaranth.lib import wiring

import tailrace.hdl
from tailrace.hdl.boards.litedram import ControlWrite, LiteDram, ReadPhases
from tailrace.hdl.fifo import StreamFifo
from tailrace.hdl.float.maximum import Maximum
from tailrace.hdl.slots.loader import VectorLoader
from tailrace.spec.config import Config

CONFIG = Config("test", 256, right_hand_sides=2, vector_blocks=64, buffer_entries=1024)
#: For parameters that have no default, by name.
VALUES: dict[str, Any] = {
    "config": CONFIG,
    "word_elements": CONFIG.word_elements,
    "address_width": 12,
    "width": 40,
    "shape": 32,
    "depth": 12,
    "cycles": 9,
    "name": "vector",
    "clock_hz": 60_000_000,
    "clocks_per_bit": 20,
    "memory_bytes": 1 << 25,
    "writes": (ControlWrite(0, 1),),
    "lanes": 2,
    "data_width": 128,
    "row_bytes": 1024,
    "phases": ReadPhases(2, 8, 4, 0, 4, 8, 12, 16),
    "controller": LiteDram("dram", Path("dram.v"), {}, (ControlWrite(0, 1),), 1 << 25, 1024, CONFIG.bus_width, simulated=True),
}


def components() -> list[Any]:
    """Every component of the gateware."""
    names = [info.name for info in pkgutil.walk_packages(tailrace.hdl.__path__, "tailrace.hdl.")]
    # The generator is a program that runs in a process of its own.
    modules = [import_module(name) for name in names if name != "tailrace.hdl.boards.litedram_generator"]
    return [
        one
        for module in modules
        for one in vars(module).values()
        if inspect.isclass(one) and issubclass(one, wiring.Component) and one.__module__ == module.__name__
    ]


def make(component: Any) -> Any:
    parameters = inspect.signature(component).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    wanted = [p.name for p in parameters if p.default is p.empty and p.kind in kinds]
    if component.__init__ is wiring.Component.__init__:
        return component()
    return component(**{name: VALUES[name] for name in wanted})


def test_all_are_found() -> None:
    assert {Maximum, StreamFifo, VectorLoader} <= set(components())
    assert len(components()) > 60


@pytest.mark.parametrize("component", components(), ids=lambda c: c.__name__)
def test_nothing_of_a_component_changes(component: Any) -> None:
    """No attribute comes, goes, or is another one."""
    made = make(component)
    before = dict(vars(made))
    for _ in range(2):
        made.elaborate(None)
        after = vars(made)
        assert list(after) == list(before)
        assert all(after[name] is before[name] for name in before)


@pytest.mark.parametrize("component", [Maximum, StreamFifo, VectorLoader], ids=lambda c: c.__name__)
def test_the_netlist_stays_the_same(component: Any) -> None:
    made = make(component)
    first, second = (rtlil.convert(made, name="top") for _ in range(2))
    assert first == second
    assert "module \\top" in first
