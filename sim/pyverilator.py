"""Opens a single block at a Python prompt, to poke and peek at it by signal name, through the PyVerilator package.

    >>> from tailrace.hdl.fifo import StreamFifo
    >>> block = open_block(StreamFifo(8, depth=4))
    >>> block.io.i__payload, block.io.i__valid = 42, 1
    >>> block.clock.tick()

PyVerilator 0.7.0 is from 2021. What it does at run time works, and is used as it is: signals, clock, waveforms, GTKWave. Three
things about it broke since, and are mended here:

1. its dependency tclwrapper needs tkinter, and a function of it that Python 3.11 no longer has: `_provide_tcl_lists`;
2. its build asks for C++11, which Verilator's headers have outgrown: `open_block` compiles with `tailrace.sim.compile`,
   which also caches the result;
3. it finds no ports and signals in the headers that Verilator writes today: `_write_wrapper`.
"""

import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tailrace.spec.errors import MissingPackage

from .compile import compile_library
from .sources import module_parts

#: A port in the header of the top class: ``VL_IN8(&name,high,low);`` or ``VL_OUTW(&name,high,low,words);``.
_PORT = re.compile(r"VL_(IN|OUT)(?:8|16|64|W|)\(&(\w+),(\d+),(\d+)(?:,\d+)?\);")
#: A signal in the header of the design: ``SData/*8:0*/ block__DOT__name;``. Arrays, such as memories, look different.
_SIGNAL = re.compile(r"^\s*(?:CData|SData|IData|QData|VlWide<\d+>)/\*(\d+):(\d+)\*/ (\w+);", re.MULTILINE)


def open_block(block: Any, *, name: str = "block", ports: Sequence[Any] | None = None) -> Any:
    """Open a block for simulation, a signal at a time.

    Parameters
    ----------
    block : Elaboratable, Path or str
        An Amaranth component, a Verilog file, or Verilog text.
    name : str
        Name of the top module; for a component any, for Verilog the one in the text.
    ports : sequence of Value, optional
        The ports of an elaboratable that is not a `wiring.Component`.

    Returns
    -------
    pyverilator.PyVerilator
        ``io.NAME`` reads and writes a port, ``internals.NAME`` reads a signal within (``internals.SUBMODULE.NAME`` in a
        submodule), ``clock.tick()`` makes a rising edge, ``start_vcd_trace(file)`` and ``stop_vcd_trace()`` write waveforms.
        Every write settles the combinational logic at once. Values are unsigned, and are cut to the width of their port.

    Raises
    ------
    ToolError
        If PyVerilator or a tool that it needs is missing.
    """
    simulator = _simulator()
    if isinstance(block, Path):
        verilog = block.read_text(encoding="utf-8")
    elif isinstance(block, str):
        verilog = block
    else:
        from .verilog import to_verilog

        verilog = to_verilog(block, name=name, ports=ports, flatten=False)
    library = compile_library(
        verilog,
        name,
        f"V{name}",
        lambda folder: [_write_wrapper(folder, name)],
        what=f"block {name}",
        identity=lambda: module_parts(__name__),
        # Keeps every signal, in one class.
        options=["--public-flat-rw", "--flatten"],
        definitions=["VL_USER_FINISH"],
        trace=True,
    )
    return simulator(str(library))


@cache
def _simulator() -> type:
    """PyVerilator's class, mended."""
    _provide_tcl_lists()
    try:
        from pyverilator import PyVerilator
    except ModuleNotFoundError as error:
        raise MissingPackage(str(error.name), "to open a block", "sim") from None

    class Block(PyVerilator):  # type: ignore[misc]
        """A simulated block."""

        def _write_32(self, port_name: str, value: int) -> None:
            super()._write_32(port_name, self._cut(port_name, value))

        def _write_64(self, port_name: str, value: int) -> None:
            super()._write_64(port_name, self._cut(port_name, value))

        def _write_words(self, port_name: str, num_words: int, value: int) -> None:
            super()._write_words(port_name, num_words, self._cut(port_name, value))

        def _cut(self, port_name: str, value: int) -> int:
            # Verilator takes the bits above a port's width for part of its value.
            return int(value) & ((1 << dict(self.inputs)[port_name]) - 1)

    return Block


def _provide_tcl_lists() -> None:
    """Put a `tclwrapper.tclutil` without tkinter in place of the real one.

    The real one starts a Tcl interpreter when it is imported, for two functions that take lists apart, and one of them,
    `tkapp.split`, was removed from Python 3.11. The package around it, which talks to GTKWave, needs only the first and needs
    no tkinter.
    """
    if "tclwrapper.tclutil" in sys.modules:
        return
    module = ModuleType("tclwrapper.tclutil", "Tcl's lists, without Tcl.")
    module.tclstring_to_list = split_tcl_list  # type: ignore[attr-defined]
    module.tclstring_to_nested_list = lambda text: [split_tcl_list(item) for item in split_tcl_list(text)]  # type: ignore[attr-defined]
    module.tclstring_to_flat_list = lambda text: text.replace("{", " ").replace("}", " ").split()  # type: ignore[attr-defined]
    module.list_to_tclstring = lambda items: " ".join(f"{{{item}}}" if " " in item else item for item in items)  # type: ignore[attr-defined]
    module.nested_list_to_tclstring = module.list_to_tclstring  # type: ignore[attr-defined]
    sys.modules["tclwrapper.tclutil"] = module


def split_tcl_list(text: str) -> list[str]:
    """Take a Tcl list apart: words between spaces, where braces keep spaces together. Backslashes are left as they are."""
    items, depth, word, started = [], 0, "", False
    for character in text:
        if character == "{":
            depth += 1
            started = True
            if depth == 1 and not word:
                continue
        elif character == "}":
            depth -= 1
            if depth == 0:
                continue
        elif character.isspace() and depth == 0:
            if started:
                items.append(word)
            word, started = "", False
            continue
        word += character
        started = True
    return [*items, word] if started else items


def _write_wrapper(folder: Path, name: str) -> Path:
    """Write PyVerilator's C++ wrapper of a Verilated module."""
    from pyverilator import verilatorcpp

    ports = _ports((folder / f"V{name}.h").read_text(encoding="utf-8"))
    internals = _internals((folder / f"V{name}___024root.h").read_text(encoding="utf-8"), name)
    # Where the wrapper finds what it calls by a name. Verilator prefixes words that C++ may reserve, and holds the signals
    # within in a class of their own.
    members = {_plain(port): port for _, port, _ in ports} | {_plain(signal): f"rootp->{signal}" for signal, _ in internals}
    text = verilatorcpp.template_cpp(
        name,
        [(_plain(port), width) for direction, port, width in ports if direction == "IN"],
        [(_plain(port), width) for direction, port, width in ports if direction == "OUT"],
        [(_plain(signal), width) for signal, width in internals],
        '"null"',
    )
    text = re.sub(r"top->(\w+)", lambda match: f"top->{members.get(match[1], match[1])}", text)
    text = text.replace(f'#include "V{name}.h"', f'#include "V{name}.h"\n#include "V{name}___024root.h"')
    # A block of its own must not be told that the time of another has begun.
    own = "main_time = 0; auto* context = new VerilatedContext; context->traceEverOn(true);"
    text = text.replace(f"= new V{name}();", f"= new V{name}{{context}};").replace("Verilated::traceEverOn(true);", own)
    path = folder / "wrapper.cpp"
    path.write_text(text, encoding="utf-8")
    return path


def _ports(header: str) -> list[tuple[str, str, int]]:
    """Direction, C++ name and width of each port in the header of the top class."""
    return [(direction, port, int(high) - int(low) + 1) for direction, port, high, low in _PORT.findall(header)]


def _internals(header: str, name: str) -> list[tuple[str, int]]:
    """C++ name and width of each signal in the header of the design."""
    signals = [(signal, int(high) - int(low) + 1) for high, low, signal in _SIGNAL.findall(header)]
    # The others are Verilator's own, and what lies in arrays of modules, which PyVerilator can't name.
    return [s for s in signals if s[0].startswith(f"{name}__DOT__") and "__BRA__" not in s[0]]


def _plain(name: str) -> str:
    return name.replace("__SYM__", "")
