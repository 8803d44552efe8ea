"""Mutation testing of the gateware: random small changes, and whether the unit tests notice.

    python -m verification.mutation --seed 1 --count 40

It works on a copy of the tree. A change counts as killed when the test that mirrors its file, or the others of that test's
folder, fail or do not end.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .mutants import Mutant, draw
from .packages import ROOT

#: Files without unit tests of their own; whole programs in Verilator's simulation test them. Boards need LiteX.
LEFT_OUT = ("hdl/core.py", "hdl/datapath.py", "hdl/top.py", "hdl/boards/")
_FAILED, _USAGE_OR_COLLECTION = 1, 2


@dataclass(frozen=True)
class Result:
    """What became of a mutant.

    Attributes
    ----------
    place : str
        File and line.
    difference : str
    killed_by : str
        The tests that noticed; empty if none did.
    """

    place: str
    difference: str
    killed_by: str


def sources(root: Path = ROOT) -> dict[Path, str]:
    """Files of the gateware that are changed, by their path below `root`, and their text."""
    paths = (path.relative_to(root) for path in (root / "hdl").rglob("*.py"))
    return {path: (root / path).read_text() for path in paths if not str(path).startswith(LEFT_OUT) and noticed_by(root, path)}


def noticed_by(root: Path, path: Path) -> list[Path]:
    """What is run for a change of a file: the test that mirrors it, then the others of the folder; paths below `root`."""
    folder = Path("verification/unit") / path.parent
    mirrored = folder / f"test_{path.name}"
    # Tests beside folders of tests, those of hdl/ itself, say nothing of a file that they do not mirror.
    alone = any(p.is_dir() for p in (root / path.parent).iterdir() if p.name != "__pycache__")
    tests = [mirrored] * (root / mirrored).is_file()
    return tests if alone or not (root / folder).is_dir() else [*tests, folder]


@contextmanager
def copied_tree(root: Path) -> Iterator[Path]:
    """A copy of the sources, with its links."""
    with TemporaryDirectory(prefix="tailrace-mutation-") as folder:
        copy = Path(folder, "tree")
        ignored = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache", "*.gguf")
        shutil.copytree(root, copy, symlinks=True, ignore=ignored)
        yield copy


def run_tests(tree: Path, tests: Path, timeout: float) -> bool:
    """Whether the tests pass on the copy."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tree / "src"), str(tree))), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(tests)]
    try:
        run = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return False
    if run.returncode not in (0, _FAILED, _USAGE_OR_COLLECTION):
        raise RuntimeError(f"pytest ended with {run.returncode}:\n{run.stdout}{run.stderr}")
    return run.returncode == 0


class Trial:
    """Tries mutants on a copy of the tree.

    Parameters
    ----------
    tree : Path
        The copy.
    timeout : float
        Seconds after which tests count as failed.
    """

    def __init__(self, tree: Path, timeout: float) -> None:
        self.tree, self.timeout = tree, timeout
        self._passing: set[Path] = set()

    def result(self, path: Path, mutant: Mutant) -> Result:
        """Whether the tests notice a change. The copy is as before afterwards.

        Raises
        ------
        RuntimeError
            If the tests fail without the change.
        """
        file = self.tree / path
        source = file.read_text()
        killed_by = ""
        for tests in noticed_by(self.tree, path):
            self._check(tests)
            try:
                file.write_text(mutant.applied(source))
                passed = run_tests(self.tree, tests, self.timeout)
            finally:
                file.write_text(source)
            if not passed:
                killed_by = str(tests)
                break
        return Result(f"{path}:{mutant.line}", mutant.difference(source), killed_by)

    def _check(self, tests: Path) -> None:
        if tests not in self._passing:
            if not run_tests(self.tree, tests, self.timeout):
                raise RuntimeError(f"{tests} fails, or takes more than {self.timeout:g} s, without a change")
            self._passing.add(tests)


def main() -> None:
    """Draw mutants, try them, and print what became of each."""
    parser = argparse.ArgumentParser(description="Change the gateware at random, and see whether the unit tests notice.")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same changes")
    parser.add_argument("--count", type=int, default=20, help="changes to try")
    parser.add_argument("--only", default="", metavar="TEXT", help="only files with this in their path")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="seconds for a test file or folder")
    arguments = parser.parse_args()
    files = {path: text for path, text in sources().items() if arguments.only in str(path)}
    results = []
    with copied_tree(ROOT) as tree:
        trial = Trial(tree, arguments.timeout)
        for path, mutant in draw(files, arguments.count, arguments.seed):
            result = trial.result(path, mutant)
            results.append(result)
            print(f"{'killed' if result.killed_by else 'SURVIVED'} {result.place} {result.killed_by}", flush=True)
            print(result.difference, flush=True)
    killed = sum(bool(result.killed_by) for result in results)
    print(f"{killed} of {len(results)} killed")


if __name__ == "__main__":
    main()
