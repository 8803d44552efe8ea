"""The block quantiser: float32 elements to a block-floating-point vector, in one pass."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config

from .layout import SETS
from .memory import VectorWrite, bases_layout, slot_shape


def quantise_word_layout(config: Config) -> data.StructLayout:
    """A word of elements on its way into a slot.

    Fields
    ------
    data : ArrayLayout(32, lanes)
        Float32 bits, the first element in the lowest ones.
    mask : lanes
        Elements that are there; the others count as zero.
    slot, set : int
    block : range(vector_blocks)
        Block of the slot that the word begins, if it is the first one.
    first, last : 1
        First word, last word of a vector or of a segment of one; the last block is padded with zeros.
    final : 1
        Last word of the command: the bases of the slots that it wrote to are set then.
    duplicate : 1
        Blocks have 16 elements, which are written twice.
    join : 1
        The base is at least what it was before.
    """
    return data.StructLayout(
        {
            "data": data.ArrayLayout(32, config.lanes),
            "mask": config.lanes,
            "slot": slot_shape(config),
            "set": range(SETS),
            "block": range(config.vector_blocks),
            "first": 1,
            "last": 1,
            "final": 1,
            "duplicate": 1,
            "join": 1,
        }
    )


class BlockQuantiser(wiring.Component):
    """Quantise words of elements.

    Attributes
    ----------
    i : In(stream.Signature(quantise_word_layout(config)))
    bases : In(bases_layout(config))
        `VectorMemory.bases`, which `join` needs.
    write : Out(VectorWrite)
    idle : Out(1)
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(quantise_word_layout(config))),
                "bases": In(bases_layout(config)),
                "write": Out(VectorWrite(config)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        return Module()
