"""What kind of processor this is: what is compiled here uses all its instructions."""

import platform
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """Its instructions, as a text: part of the key of what is compiled, as a cache may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "") + platform.machine()
