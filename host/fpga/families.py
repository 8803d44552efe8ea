"""The FPGA families that can be synthesised for: their cells, by what a data sheet calls them."""

from dataclasses import dataclass, field
from pathlib import Path

#: The file that `SEPARATE_ADDERS` reads, which stands beside the design, and what is in it.
ADDERS = "adders.v"
ADDERS_TEXT = (Path(__file__).parent / "cells" / ADDERS).read_text(encoding="utf-8")
#: Yosys' commands that give each sum of two numbers its own carry chain, which has to be known before Yosys looks for sums of
#: several. Numbers become as narrow as they can be before, as that does not look at carry chains.
SEPARATE_ADDERS = ("proc", "opt_expr", "wreduce", f"techmap -map {ADDERS} t:$add")


@dataclass(frozen=True)
class Family:
    """A family of FPGAs.

    Attributes
    ----------
    name : str
        As the command line has it.
    title : str
        For people.
    synthesis : str
        Yosys' command; ``{top}`` is the top module, ``{json}`` the netlist to write.
    cells : dict of str to tuple of str
        Kinds of cells, by what a data sheet calls them.
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
    rules : str
        What those read from `ADDERS`.
    """

    name: str
    title: str
    synthesis: str
    cells: dict[str, tuple[str, ...]]
    multipliers: tuple[str, ...]
    memories: tuple[str, ...]
    distributed: str
    capacity: dict[str, int]
    luts: dict[str, int] = field(default_factory=dict)
    timing: str = ""
    before: tuple[str, ...] = ()
    rules: str = ""

    def count(self, counted: dict[str, int]) -> dict[str, int]:
        """Sum the cells of a netlist, by type, under the names of `cells`."""
        return {what: sum(counted.get(kind, 0) for kind in kinds) for what, kinds in self.cells.items()}

    def excess(self, cells: dict[str, int]) -> dict[str, tuple[int, int]]:
        """What a design needs more of than the device has: needed and available."""
        needed = {**cells, "LUT4": sum(cells[what] * luts for what, luts in self.luts.items())}
        return {what: (needed[what], most) for what, most in self.capacity.items() if needed[what] > most}


_LUTS = tuple(f"LUT{inputs}" for inputs in range(1, 7))
_REGISTERS = ("FDRE", "FDSE", "FDCE", "FDPE")
_SHIFTERS = ("SRL16E", "SRLC16E", "SRLC32E")


def _xilinx(name: str, options: str = "") -> str:
    return f"synth_xilinx -family {name} {options}-flatten -noiopad -noclkbuf -top {{top}} -json {{json}}"


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "ecp5",
            "Lattice ECP5",
            "synth_ecp5 -top {top} -json {json}",
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
            before=SEPARATE_ADDERS,
            rules=ADDERS_TEXT,
        ),
        Family(
            "xc7",
            "Xilinx 7 series",
            _xilinx("xc7"),
            {
                "LUT": (*_LUTS, "INV"),
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
        ),
        Family(
            "xcup",
            "Xilinx UltraScale+",
            _xilinx("xcup", "-uram "),
            {
                "LUT": (*_LUTS, "INV"),
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
        ),
    )
}
