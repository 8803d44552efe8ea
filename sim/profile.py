"""What a compiler is told about how a simulation runs: it is compiled to count, run for a while, and compiled anew.

GCC and Clang place what runs often side by side, and lay branches out by what is the rule (profile-guided optimisation).
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tailrace.spec.errors import ToolError

from .processes import run_all
from .toolchain import Compiler

#: Runs the simulation in a shared object, in a process of its own with these further variables of the environment. Counts are
#: written when that process ends.
Training = Callable[[Path, Mapping[str, str]], None]

_RAW, _MERGED = "counts.profraw", "counts.profdata"


class Profile:
    """The counts of one simulation.

    Parameters
    ----------
    compiler : Compiler
    folder : Path
        Where it compiles, before and after; its object files must have the same names both times.

    Attributes
    ----------
    counting, using : tuple of str
        Flags of the compiler, and of the linker, for what counts and for what uses the counts.
    """

    def __init__(self, compiler: Compiler, folder: Path) -> None:
        self._compiler, self._folder = compiler, folder
        self.counting: tuple[str, ...] = ("-fprofile-generate",)
        self.using: tuple[str, ...] = ("-fprofile-use", "-fprofile-correction")
        if compiler.is_clang:
            self.counting, self.using = ("-fprofile-instr-generate",), (f"-fprofile-instr-use={_MERGED}",)

    def take(self, library: Path, train: Training) -> None:
        """Run what counts.

        Parameters
        ----------
        library : Path
            What was compiled with `counting`.
        train : Training

        Raises
        ------
        ToolError
            If it did not run, or nothing was counted.
        """
        train(library, {"LLVM_PROFILE_FILE": str(self._folder / _RAW)})
        if not any(self._folder.glob(_RAW if self._compiler.is_clang else "*.gcda")):
            raise ToolError(f"{self._compiler.name} counted nothing in the simulation that was to be optimised: leave that out")
        if self._compiler.is_clang:
            run_all([[_merger(self._compiler), "merge", "-o", _MERGED, _RAW]], self._folder)


def _merger(compiler: Compiler) -> str:
    """Clang's tool for counts: beside it, or with its number."""
    command = shutil.which(compiler.command[-1])
    folders = [Path(command).parent, Path(command).resolve().parent] if command else []
    number = re.search(r"version (\d+)", compiler.version)
    names = ["llvm-profdata", *([f"llvm-profdata-{number[1]}"] if number else [])]
    for name in (*(str(folder / names[0]) for folder in folders), *reversed(names)):
        if found := shutil.which(name):
            return found
    raise ToolError(
        f"to optimise a simulation, {compiler.name} needs {names[-1]}: install it (on Debian and Ubuntu: apt install llvm), or"
        " take g++ by CXX=g++"
    )
