"""Compiles the emulator, once for each processor and compiler."""

from pathlib import Path

from ..cache import cached, content_key, source_parts
from ..compile import LIBRARY
from ..processes import run_all
from ..processor import processor
from ..progress import announced
from ..toolchain import find_compiler
from .contract import header

_SOURCES = Path(__file__).parent / "cpp"
#: No fused or reordered arithmetic: a result has the contract's bits, whatever the compiler and the processor.
_FLAGS = ("-std=gnu++17", "-O3", "-ffp-contract=off", "-fPIC", "-shared", "-pthread", "-w", "-Wl,-Bsymbolic")


def build_emulator(architecture: str = "native") -> Path:
    """Compile the emulator, or find it in the cache.

    Parameters
    ----------
    architecture : str
        Which processor's instructions may be used, as the compiler calls it: those of this one, or fewer.

    Returns
    -------
    Path
        The shared object.

    Raises
    ------
    ToolError
        If there is no C++ compiler, or it fails.
    """
    compiler, contract = find_compiler(), header()
    flags = [*_FLAGS, f"-march={architecture}", *(() if compiler.is_clang else ("-fno-gnu-unique",))]
    key = content_key([*source_parts((_SOURCES,), "*"), contract, *flags, *compiler.identity, processor()])

    def make(folder: Path) -> None:
        work = folder / "work"
        work.mkdir()
        generated = work / "contract.h"
        generated.write_text(contract, encoding="utf-8")
        with announced(f"compiling the emulator with {compiler.name}"):
            source = str(_SOURCES / "emulator.cpp")
            run_all([[*compiler.command, *flags, "-I.", f"-I{_SOURCES}", "-o", "../" + LIBRARY, source]], work)
        generated.unlink()
        work.rmdir()

    return cached("compiled", key, make, what="the emulator") / LIBRARY
