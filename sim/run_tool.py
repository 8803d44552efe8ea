"""Runs a tool and hands its lines on as they come."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

#: Takes a line of a tool's output.
Listener = Callable[[str], None]


def run_tool(command: Sequence[str], folder: Path, listen: Listener | None = None) -> tuple[int, list[str]]:
    """Run a command to its end; it ends with us, whatever ends us.

    Parameters
    ----------
    command : sequence of str
    folder : Path
        Where it runs.
    listen : callable, optional
        Gets each line of standard output and standard error, without its end.

    Returns
    -------
    int
        Exit code.
    list of str
        All lines.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if listen:
                listen(lines[-1])
        return process.wait(), lines
    finally:
        process.stdout.close()
        if process.poll() is None:
            process.kill()
            process.wait()
