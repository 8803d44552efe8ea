"""The test plan: which tests show that a requirement is met. The plan itself is testplan.toml beside this file."""

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .packages import ROOT

PLAN = "verification/testplan.toml"


@dataclass(frozen=True)
class Requirement:
    """What the project promises, and the tests that show it.

    Attributes
    ----------
    name : str
    promise : str
    tests : tuple of str
        Files (``verification/unit/x/test_y.py``) or functions in them (``...::test_z``).
    """

    name: str
    promise: str
    tests: tuple[str, ...]


def requirements(root: Path = ROOT) -> list[Requirement]:
    """The requirements of the plan, in its order."""
    plan = tomllib.loads((root / PLAN).read_text())
    return [Requirement(name, entry["promise"], tuple(entry["tests"])) for name, entry in plan.items()]


def broken_plan(root: Path = ROOT) -> Iterator[str]:
    """Yield requirements without tests, tests that do not exist, and test files that no requirement names."""
    named = set()
    for requirement in requirements(root):
        if not requirement.tests:
            yield f"{PLAN}: nothing shows {requirement.name}"
        for test in requirement.tests:
            file, _, function = test.partition("::")
            named.add(file)
            if not (root / file).is_file():
                yield f"{PLAN}: {requirement.name}: {file} does not exist"
            elif function not in {"", *_test_functions(root / file)}:
                yield f"{PLAN}: {requirement.name}: {file} has no {function}"
    for path in sorted((root / "verification").rglob("test_*.py")):
        if str(path.relative_to(root)) not in named:
            yield f"{PLAN}: no requirement names {path.relative_to(root)}"


def _test_functions(file: Path) -> Iterator[str]:
    """Yield the names of a file's tests, those in classes as ``Class::test``."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
            yield from (f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
