"""Runs compilers, several at a time, and stops them all when one fails or the user does."""

import math
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tailrace.spec.errors import ToolError


def run_all(commands: Sequence[Sequence[str]], folder: Path, environment: dict[str, str] | None = None) -> None:
    """Run commands in `folder`, as many at a time as there are processors, the first ones first.

    Raises
    ------
    ToolError
        If one fails, with the end of what it wrote.
    """
    waiting, processors = list(commands), usable_processors()
    # So that the errors can be told from the rest.
    # Not C alone: a tool that is a Python program in a folder with an umlaut would not even start.
    english = {**(os.environ if environment is None else environment), "LC_ALL": "C.UTF-8"}
    running: dict[int, tuple[subprocess.Popen[bytes], Sequence[str], tempfile._TemporaryFileWrapper[bytes]]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processors:
                command = waiting.pop(0)
                output = tempfile.NamedTemporaryFile(prefix="tailrace-")
                process = subprocess.Popen(
                    command, cwd=folder, env=english, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
                running[process.pid] = process, command, output
            time.sleep(0.01)
            for pid, (process, command, output) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[pid]
                output.seek(0)
                text = output.read().decode(errors="replace")
                output.close()
                if process.returncode:
                    raise ToolError(_failure(command, process.returncode, text))
    finally:
        for process, _, output in running.values():
            process.kill()
            process.wait()
            output.close()


def usable_processors() -> int:
    """Processors that this process may use: less than the machine has, in a container and where somebody has said so."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        count = min(count, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        # Not in a control group, or one without a limit.
        pass
    return max(count, 1)


def _failure(command: Sequence[str], code: int, output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    important = [line for line in lines if "rror" in line] or lines[-5:] or [f"exit code {code}"]
    cause = " (killed: is there enough memory?)" if code == -9 else ""
    if "No space left on device" in output:
        cause = " (the disk is full: free some space, or set TAILRACE_CACHE and TMPDIR to folders on another one)"
    return f"{Path(command[0]).name} failed{cause}: " + "\n  ".join(important[:5])
