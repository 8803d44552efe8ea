"""Small changes of the gateware's source, of the kind that a slip of the hand makes."""

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_Place = Callable[[ast.expr], int]
#: An operator, and what it is mistaken for.
OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
}


@dataclass(frozen=True)
class Mutant:
    """One change of a source file.

    Attributes
    ----------
    start, end : int
        What is replaced, in characters of the file.
    new : str
        What stands there then.
    line : int
        Line of the change, from 1.
    """

    start: int
    end: int
    new: str
    line: int

    def applied(self, source: str) -> str:
        """The file with the change."""
        return source[: self.start] + self.new + source[self.end :]

    def difference(self, source: str) -> str:
        """The changed lines, as ``-`` and ``+``."""
        before, after = source.splitlines(), self.applied(source).splitlines()
        changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
        return "\n".join(f"    - {a.strip()}\n    + {b.strip()}" for a, b in changed)


def mutants(source: str) -> list[Mutant]:
    """All changes of a file's logic: of operators, constants and assigned values in functions that describe gateware.

    Such functions are `elaborate` and those that are given the module, `m`. Shapes of signals stay as they are.

    Parameters
    ----------
    source : str

    Returns
    -------
    list of Mutant
        In the order of the file.
    """
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def begin(node: ast.expr) -> int:
        return lines[node.lineno - 1] + _characters(source, lines, node.lineno, node.col_offset)

    def end(node: ast.expr) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return lines[node.end_lineno - 1] + _characters(source, lines, node.end_lineno, node.end_col_offset)

    found = set()
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and (
            function.name == "elaborate" or any(argument.arg == "m" for argument in function.args.args)
        ):
            for statement in function.body:
                for node in _logic(statement):
                    found.update(_changes(source, node, begin, end))
    return sorted(found, key=lambda mutant: (mutant.start, mutant.end, mutant.new))


def _characters(source: str, lines: list[int], line: int, column: int) -> int:
    """Characters before a column, which the parser counts in bytes."""
    return len(source[lines[line - 1] : lines[line]].encode()[:column].decode())


def _logic(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node and those below it, but for shapes and names of signals, messages and functions within."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Signal", "range"):
        return
    if isinstance(node, ast.Raise | ast.Assert | ast.FunctionDef | ast.JoinedStr):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _logic(child)


def _changes(source: str, node: ast.AST, begin: _Place, end: _Place) -> Iterator[Mutant]:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield from _operator(source, node.op, node.lineno, end(node.left), begin(node.right))
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OPERATORS:
        yield from _operator(source, node.ops[0], node.lineno, end(node.left), begin(node.comparators[0]))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        yield Mutant(begin(node), begin(node) + 1, "", node.lineno)
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        for value in {node.value + 1, node.value ^ 1} - {node.value}:
            yield Mutant(begin(node), end(node), str(value), node.lineno)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "eq" and len(node.args) == 1:
        value = node.args[0]
        text = source[begin(value) : end(value)]
        if "\n" not in text and not isinstance(value, ast.Constant):
            yield Mutant(begin(value), end(value), f"~({text})", node.lineno)


def _operator(source: str, operator: ast.AST, line: int, start: int, stop: int) -> Iterator[Mutant]:
    old, new = OPERATORS[type(operator)]
    at = source.find(old, start, stop)
    if at >= 0 and "#" not in source[start:at]:
        yield Mutant(at, at + len(old), new, line + source.count("\n", start, at))


def draw(sources: dict[Path, str], count: int, seed: int) -> list[tuple[Path, Mutant]]:
    """Draw changes, each file as often as its share of them all.

    Parameters
    ----------
    sources : dict of Path to str
    count : int
        How many; fewer if there are not as many.
    seed : int
        The same seed draws the same changes of the same sources.
    """
    everything = [(path, mutant) for path in sorted(sources) for mutant in mutants(sources[path])]
    return random.Random(seed).sample(everything, min(count, len(everything)))
