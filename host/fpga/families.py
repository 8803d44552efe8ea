"""The FPGA families that can be synthesised for: their cells, by what a data sheet calls them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Files with rules that Yosys' commands below read, which have to stand beside the design, and what is in them.
ADDERS, DSP48 = "adders.v", "dsp48.v"
RULES = {name: (Path(__file__).parent / "cells" / name).read_text(encoding="utf-8") for name in (ADDERS, DSP48)}


def map_twice(picoseconds: int) -> str:
    """Yosys' command that has ABC map logic to LUTs a second time, from the shallowest form that ABC finds of the first result.

    What ABC makes of a whole core in one go is as deep everywhere as the slowest path is, and has more LUTs.

    Parameters
    ----------
    picoseconds : int
        Delay of a wire between two cells. Yosys takes 300, with which carry chains seem slow and LUTs for nothing.
    """
    mapping = f"&if,-W,{picoseconds}"
    steps = ("&scorr", "&sweep", "&dc2", "&dch,-f,-r", mapping, "&mfs", "&st", "&synch2", "&ps", f"{mapping},-v", "&mfs")
    return f'scratchpad -set abc9.script "+{";".join(steps)}"'


#: Yosys' commands before `synth_ecp5`. Each sum of two numbers gets its own carry chain, which has to be known before Yosys
#: looks for sums of several. Numbers become as narrow as they can be before, as that does not look at carry chains.
ECP5_BEFORE = ("proc", "opt_expr", "wreduce", f"techmap -map {ADDERS} t:$add", map_twice(900))


def write_rules(folder: Path) -> None:
    """Write the files with rules into a folder."""
    for name, text in RULES.items():
        (folder / name).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Family:
    """A family of FPGAs.

    Attributes
    ----------
    name : str
        As the command line has it.
    title : str
        For people.
    synthesis : tuple of str
        Yosys' commands; ``{top}`` is the top module, ``{json}`` the netlist to write.
    cells : dict of str to tuple of str
        Kinds of cells, by what a data sheet calls them; `SITES` is found from all LUTs.
    multipliers, memories : tuple of str
        Cells that multiply; those of block RAM.
    distributed : str
        RAM made of LUTs, by its name in `cells`.
    capacity : dict of str to int
        Cells of the device that is placed and routed for, where there is one, by the names of `cells`.
    luts : dict of str to int
        LUTs that other cells are made of, by the names of `cells`.
    timing : str
        Yosys' command that reads the delays of the cells, where they are known; empty where they are not.
    before : tuple of str
        Yosys' commands before `synthesis`.
    registers_in_products : bool
        Registers behind products are put into their DSP blocks afterwards (`pack_product_registers`).
    """

    name: str
    title: str
    synthesis: tuple[str, ...]
    cells: dict[str, tuple[str, ...]]
    multipliers: tuple[str, ...]
    memories: tuple[str, ...]
    distributed: str
    capacity: dict[str, int]
    luts: dict[str, int] = field(default_factory=dict)
    timing: str = ""
    before: tuple[str, ...] = ()
    registers_in_products: bool = False

    def count(self, counted: Mapping[str, int]) -> dict[str, int]:
        """Sum the cells of a netlist, by type, under the names of `cells`."""
        sums = {what: sum(counted.get(kind, 0) for kind in kinds) for what, kinds in self.cells.items()}
        return sums | {SITES: lut_sites(counted)} if SITES in sums else sums

    def excess(self, cells: dict[str, int]) -> dict[str, tuple[int, int]]:
        """What a design needs more of than the device has: needed and available."""
        needed = {**cells, "LUT4": sum(cells[what] * luts for what, luts in self.luts.items())}
        return {what: (needed[what], most) for what, most in self.capacity.items() if needed[what] > most}


#: LUTs of a family whose LUTs have two outputs, once those that can share one do.
SITES = "LUT sites"


def lut_sites(counted: Mapping[str, int]) -> int:
    """Estimate how many LUTs with two outputs hold the LUTs of a netlist.

    Two LUTs share one if they have at most five inputs. That they may have inputs in common is not looked at.

    Parameters
    ----------
    counted : dict of str to int
        Cells of the netlist, by type.
    """
    four, three, two = (counted.get(f"LUT{inputs}", 0) for inputs in (4, 3, 2))
    one = counted.get("LUT1", 0) + counted.get("INV", 0)
    beside_four = min(four, one)
    beside_three = min(three, two + one - beside_four)
    left = two + one - beside_four - beside_three
    return counted.get("LUT6", 0) + counted.get("LUT5", 0) + four + three + (left + 1) // 2


_LUTS = tuple(f"LUT{inputs}" for inputs in range(1, 7))
_REGISTERS = ("FDRE", "FDSE", "FDCE", "FDPE")
_SHIFTERS = ("SRL16E", "SRLC16E", "SRLC32E")


_ULTRASCALE = "synth_xilinx -family xcup -uram -flatten -noiopad -noclkbuf -top {top} -run"
#: Yosys packs neither registers nor adders into a DSP48E2. Here its pass for the DSP48E1 does, with the products of a DSP48E2.
_PACK_DSP48 = (
    *("memory_dff", "alumacc -macc-only", "maccmap -unmap", "opt_clean"),
    f"techmap -map +/mul2dsp.v -map {DSP48} -D DSP_A_MAXWIDTH=27 -D DSP_B_MAXWIDTH=18 -D DSP_A_MAXWIDTH_PARTIAL=18"
    " -D DSP_SIGNEDONLY=1 -D DSP_NAME=$__MUL27X18",
    *("setattr -unset mul2dsp a:mul2dsp", "opt_expr -fine", "wreduce", "xilinx_dsp -family xc7"),
    "chtype -set $mul t:$__soft_mul",
)
_RENAME_DSP48 = ("chtype -set DSP48E2 t:DSP48E1", "write_json {json}")


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "ecp5",
            "Lattice ECP5",
            ("synth_ecp5 -top {top} -json {json}",),
            {
                "LUT4": ("LUT4",),
                "flip-flops": ("TRELLIS_FF",),
                "carry pairs": ("CCU2C",),
                "distributed RAM": ("TRELLIS_DPR16X4",),
                "block RAM": ("DP16KD",),
                "multipliers": ("MULT18X18D",),
            },
            ("MULT18X18D",),
            ("DP16KD",),
            "distributed RAM",
            # An LFE5U-85F.
            {"LUT4": 83640, "flip-flops": 83640, "block RAM": 208, "multipliers": 156},
            # As nextpnr counts them: distributed RAM takes two slices, and the LUTs of a third for its write port.
            {"LUT4": 1, "carry pairs": 2, "distributed RAM": 6},
            before=ECP5_BEFORE,
            registers_in_products=True,
        ),
        Family(
            "xc7",
            "Xilinx 7 series",
            ("synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -top {top} -json {json}",),
            {
                "LUT": (*_LUTS, "INV"),
                SITES: (),
                "flip-flops": _REGISTERS,
                "CARRY4": ("CARRY4",),
                "LUT RAM": ("RAM32M", "RAM64M", "RAM32X1D", "RAM64X1D", "RAM128X1D", "RAM256X1S", *_SHIFTERS),
                "RAMB36": ("RAMB36E1",),
                "RAMB18": ("RAMB18E1",),
                "DSP48E1": ("DSP48E1",),
            },
            ("DSP48E1",),
            ("RAMB36E1", "RAMB18E1"),
            "LUT RAM",
            {},
            {},
            "read_verilog -lib -specify -overwrite +/xilinx/cells_sim.v",
            before=(map_twice(600),),
        ),
        Family(
            "xcup",
            "Xilinx UltraScale+",
            (f"{_ULTRASCALE} begin:map_dsp", *_PACK_DSP48, f"{_ULTRASCALE} coarse:", *_RENAME_DSP48),
            {
                "LUT": (*_LUTS, "INV"),
                SITES: (),
                "flip-flops": _REGISTERS,
                # Two of them are packed into a CARRY8.
                "CARRY4": ("CARRY4",),
                "LUT RAM": (
                    *("RAM32M16", "RAM64M8", "RAM32M", "RAM64M", "RAM32X1D", "RAM64X1D", "RAM128X1D", "RAM256X1D"),
                    *_SHIFTERS,
                ),
                "RAMB36": ("RAMB36E2",),
                "RAMB18": ("RAMB18E2",),
                "URAM": ("URAM288",),
                "DSP48E2": ("DSP48E2",),
            },
            ("DSP48E2",),
            ("RAMB36E2", "RAMB18E2", "URAM288"),
            "LUT RAM",
            {},
            before=(map_twice(600),),
        ),
    )
}
