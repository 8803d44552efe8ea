"""Runs Verilator, and writes the paths in its makefiles as make reads them.

Verilator 5 writes bytes beyond ASCII as octal escapes, also into makefiles, where they mean nothing: in a folder with an umlaut nothing
can be made of its output. ``python octal_paths.py VERILATOR ARGUMENTS...``
"""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

_ESCAPE = re.compile(rb"\\([23][0-7]{2})")


def plain(makefile: bytes) -> bytes:
    """A makefile with the bytes themselves."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), makefile)


if __name__ == "__main__":
    done = subprocess.run(sys.argv[1:], check=False)
    places = [Path(folder) for option, folder in pairwise(sys.argv) if option in ("-Mdir", "--Mdir")]
    for path in (path for place in places for path in place.glob("*.mk")):
        path.write_bytes(plain(path.read_bytes()))
    sys.exit(done.returncode)
