"""The parts of the gateware that can be built by themselves."""

from importlib import import_module
from typing import Any

from tailrace.spec.config import Config

#: A lane, the matrix-vector engine with its lanes, the whole core without its pins.
_LARGE = {"lane": "gemv.lane:Lane", "engine": "gemv.engine:GemvEngine", "core": "core:Core"}
#: What the host sees, and what looks at commands: seldom used, so only their cells are of interest.
_CONTROL = {
    "control-registers": "control.registers:ControlRegisters",
    "register-file": "control.register_file:RegisterFile",
    "counters": "control.counters:Counters",
    "checker": "control.checker:CommandChecker",
}
_BLOCKS = {
    "float-multiply": "float.multiply:FloatMultiply",
    "float-add": "float.add:FloatAdd",
    "function-unit": "float.function:FunctionUnit",
    "maximum": "float.maximum:Maximum",
    "total": "float.total:Total",
    "read-master": "axi.read_master:ReadMaster",
    "write-master": "axi.write_master:WriteMaster",
    "vector-memory": "slots.memory:VectorMemory",
    "vector-loader": "slots.loader:VectorLoader",
    "block-quantiser": "slots.block_quantiser:BlockQuantiser",
    "append": "vector.append:Append",
    "store": "vector.store:Store",
    "vector-unit": "vector.vector_unit:VectorUnit",
    "activation-buffer": "vector.activation_buffer:ActivationBuffer",
    "link": "link.bridge:LinkBridge",
}

#: The single blocks.
BLOCKS = tuple(_BLOCKS)
#: Everything that can be built by itself.
PARTS = (*_LARGE, *_BLOCKS, *_CONTROL)


def make_part(part: str, config: Config) -> Any:
    """The component of a part, from `PARTS`.

    Raises
    ------
    ValueError
        If there is no such part.
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}: choose from {', '.join(PARTS)}")
    module, _, name = (_LARGE | _BLOCKS | _CONTROL)[part].partition(":")
    return getattr(import_module(f"tailrace.hdl.{module}"), name)(*_parameters(part, config))


def _parameters(part: str, config: Config) -> tuple[Any, ...]:
    match part:
        case "float-multiply" | "float-add" | "function-unit" | "register-file" | "counters":
            return ()
        case "maximum" | "total":
            return (config.word_elements,)
        case "link":
            from tailrace.hdl.boards.board import clocks_per_bit
            from tailrace.hdl.boards.ulx3s import BOARD

            return clocks_per_bit(BOARD.clock_hz), BOARD.clock_hz, 32 << 20
        case _:
            return (config,)
