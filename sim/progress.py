"""Says on standard error what takes long."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def announced(what: str) -> Iterator[None]:
    """Say what is being done, and at the end how long it took."""
    start = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(f"{what} (once; then it is cached)"):
            yield
    else:
        print(f"tailrace: {what} (once; then it is cached)", file=sys.stderr, flush=True)
        yield
    print(f"tailrace: {what}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
