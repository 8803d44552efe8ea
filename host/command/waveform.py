"""The option ``--wave``: a file and a window of cycles."""

import re
from pathlib import Path
from typing import Any

import click

from tailrace.spec.errors import ConfigError

from .output_file import OutputFile

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


class WaveFile(click.ParamType):  # type: ignore[type-arg]
    """``FILE[:FROM:TO]``, with a file that can be written."""

    name = "wave"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the window, and the file by opening it."""
        try:
            path, _ = parse_wave(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        OutputFile().convert(path, param, ctx)
        return str(value)
