"""A program: LiteDRAM's own generator, and a note of what it takes to start the memory that it has made.

It is a program of its own, as `tailrace.hdl.boards.litedram` runs it: LiteX prints, changes global state and ends the process.
Its arguments are the file that the note goes to, and then those of ``litedram.gen``. The settings have two keys that are not
LiteDRAM's: those of `tailrace.hdl.boards.dram.Dram`.
"""

import json
import sys
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Any

from .litedram_model import use_ddr3_model


def main(note: Path) -> None:
    """Generate a memory controller; write to `note` what `describe` says of it."""
    # The generator takes one function from LiteX's simulator, which only works with half a dozen more packages. The function is
    # LiteDRAM's own.
    sys.modules["litex.tools.litex_sim"] = import_module("litedram.phy.model")
    generator: Any = import_module("litedram.gen")
    clocks = generator.CRG

    class Core(generator.LiteDRAMCore):
        def __init__(self, platform: Any, core_config: Any, *arguments: Any, **options: Any) -> None:
            # With its model of the memory, the generator leaves the reset out.
            generator.CRG = lambda clock: clocks(clock, platform.request("rst"))
            if core_config["refresh_ns"]:
                core_config["sdram_module"] = with_refresh(core_config["sdram_module"], core_config["refresh_ns"])
            if core_config["memtype"] == "DDR3" and isinstance(platform, generator.SimPlatform):
                use_ddr3_model(generator, core_config)
            super().__init__(platform, core_config, *arguments, **options)

    class Builder(generator.Builder):
        def build(self, **options: Any) -> None:
            super().build(**options)
            note.write_text(json.dumps(describe(self.soc.sdram.controller.settings), indent=1), encoding="utf-8")

    generator.LiteDRAMCore, generator.Builder = Core, Builder
    # LiteX would go on to compile a simulator of its own.
    simulator: Any = import_module("litex.build.sim.verilator")
    for step in ("_generate_sim_variables", "_build_sim"):
        setattr(simulator, step, lambda *_, **__: None)
    generator.main()


def with_refresh(chip: Any, nanoseconds: float) -> Any:
    """The class of a memory whose refresh takes so long, at any clock."""
    timings = copy(chip.speedgrade_timings["default"])
    timings.tRFC = (None, nanoseconds)
    return type(chip.__name__, (chip,), {"speedgrade_timings": {"default": timings}})


def describe(settings: Any) -> dict[str, Any]:
    """What a user of the controller must know, from LiteDRAM's own settings and initialisation.

    Returns
    -------
    dict
        ``memory_bytes``; ``row_bytes``, of a row of one bank; ``select``, the value that hands control to the controller;
        ``steps``, each a list: address pins, bank pins, whether the value is one for the control register (or a
        command), the value, cycles to wait; ``delays`` and ``slips``, how many there are to align reads with, 0 where
        nothing is to be aligned.
    """
    initialisation: Any = import_module("litedram.init")
    constants: dict[str, Any] = {}
    exec(initialisation.get_sdram_phy_py_header(settings.phy, settings.timing), constants)
    sequence, _ = initialisation.get_sdram_phy_init_sequence(settings.phy, settings.timing)

    def value(names: str) -> int:
        return sum(constants[name.lower()] for name in names.split("|"))

    geometry = settings.geom
    levelled = settings.phy.read_leveling
    return {
        "memory_bytes": settings.phy.databits // 8 << geometry.bankbits + geometry.rowbits + geometry.colbits,
        "row_bytes": settings.phy.databits // 8 << geometry.colbits,
        "select": value("DFII_CONTROL_SEL"),
        "delays": settings.phy.delays if levelled else 0,
        "slips": settings.phy.bitslips if levelled else 0,
        "steps": [
            [address, bank, names.startswith("DFII_CONTROL"), value(names), wait] for _, address, bank, names, wait in sequence
        ],
    }


if __name__ == "__main__":
    main(Path(sys.argv.pop(1)))
