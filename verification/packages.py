"""Where the import name `tailrace` lives: the folders that pyproject.toml maps into it."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def package_folders(root: Path = ROOT) -> dict[str, Path]:
    """Import names of the mapped packages and their folders, as setuptools is told them."""
    setuptools = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    return {name: root / folder for name, folder in setuptools["package-dir"].items()}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Import names of all modules of `tailrace` and their files."""
    found = {}
    for package, folder in package_folders(root).items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = file
    return found
