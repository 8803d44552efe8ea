"""The parts of the gateware that can be built by themselves."""

from importlib import import_module
from typing import Any

from tailrace.spec.config import Config

#: A lane, the matrix-vector engine with its lanes, the whole core without its pins.
_LARGE = {"lane": "gemv.lane:Lane", "engine": "gemv.engine:GemvEngine", "core": "core:Core"}
#: Single blocks that a configuration determines.
_BLOCKS = {
    "read-master": "axi.read_master:ReadMaster",
    "write-master": "axi.write_master:WriteMaster",
    "vector-memory": "slots.memory:VectorMemory",
    "vector-loader": "slots.loader:VectorLoader",
    "block-quantiser": "slots.block_quantiser:BlockQuantiser",
    "append": "vector.append:Append",
    "store": "vector.store:Store",
}
#: Arithmetic that is the same in every configuration.
_ARITHMETIC = {
    "float-multiply": "float.multiply:FloatMultiply",
    "float-add": "float.add:FloatAdd",
    "function-unit": "float.function:FunctionUnit",
}
#: What works on a float of each lane at once.
_ACROSS = {"maximum": "float.maximum:Maximum", "total": "float.total:Total"}
#: The serial link of the ULX3S.
_LINK = {"link": "link.bridge:LinkBridge"}

#: The single blocks.
BLOCKS = (*_ARITHMETIC, *_ACROSS, *_BLOCKS, *_LINK)
#: Everything that can be built by itself.
PARTS = (*_LARGE, *BLOCKS)


def make_part(part: str, config: Config) -> Any:
    """The component of a part, from `PARTS`.

    Raises
    ------
    ValueError
        If there is no such part.
    """
    if part in _LARGE or part in _BLOCKS:
        return _component((_LARGE | _BLOCKS)[part])(config)
    if part in _ARITHMETIC:
        return _component(_ARITHMETIC[part])()
    if part in _ACROSS:
        return _component(_ACROSS[part])(config.lanes)
    if part in _LINK:
        from tailrace.hdl.boards.ulx3s import BAUD, CLOCK_HZ, clocks_per_bit

        return _component(_LINK[part])(clocks_per_bit(CLOCK_HZ, BAUD), CLOCK_HZ, 32 << 20)
    raise ValueError(f"unknown part {part!r}: choose from {', '.join(PARTS)}")


def _component(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"tailrace.hdl.{module}"), name)
