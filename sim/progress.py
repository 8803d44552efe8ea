"""Says on standard error what takes long."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Write a line to standard error."""
    print(f"tailrace: {text}", file=sys.stderr, flush=True)


@contextmanager
def announced(what: str) -> Iterator[None]:
    """Say what is being done, and at the end how long it took."""
    start = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(f"{what} (once; then it is cached)"):
            yield
    else:
        say(f"{what} (once; then it is cached)")
        yield
    say(f"{what}: {time.monotonic() - start:.1f} s")
