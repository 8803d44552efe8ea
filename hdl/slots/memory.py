"""The vector memory: the block-floating-point vectors that the rows of a matrix are multiplied with."""

from amaranth.hdl import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import MANTISSA_BITS

from .layout import vector_block_layout

#: Bits of a vector's base exponent, as in its header in memory.
BASE_BITS = 16


def slot_shape(config: Config) -> range:
    """Shape of a slot number; one bit at least, because a port can not be empty."""
    return range(max(config.right_hand_sides, 2))


def parts_per_block(config: Config) -> int:
    """Bus beats that the mantissas of a block take: 4, 2 or 1."""
    return BLOCK * MANTISSA_BITS // config.bus_width


class VectorWrite(wiring.Signature):
    """What fills a slot, seen from the writer. Its three groups are independent of each other; each may be used in every cycle.

    Members
    -------
    beat : enable, slot, block, part, data
        Write bus beat `part` of a block's mantissas: elements ``part * bus_width / 16`` and following, the first one in the
        lowest bits.
    commit : enable, slot, block, exponent, total
        Write a block's exponent and the sum of its mantissas.
    base : enable, slot, base
        Set the base exponent of a vector.
    """

    def __init__(self, config: Config) -> None:
        slot, block = slot_shape(config), range(config.vector_blocks)
        super().__init__(
            {
                "beat": Out(
                    wiring.Signature(
                        {
                            "enable": Out(1),
                            "slot": Out(slot),
                            "block": Out(block),
                            "part": Out(range(max(parts_per_block(config), 2))),
                            "data": Out(config.bus_width),
                        }
                    )
                ),
                "commit": Out(
                    wiring.Signature(
                        {
                            "enable": Out(1),
                            "slot": Out(slot),
                            "block": Out(block),
                            "exponent": Out(vector_block_layout["exponent"].shape),
                            "total": Out(vector_block_layout["total"].shape),
                        }
                    )
                ),
                "base": Out(wiring.Signature({"enable": Out(1), "slot": Out(slot), "base": Out(signed(BASE_BITS))})),
            }
        )


class VectorMemory(wiring.Component):
    """One slot for each right-hand side, each of `Config.vector_blocks` blocks; all slots are read at the same block.

    What is written in a cycle can be read from the next cycle on. A memory that is written at the block that it is asked for
    does not read: its part of `vector` stays as it is. (Whoever loads a vector must wait until nobody reads it, so that
    never matters, and it spares an FPGA without such a mode in its block RAM the logic that would keep the old value.)

    Each bus beat of a block has a memory of its own, so that every memory is written as a whole: that maps to block RAM
    everywhere, and to as many of them as the read port is wide.

    Latency: 1 cycle from `vector_block` to `vector`; 1 cycle from ``write.base`` to `bases`.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    write : In(VectorWrite)
    vector_block : In(range(vector_blocks))
        Block to read.
    vector : Out(ArrayLayout(vector_block_layout, right_hand_sides))
        That block of every slot, one cycle later.
    bases : Out(ArrayLayout(signed(16), right_hand_sides))
        Base exponents of the slots.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "write": In(VectorWrite(config)),
                "vector_block": In(range(config.vector_blocks)),
                "vector": Out(data.ArrayLayout(vector_block_layout, config.right_hand_sides)),
                "bases": Out(data.ArrayLayout(signed(BASE_BITS), config.right_hand_sides)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self._config.vector_blocks
        summary_layout = data.StructLayout({name: vector_block_layout[name].shape for name in ("exponent", "total")})
        beat, commit, base = self.write.beat, self.write.commit, self.write.base

        for slot in range(self._config.right_hand_sides):
            parts = []
            for part in range(parts_per_block(self._config)):
                m.submodules[f"mantissas_{slot}_{part}"] = memory = Memory(
                    shape=unsigned(self._config.bus_width), depth=depth, init=[]
                )
                write, read = memory.write_port(), memory.read_port()
                m.d.comb += [
                    write.en.eq(beat.enable & (beat.slot == slot) & (beat.part == part)),
                    write.addr.eq(beat.block),
                    write.data.eq(beat.data),
                    read.addr.eq(self.vector_block),
                    read.en.eq(~(write.en & (write.addr == read.addr))),
                ]
                parts.append(read.data)

            m.submodules[f"summaries_{slot}"] = memory = Memory(shape=summary_layout, depth=depth, init=[])
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(commit.enable & (commit.slot == slot)),
                write.addr.eq(commit.block),
                write.data.exponent.eq(commit.exponent),
                write.data.total.eq(commit.total),
                read.addr.eq(self.vector_block),
                read.en.eq(~(write.en & (write.addr == read.addr))),
                self.vector[slot].mantissas.as_value().eq(Cat(*parts)),
                self.vector[slot].exponent.eq(read.data.exponent),
                self.vector[slot].total.eq(read.data.total),
            ]

            held = Signal(signed(BASE_BITS), name=f"base_{slot}")
            with m.If(base.enable & (base.slot == slot)):
                m.d.sync += held.eq(base.base)
            m.d.comb += self.bases[slot].eq(held)
        return m
