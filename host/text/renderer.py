"""The process that renders chat templates: started when it is needed, kept for the next one, stopped where a limit is met."""

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

_PROGRAM = Path(__file__).with_name("render.py")


class StoppedError(Exception):
    """The process has no answer: why."""


class Renderer:
    """One process for all threads, which take turns; after a fork each process has its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        atexit.register(self._stop)

    def ask(self, request: dict[str, Any], cpu_seconds: int, seconds: float) -> dict[str, str]:
        """The answer to a request, see ``render.py``.

        Parameters
        ----------
        request : dict
            What JSON can hold.
        cpu_seconds : int
            Processor time after which the process is stopped.
        seconds : float
            Time after which it is.

        Raises
        ------
        StoppedError
            If it is stopped, or ends.
        """
        data = json.dumps({**request, "seconds": cpu_seconds}).encode() + b"\n"
        with self._lock:
            # One that was kept may have been ended by somebody else since: then a new one is asked.
            for kept in (self._process is not None, False):
                answer, code = self._asked(data, seconds)
                if answer is not None:
                    return answer
                if code == -signal.SIGXCPU:
                    raise StoppedError(f"it took more than {cpu_seconds} seconds of processor time")
                if not kept:
                    break
        raise StoppedError(f"its process ended with {code}")

    def _asked(self, data: bytes, seconds: float) -> tuple[dict[str, str] | None, int]:
        """The process's answer, or its exit code."""
        try:
            process = self._running()
            line = _exchange(process, data, time.monotonic() + seconds)
        except BaseException:
            self._stop()
            raise
        answer = None if line is None else json.loads(line)
        code = process.wait() if answer is None else 0
        if answer is None or "limit" in answer:
            self._stop()
        return answer, code

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            # Isolated, and without the site's start-up files: it finds its modules where this one does.
            command = [sys.executable, "-I", "-S", "-X", "utf8", str(_PROGRAM), json.dumps(sys.path)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
            self._owner = os.getpid()
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()


def _exchange(process: subprocess.Popen[bytes], data: bytes, deadline: float) -> bytes | None:
    """Send a line, and wait for one; None: the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    writer, reader, answer = process.stdin.fileno(), process.stdout.fileno(), b""
    os.set_blocking(writer, False)
    with selectors.DefaultSelector() as waiting:
        waiting.register(reader, selectors.EVENT_READ)
        waiting.register(writer, selectors.EVENT_WRITE)
        while not answer.endswith(b"\n"):
            ready = waiting.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise StoppedError("it ran for too long")
            for key, _ in ready:
                if key.fd == reader:
                    if not (more := os.read(reader, 1 << 16)):
                        return None
                    answer += more
                    continue
                try:
                    data = data[os.write(writer, data) :]
                except BrokenPipeError:
                    data = b""
                if not data:
                    waiting.unregister(writer)
    return answer
