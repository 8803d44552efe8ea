"""The program ``tailrace``, also as ``python -m tailrace``."""

import io
import os
import signal
import sys
import warnings
from types import FrameType


def main() -> None:
    """Run the command line; what a terminal can do to it at any moment ends in an exit code, not in a traceback."""
    # A stream that the caller has closed is None; what is written to it has nowhere to go.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    # A terminal that can't show a character shows a question mark; a text is no reason to stop.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # A line that is not in the terminal's encoding is refused where it is used.
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    # What a library says of its callers' code is, of a command, a line for its user.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from .command.cli import main as commands
    except KeyboardInterrupt:
        sys.exit(130)
    commands(prog_name="tailrace")


def _terminate(number: int, frame: FrameType | None) -> None:
    # As an exception, so that half-written files are removed on the way out.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
