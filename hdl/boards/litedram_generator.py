"""A program: LiteDRAM's own generator, and a note of what it takes to start the memory that it has made.

It is run by its path, as `tailrace.hdl.boards.litedram` does it: LiteX prints, changes global state and ends the process.
Its arguments are those of ``litedram.gen``, after the file that the note goes to.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def main(note: Path) -> None:
    """Generate a memory controller; write to `note` what `describe` says of it."""
    # The generator takes one function from LiteX's simulator, which only works with half a dozen more packages. The function is
    # LiteDRAM's own.
    sys.modules["litex.tools.litex_sim"] = import_module("litedram.phy.model")
    generator: Any = import_module("litedram.gen")
    clocks = generator.CRG

    class Core(generator.LiteDRAMCore):
        def __init__(self, platform: Any, *arguments: Any, **options: Any) -> None:
            # With its model of the memory, the generator leaves the reset out.
            generator.CRG = lambda clock: clocks(clock, platform.request("rst"))
            super().__init__(platform, *arguments, **options)

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


def describe(settings: Any) -> dict[str, Any]:
    """What a user of the controller must know, from LiteDRAM's own settings and initialisation.

    Returns
    -------
    dict
        ``memory_bytes``; ``select``, the value that hands control to the controller; ``steps``, each a list: address pins, bank
        pins, whether the value is one for the control register (or a command), the value, cycles to wait.
    """
    initialisation: Any = import_module("litedram.init")
    constants: dict[str, Any] = {}
    exec(initialisation.get_sdram_phy_py_header(settings.phy, settings.timing), constants)
    sequence, _ = initialisation.get_sdram_phy_init_sequence(settings.phy, settings.timing)

    def value(names: str) -> int:
        return sum(constants[name.lower()] for name in names.split("|"))

    geometry = settings.geom
    return {
        "memory_bytes": settings.phy.databits // 8 << geometry.bankbits + geometry.rowbits + geometry.colbits,
        "select": value("DFII_CONTROL_SEL"),
        "steps": [
            [address, bank, names.startswith("DFII_CONTROL"), value(names), wait] for _, address, bank, names, wait in sequence
        ],
    }


if __name__ == "__main__":
    main(Path(sys.argv.pop(1)))
