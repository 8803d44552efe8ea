"""Sizes and waveform windows as a user writes them."""

import re
from pathlib import Path

from tailrace.spec.errors import ConfigError
from tailrace.spec.vector import ALIGNMENT

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


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


#: Window of a waveform when none is asked for: a whole token takes tens of gigabytes.
WAVE_WINDOW = (0, 10_000)


def parse_wave(text: str) -> tuple[Path, tuple[int, int]]:
    """File and window of cycles of ``FILE`` or ``FILE:FROM:TO``; without a window `WAVE_WINDOW`.

    Raises
    ------
    ConfigError
        If there is no file, or the window is empty or not two cycles.
    """
    # A file has no colon in its name here: a window with a slip in it must not become one.
    match = re.fullmatch(r"((?:.*/)?[^/:]+)(?::(\d+):(\d+))?", text)
    window = (int(match[2]), int(match[3])) if match and match[2] else WAVE_WINDOW
    if not match or window[0] >= window[1]:
        raise ConfigError(
            f"{text!r} is not a waveform file with a window of cycles: write it like wave.vcd or wave.vcd:1000:2000"
        )
    return Path(match[1]), window
