"""Where the import name `tailrace` lives: host/, and the floors that links in there lead to."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def package_folders(root: Path = ROOT) -> dict[str, Path]:
    """Import names of the floors and their folders."""
    host = root / "host"
    floors = sorted(entry for entry in host.iterdir() if entry.is_symlink() and entry.is_dir())
    return {"tailrace": host, **{f"tailrace.{link.name}": link.resolve() for link in floors}}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Import names of all modules of `tailrace` and their files."""
    found = {}
    for package, folder in package_folders(root).items():
        # Links are not walked into: each floor is walked on its own.
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = file
    return found
