"""Run mypy over `tailrace`, which it finds as everybody does: below src/.

The paths in its messages are turned back into those of the files.
"""

import os
import re
import sys

from mypy import api

from .packages import ROOT, package_folders

#: Where the import name begins, relative to the root.
SOURCE = os.path.join("src", "tailrace")


def main() -> int:
    """Check all types; the exit code is mypy's."""
    links = {
        os.path.join(SOURCE, *package.split(".")[1:]): os.path.relpath(folder, ROOT)
        for package, folder in package_folders().items()
    }
    report, errors, code = api.run(["--config-file", str(ROOT / "pyproject.toml")])
    shown = re.compile("|".join(re.escape(link) for link in sorted(links, key=len, reverse=True)))
    print(shown.sub(lambda match: links[match[0]], report), end="")
    print(errors, end="", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
