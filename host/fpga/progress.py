"""Shows what tools are doing that take minutes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.text import Text

from ..command.plain_console import PlainConsole

#: Takes a short text on what is being done.
Activity = Callable[[str], None]
#: Seconds between two lines about the same phase, where there is no terminal.
_PAUSE = 30.0


@contextmanager
def shown(what: str) -> Iterator[Activity]:
    """Show on standard error what is being done, and for how long: one changing line, or now and then a new one."""
    console = PlainConsole(stderr=True)
    start = time.monotonic()

    def passed(text: str) -> str:
        return f"{what}: {text}, {time.monotonic() - start:.0f} s"

    if console.is_terminal:
        with console.status(Text(what)) as status:
            yield lambda text: status.update(Text(passed(text)))
        return
    phase, said = "", start

    def say(text: str) -> None:
        nonlocal phase, said
        now, this = time.monotonic(), text.partition(",")[0].partition(":")[0]
        if this != phase or now - said >= _PAUSE:
            phase, said = this, now
            console.print(passed(text), soft_wrap=True)

    yield say
