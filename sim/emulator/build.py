"""Compiles the emulator, once for each processor and compiler."""

from pathlib import Path

from ..cache import cached, content_key
from ..compile import LIBRARY
from ..processes import run_all
from ..processor import processor
from ..progress import announced
from ..sources import source_parts
from ..toolchain import Compiler, find_compiler
from .contract import header

SOURCES = Path(__file__).parent / "cpp"
#: No fused or reordered arithmetic: a result has the contract's bits, whatever the compiler and the processor.
_FLAGS = ("-std=gnu++17", "-O3", "-ffp-contract=off", "-fPIC", "-shared", "-pthread", "-w", "-Wl,-Bsymbolic")


def build_emulator(architecture: str = "native", compiler: Compiler | None = None) -> Path:
    """Compile the emulator, or find it in the cache.

    Parameters
    ----------
    architecture : str
        Which processor's instructions may be used, as the compiler calls it: those of this one, or fewer.
    compiler : Compiler, optional
        In place of the one that is found.

    Returns
    -------
    Path
        The shared object.

    Raises
    ------
    ToolError
        If there is no C++ compiler, or it fails.
    """
    compiler, contract = compiler or find_compiler(), header()
    flags = _flags(architecture, compiler)

    def key() -> str:
        return content_key([*source_parts((SOURCES,), "*"), contract, *flags, *compiler.identity, processor()])

    def make(folder: Path) -> None:
        with announced(f"compiling the emulator with {compiler.name}"):
            compile_emulator(SOURCES, folder / LIBRARY, compiler, architecture)

    return cached("compiled", key, make, what="the emulator") / LIBRARY


def compile_emulator(
    sources: Path, library: Path, compiler: Compiler, architecture: str = "native", level: str = "-O3"
) -> None:
    """Compile the sources of an emulator to a shared object.

    Parameters
    ----------
    sources : Path
        Folder of the C++.
    library : Path
        What is written.
    compiler : Compiler
    architecture, level : str
        Which instructions may be used, and how much is optimised.

    Raises
    ------
    ToolError
        If the compiler fails.
    """
    work = library.parent / "work"
    work.mkdir()
    (work / "contract.h").write_text(header(), encoding="utf-8")
    flags = [*_flags(architecture, compiler), level]
    source = str(sources / "emulator.cpp")
    run_all([[*compiler.command, *flags, "-I.", f"-I{sources}", "-o", f"../{library.name}", source]], work)
    (work / "contract.h").unlink()
    work.rmdir()


def _flags(architecture: str, compiler: Compiler) -> list[str]:
    return [*_FLAGS, f"-march={architecture}", *(() if compiler.is_clang else ("-fno-gnu-unique",))]
