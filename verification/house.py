"""The rules of the house that no linter knows: floors, names, and documents that keep up with the code.

``python -m verification.house`` prints every breach, one a line, and fails if there is one.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from .packages import ROOT, modules, package_folders
from .testplan import broken_plan

#: Floors that each floor may import. What is not listed does not know the other.
FLOORS: dict[str, set[str]] = {
    "tailrace.spec": set(),
    "tailrace.hdl": {"tailrace.spec"},
    "tailrace.firmware": {"tailrace.spec"},
    "tailrace.golden": {"tailrace.spec"},
    "tailrace.sim": {"tailrace.spec", "tailrace.hdl", "tailrace.firmware", "tailrace.golden"},
    "tailrace": {"tailrace.spec", "tailrace.hdl", "tailrace.firmware", "tailrace.golden", "tailrace.sim"},
}
#: Packages from outside that the lower floors may import; the standard library apart, nothing else.
PACKAGES: dict[str, set[str]] = {
    "tailrace.spec": {"numpy"},
    "tailrace.firmware": {"numpy"},
    "tailrace.golden": {"numpy"},
}
#: The rooms of host/, from the ground up: each may use those before it. What lies at the top of host/ is the API.
ROOMS = (
    "progress", "gguf", "text", "image", "transports", "models", "device", "generation", "huggingface", "API",
    "command", "server", "vllm", "fpga", "export", "litex", "pynq", "cocotb", "doctor", "benchmark", "plan", "evaluation",
)  # fmt: skip
#: Who may look upwards: the program finds its commands, when they are asked for.
DOORS = {"tailrace.__main__", "tailrace.command.cli"}
#: Names of files that say nothing about what is in them.
EMPTY_NAMES = {"misc", "util", "utils", "helper", "helpers", "common", "stuff", "tools"}
#: Folders that are not ours.
FOREIGN = {".git", ".venv", "build", "dist", "shared"}


def floor(module: str) -> str:
    """The floor that a module of `tailrace` belongs to."""
    return max((name for name in FLOORS if module == name or module.startswith(f"{name}.")), key=len)


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str, bool]]:
    """Yield line, absolute name, and whether it was written relative, of each import."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            yield from ((node.lineno, f"{source}.{alias.name}", node.level > 0) for alias in node.names)


def broken_floors(root: Path = ROOT) -> Iterator[str]:
    """Yield imports that go upwards or sideways, circles, and packages that a floor must not need."""
    known = modules(root)
    needs: dict[str, set[str]] = {}
    for module, file in known.items():
        tree, here, place = ast.parse(file.read_text()), floor(module), file.relative_to(root)
        needs[module] = set()
        for line, name, relative in imports(tree, module, file.name == "__init__.py"):
            if name.split(".")[0] != "tailrace":
                outside = PACKAGES.get(here)
                if outside is not None and name.split(".")[0] not in outside | sys.stdlib_module_names:
                    yield f"{place}:{line}: {here} must not need {name.split('.')[0]}"
                continue
            target = name if name in known else name.rpartition(".")[0]
            there = floor(target)
            if there == here:
                needs[module].add(target)
                if not relative:
                    yield f"{place}:{line}: {name} is on the same floor: import it with a dot"
            elif there not in FLOORS[here]:
                yield f"{place}:{line}: {here} must not import {there}"
    for circle in _circles(needs):
        yield f"{known[circle[0]].relative_to(root)}: imports go in a circle: {' > '.join(circle)}"


def _circles(needs: dict[str, set[str]]) -> Iterator[list[str]]:
    """Yield one path for each circle of imports that a walk in depth meets."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> Iterator[list[str]]:
        if module in path:
            yield [*path[path.index(module) :], module]
        elif module not in done:
            for target in sorted(needs.get(module, ())):
                # A package that gathers names from its own modules, and is imported by them for others, is no circle.
                if not module.startswith(f"{target}."):
                    yield from walk(target, [*path, module])
            done.add(module)

    for module in sorted(needs):
        yield from walk(module, [])


def room(module: str, known: dict[str, Path]) -> str:
    """The room of host/ that a module belongs to."""
    parts = module.split(".")
    inside = len(parts) > 2 or (len(parts) == 2 and known[module].name == "__init__.py")
    return parts[1] if inside or parts[1:] == ["progress"] else "API"


def broken_rooms(root: Path = ROOT) -> Iterator[str]:
    """Yield imports within host/ that go upwards, and rooms that nobody has placed."""
    known = modules(root)
    for module, file in known.items():
        if floor(module) != "tailrace" or module in DOORS:
            continue
        place, here = file.relative_to(root), room(module, known)
        if here not in ROOMS:
            yield f"{place}: the room {here} is not in ROOMS of verification/house.py"
            continue
        for line, name, _ in imports(ast.parse(file.read_text()), module, file.name == "__init__.py"):
            target = name if name in known else name.rpartition(".")[0]
            if target not in known or floor(target) != "tailrace":
                continue
            there = room(target, known)
            if there in ROOMS and ROOMS.index(there) > ROOMS.index(here):
                yield f"{place}:{line}: {here} must not import {there}"


def folders_without_init(root: Path = ROOT) -> Iterator[str]:
    """Yield folders with modules that a wheel would lack, because they are no packages."""
    known = modules(root)
    packages = {file.parent for file in known.values() if file.name == "__init__.py"}
    for folder in sorted({file.parent for file in known.values()} - packages):
        yield f"{folder.relative_to(root)}: it has modules and no __init__.py"


def empty_names(root: Path = ROOT) -> Iterator[str]:
    """Yield files whose name does not say what is in them."""
    for file in our_files(root, "*.py"):
        if file.stem in EMPTY_NAMES:
            yield f"{file.relative_to(root)}: name the file after what is in it"


def empty_cases(root: Path = ROOT) -> Iterator[str]:
    """Yield ``m.Case()`` without a pattern, which silently matches nothing in Amaranth 0.5."""
    for file in sorted(package_folders(root)["tailrace.hdl"].rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "Case"
                and not node.args
            ):
                yield f"{file.relative_to(root)}:{node.lineno}: an empty Case() matches nothing: write Default()"


def undocumented_blocks(root: Path = ROOT) -> Iterator[str]:
    """Yield components of the gateware that no page under docs/ names."""
    pages = "\n".join(page.read_text() for page in sorted((root / "docs").rglob("*.md")))
    for file in sorted(package_folders(root)["tailrace.hdl"].rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if (
                isinstance(node, ast.ClassDef)
                and not node.name.startswith("_")
                and any(ast.unparse(base).endswith("Component") for base in node.bases)
                and not re.search(rf"\b{node.name}\b", pages)
            ):
                yield f"{file.relative_to(root)}:{node.lineno}: no page under docs/ says what {node.name} is"


def broken_links(root: Path = ROOT) -> Iterator[str]:
    """Yield links between documents whose file or heading does not exist."""
    for page in our_files(root, "*.md"):
        for number, line in enumerate(_prose(page.read_text()), 1):
            for link in re.findall(r"\]\(([^)\s]+)\)", line):
                if re.match(r"[a-z]+:", link):
                    continue
                path, _, heading = link.partition("#")
                target = (page.parent / path).resolve() if path else page
                if not target.exists():
                    yield f"{page.relative_to(root)}:{number}: {path} does not exist"
                elif heading and target.suffix == ".md" and heading not in _headings(target.read_text()):
                    yield f"{page.relative_to(root)}:{number}: {target.name} has no heading #{heading}"


def unlisted_pages(root: Path = ROOT) -> Iterator[str]:
    """Yield pages under docs/ that no index (a README.md there) leads to."""
    listed = set()
    for index in sorted((root / "docs").rglob("README.md")):
        links = re.findall(r"\]\(([^)#\s]+)", "\n".join(_prose(index.read_text())))
        listed |= {(index.parent / link).resolve() for link in links}
    for page in sorted((root / "docs").rglob("*.md")):
        if page.name != "README.md" and page.resolve() not in listed:
            yield f"{page.relative_to(root)}: no index leads here: link it from docs/README.md"


def _prose(text: str) -> list[str]:
    """Lines of a document, those inside fenced code blocks empty."""
    lines, fenced = [], False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        lines.append("" if fenced or fence else line)
    return lines


def _headings(text: str) -> set[str]:
    """Anchors of a document's headings, made as GitHub makes them."""
    titles = (line.lstrip("#").strip() for line in _prose(text) if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def our_files(root: Path, pattern: str) -> Iterator[Path]:
    """Yield the files of the repository that match a pattern."""
    for folder, inner, files in os.walk(root):
        # Names that are taken out of `inner` are not walked into.
        inner[:] = sorted(set(inner) - FOREIGN)
        yield from (Path(folder, name) for name in sorted(files) if fnmatch(name, pattern))


RULES = (
    broken_floors,
    broken_rooms,
    folders_without_init,
    empty_names,
    empty_cases,
    undocumented_blocks,
    unlisted_pages,
    broken_links,
    broken_plan,
)


def main() -> int:
    """Print every breach of every rule; 1 if there is one."""
    breaches = [breach for rule in RULES for breach in rule()]
    print("\n".join(breaches) if breaches else f"house: {len(RULES)} rules kept in {len(modules())} modules")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
