"""Run mypy over `tailrace`.

The import name is put together from several folders, which mypy can't see. So a tree of links shows it them as one
package, and the paths in its messages are turned back into those of the files.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from mypy import api

from .packages import ROOT, package_folders

TREE = ROOT / "build" / "house"


def link_tree(tree: Path, root: Path = ROOT) -> dict[str, str]:
    """Lay the packages out as one tree of links.

    Returns
    -------
    dict of str to str
        For each link, as mypy prints it, the path of what it leads to; both relative to `root`.
    """
    shutil.rmtree(tree, ignore_errors=True)
    links = {}
    folders = package_folders(root)
    for package, folder in folders.items():
        place = tree.joinpath(*package.split("."))
        # A package that holds another mapped one can't be a link itself: its entries are.
        outer = any(other.startswith(f"{package}.") for other in folders)
        for link, target in [(place / entry.name, entry) for entry in folder.iterdir()] if outer else [(place, folder)]:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
            links[os.path.relpath(link, root)] = os.path.relpath(target, root)
    return links


def main() -> int:
    """Check all types; the exit code is mypy's."""
    links = link_tree(TREE)
    report, errors, code = api.run(["--config-file", str(ROOT / "pyproject.toml")])
    shown = re.compile("|".join(re.escape(link) for link in sorted(links, key=len, reverse=True)))
    print(shown.sub(lambda match: links[match[0]], report), end="")
    print(errors, end="", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
