"""A server in a process of its own, and what can be seen of it from outside."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Seconds for what takes a moment; a machine may have other things to do.
PATIENCE = 120.0


@dataclass
class Served:
    """A server that runs.

    Attributes
    ----------
    process : Popen
    host : str
        Host and port.
    orders : Path
        See `failing_serve`.
    """

    process: "subprocess.Popen[bytes]"
    host: str
    orders: Path
    _failures: int = 0
    _seconds: float = 0.0

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Status, and the JSON or the text of an answer."""
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        try:
            connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
            return response.status, json.loads(text) if "json" in response.headers["content-type"] else text
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """The figures of ``/metrics`` that have no labels but the model's, by their names."""
        text = self.ask("/metrics")[1]
        return {
            name: float(value) for name, value in re.findall(r"^([\w:]+)\{model_name=\"[^\"]*\"\} (\S+)$", text, re.MULTILINE)
        }

    def wait_until_idle(self) -> dict[str, float]:
        """Wait until nothing is computed any more; returns the figures of then."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.metrics()
            if not found["vllm:num_requests_running"] and not found["vllm:num_requests_waiting"]:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server is still at work after {PATIENCE:g} s")
            time.sleep(0.02)

    def fail_next_step(self) -> None:
        """Have the next step of the device end with an error."""
        self._failures += 1
        self._order()

    def turn_slow(self, seconds: float) -> None:
        """Have each step take so many seconds more."""
        self._seconds = seconds
        self._order()

    def _order(self) -> None:
        # In one step: the server may read it at any time.
        new = self.orders.with_suffix(".new")
        new.write_text(f"{self._failures} {self._seconds}")
        new.replace(self.orders)

    @property
    def memory(self) -> int:
        """Bytes of memory that the process has in use."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) << 10  # type: ignore[index]

    @property
    def handles(self) -> int:
        """Files and sockets that the process has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def threads(self) -> int:
        """Threads of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


@contextmanager
def serve(model: str, log: Path, *arguments: str) -> Iterator[Served]:
    """Start ``tailrace serve`` on an emulator that can be made to fail; it is killed at the end if it still runs.

    Parameters
    ----------
    model : str
    log : Path
        Gets what the server says.
    *arguments
        More of them for ``tailrace serve``.
    """
    orders = log.with_suffix(".orders")
    orders.write_text("0 0")
    program = [sys.executable, "-m", "verification.load.failing_serve", str(orders)]
    command = [*program, "serve", model, "--port", "0", *arguments]
    with log.open("w") as said, subprocess.Popen(command, stderr=said) as process:
        try:
            while not (found := re.search(r"at (http://\S+)/v1;", log.read_text())):
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with {process.returncode} before it answered: see {log}")
                time.sleep(0.05)
            yield Served(process, urlsplit(found[1]).netloc, orders)
        finally:
            process.kill()
            orders.unlink()
