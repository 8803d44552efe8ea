"""Sizes of memory as a user writes them."""

import re

from tailrace.spec.errors import ConfigError
from tailrace.spec.vector import ALIGNMENT

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def format_size(size: int) -> str:
    """A size as `parse_size` reads it, in the largest unit that it is a multiple of."""
    unit = next(u for u in reversed(_UNITS) if size % _UNITS[u] == 0)
    return f"{size // _UNITS[unit]}{unit}{'iB' if unit else ''}"


def parse_size(text: str) -> int:
    """Bytes of a size such as ``512MiB``, ``1G`` or ``98304``, rounded down to a multiple of 64.

    Raises
    ------
    ConfigError
        If it is not a size.
    """
    match = re.fullmatch(r"(\d+) ?([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(match[1]) * _UNITS[match[2].upper()] // ALIGNMENT * ALIGNMENT if match else 0
    if size == 0:
        raise ConfigError(f"{text!r} is not a size of memory: write it like 512MiB or 1GiB")
    return size
