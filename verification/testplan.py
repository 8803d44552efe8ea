"""The test plan: which tests show that a requirement is met. The plan itself is testplan.toml beside this file."""

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .packages import ROOT

PLAN = "verification/testplan.toml"
_KEYS = ("promise", "limits", "tests")


@dataclass(frozen=True)
class Requirement:
    """What the project promises, and the tests that show it.

    Attributes
    ----------
    name : str
    promise : str
        No more than its tests show.
    tests : tuple of str
        Files (``verification/unit/x/test_y.py``) or functions in them (``...::test_z``).
    limits : str
        What the promise could be taken for, and the tests do not show.
    """

    name: str
    promise: str
    tests: tuple[str, ...]
    limits: str


def requirements(root: Path = ROOT) -> list[Requirement]:
    """The requirements of the plan, in its order."""
    plan = tomllib.loads((root / PLAN).read_text())
    return [
        Requirement(name, entry.get("promise", ""), tuple(entry.get("tests", ())), entry.get("limits", ""))
        for name, entry in plan.items()
    ]


def broken_plan(root: Path = ROOT) -> Iterator[str]:
    """Yield entries of another form, requirements without tests, missing tests, and test files that no requirement names."""
    yield from _malformed(root)
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


def _malformed(root: Path) -> Iterator[str]:
    for name, entry in tomllib.loads((root / PLAN).read_text()).items():
        for key in sorted(entry.keys() - _KEYS):
            yield f"{PLAN}: {name}: unknown {key!r}; an entry has {', '.join(_KEYS)}"
        for key in ("promise", "limits"):
            text = entry.get(key, "")
            if not isinstance(text, str) or not text.endswith("."):
                yield f"{PLAN}: {name}: {key} must be a sentence"


def _test_functions(file: Path) -> Iterator[str]:
    """Yield the names of a file's tests, those in classes as ``Class::test``."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
            yield from (f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
