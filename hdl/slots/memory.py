"""The vector memory: the block-floating-point vectors that the rows of a matrix are multiplied with."""

from amaranth.hdl import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import MANTISSA_BITS

from .vector_block import ABSOLUTE_BITS, BASE_BITS, SETS, totals_layout, vector_block_layout


def slot_shape(config: Config) -> range:
    """Shape of a slot number; one bit at least, because a port can not be empty."""
    return range(max(config.right_hand_sides, 2))


def parts_per_block(config: Config) -> int:
    """Bus beats that the mantissas of a block take: 4, 2 or 1."""
    return BLOCK * MANTISSA_BITS // config.unit_width


def bases_layout(config: Config) -> data.ArrayLayout:
    """Base exponents, ``[slot][set]``."""
    return data.ArrayLayout(data.ArrayLayout(signed(BASE_BITS), SETS), config.right_hand_sides)


class VectorWrite(wiring.Signature):
    """What fills a slot, seen from the writer. Its three groups are independent of each other; each may be used in every cycle.

    Members
    -------
    beat : enable, slot, block, part, data
        Write bus beat `part` of a block's mantissas: elements ``part * unit_width / 16`` and following, the first one in the
        lowest bits.
    commit : enable, slot, block, exponent, totals
        Write a block's absolute exponent (base and exponent added), and the sums of the mantissas of its halves.
    base : enable, slot, set, base
        Set one of a slot's base exponents.
    """

    def __init__(self, config: Config) -> None:
        slot, block = slot_shape(config), range(config.vector_blocks)
        beat = {
            "enable": Out(1),
            "slot": Out(slot),
            "block": Out(block),
            "part": Out(range(max(parts_per_block(config), 2))),
            "data": Out(config.unit_width),
        }
        commit = {
            "enable": Out(1),
            "slot": Out(slot),
            "block": Out(block),
            "exponent": Out(signed(ABSOLUTE_BITS)),
            "totals": Out(totals_layout),
        }
        base = {"enable": Out(1), "slot": Out(slot), "set": Out(range(SETS)), "base": Out(signed(BASE_BITS))}
        groups = {"beat": beat, "commit": commit, "base": base}
        super().__init__({name: Out(wiring.Signature(members)) for name, members in groups.items()})


class VectorMemory(wiring.Component):
    """One slot for each right-hand side, each of `Config.vector_blocks` blocks; all slots are read at the same block.

    A slot has four base exponents, one for each *set*, so that vectors which lie in different blocks of a slot can have bases
    of their own. A block has an absolute exponent; what a reader gets is its distance to the base of the set that it
    names. A block that is more than 31 powers of two below the largest one has a negative distance, and counts as zero: that is
    found here, so a vector can be written before its largest element is known.

    Distances are computed modulo 1024, so the bits of a base beyond those of a float32's exponent do not matter. A distance
    above 31 (a block that is not part of the set's vector) loses its upper bits.

    What is written in a cycle can be read from the next cycle on. What is read while it is being written is undefined: whoever
    writes a vector must wait until nobody reads it, and that spares an FPGA the logic that would keep the old value.

    Each bus beat of a block has a memory of its own, so that every memory is written as a whole: that maps to block RAM
    everywhere, and to as many of them as the read port is wide.

    Latency: 1 cycle from `vector_block` and `set` to `vector`; 1 cycle from ``write.base`` to `bases`. `vector` has a
    subtraction of 10 bits behind the block RAM: register it.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    write : In(VectorWrite)
    vector_block : In(range(vector_blocks))
        Block to read.
    set : In(range(4))
        Whose base exponents count.
    vector : Out(ArrayLayout(vector_block_layout, right_hand_sides))
        That block of every slot, one cycle later.
    bases : Out(ArrayLayout(ArrayLayout(signed(16), 4), right_hand_sides))
        Base exponents, ``[slot][set]``.
    """

    #: Cycles from `vector_block` and `set` to `vector`.
    latency = 1

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "write": In(VectorWrite(config)),
                "vector_block": In(range(config.vector_blocks)),
                "set": In(range(SETS)),
                "vector": Out(data.ArrayLayout(vector_block_layout, config.right_hand_sides)),
                "bases": Out(bases_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self._config.vector_blocks
        summary_layout = data.StructLayout({"exponent": signed(ABSOLUTE_BITS), "totals": totals_layout})
        beat, commit, base = self.write.beat, self.write.commit, self.write.base

        for slot in range(self._config.right_hand_sides):
            parts = []
            for part in range(parts_per_block(self._config)):
                m.submodules[f"mantissas_{slot}_{part}"] = memory = Memory(
                    shape=unsigned(self._config.unit_width), depth=depth, init=[], attrs={"no_rw_check": True}
                )
                write, read = memory.write_port(), memory.read_port()
                m.d.comb += [
                    write.en.eq(beat.enable & (beat.slot == slot) & (beat.part == part)),
                    write.addr.eq(beat.block),
                    write.data.eq(beat.data),
                    read.addr.eq(self.vector_block),
                ]
                parts.append(read.data)

            m.submodules[f"summaries_{slot}"] = memory = Memory(
                shape=summary_layout, depth=depth, init=[], attrs={"no_rw_check": True}
            )
            write, read = memory.write_port(), memory.read_port()
            held = Signal(data.ArrayLayout(signed(BASE_BITS), SETS), name=f"bases_{slot}", reset_less=True)
            shown = Signal(ABSOLUTE_BITS, name=f"base_{slot}", reset_less=True)
            distance = Signal(ABSOLUTE_BITS, name=f"distance_{slot}")
            with m.If(base.enable & (base.slot == slot)):
                m.d.sync += held[base.set].eq(base.base)
            m.d.sync += shown.eq(held[self.set])
            m.d.comb += [
                write.en.eq(commit.enable & (commit.slot == slot)),
                write.addr.eq(commit.block),
                write.data.exponent.eq(commit.exponent),
                write.data.totals.eq(commit.totals),
                read.addr.eq(self.vector_block),
                distance.eq(read.data.exponent - shown),
                self.vector[slot].mantissas.as_value().eq(Cat(*parts)),
                self.vector[slot].exponent.eq(distance),
                self.vector[slot].totals.eq(read.data.totals),
                self.vector[slot].zero.eq(distance[-1]),
                self.bases[slot].eq(held),
            ]
        return m
