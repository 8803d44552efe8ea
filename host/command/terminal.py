"""What the user sees: progress and tables on standard error, and nothing but text on standard output."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.cells import cell_len
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from ..gguf.printable import printable
from .plain_console import PlainConsole


class Terminal:
    """Standard error for people, standard output for the generated text.

    Parameters
    ----------
    quiet : bool
        Show no progress and no tables.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = PlainConsole(file=sys.stderr, quiet=quiet)
        self._live: Live | None = None
        self._shared = sys.stdout.isatty() and self.console.is_terminal
        self._column = 0
        self._below = ""

    @contextmanager
    def phase(self, what: str) -> Iterator[None]:
        """Show that something is going on; where there is no terminal, print it once."""
        if not self.console.is_terminal:
            self.console.print(f"{what} …")
            yield
            return
        # Standard output is not rich's business: it may be a file.
        with Live(
            _spinner(f"{what} …"), console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as self._live:
            yield
        self._live = None

    def progress(self, what: str, done: float) -> None:
        """Show how much of the current phase is done, 0 to 1."""
        if self._live is not None:
            self._live.update(_spinner(f"{what} … {done:4.0%}"))

    def write(self, text: str) -> None:
        """Write generated text to standard output."""
        if not text:
            return
        self.note("")
        sys.stdout.write(text)
        sys.stdout.flush()
        self._column = cell_len(text.rpartition("\n")[2]) + (0 if "\n" in text else self._column)

    def warn(self, text: str) -> None:
        """Show what may make answers worse, also where the rest is not to be shown."""
        PlainConsole(file=sys.stderr).print(f"warning: {text}", soft_wrap=True)

    def complain(self, text: str) -> None:
        """Say why something was not done, also where the rest is not to be shown."""
        PlainConsole(file=sys.stderr).print(text, style="dim", markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Show one line about the current token, below the text; an empty one takes it away."""
        if not self.console.is_terminal or self.console.quiet:
            return
        if not self._shared:
            if self._live is not None and text:
                self._live.update(_spinner(text), refresh=True)
            return
        text, width = printable(text), self.console.width
        column = self._column % width
        if text == self._below or (column == 0 and self._column):
            return  # At the right margin it depends on the terminal where the cursor is.
        # One line down (scrolling if need be), write, and back to where the text goes on.
        back = "\r" + (f"\x1b[{column}C" if column else "")
        self.console.file.write(f"\n\x1b[2K\x1b[2m{text[: width - 1]}\x1b[0m\x1b[1A{back}")
        self.console.file.flush()
        self._below = text

    def end_line(self, text: str) -> None:
        """End the line of a text that was written, if it has not ended by itself."""
        if text and not text.endswith("\n"):
            self.write("\n")

    def remark(self, text: str) -> None:
        """Say something that is not part of the text, on lines of its own."""
        self.console.print(text, style="dim", markup=False, soft_wrap=True)

    def note_step(self, count: int, total: int, cycles: int, clock: float | None, seconds: float) -> None:
        """Show how fast tokens come: `count` of `total` after `seconds`, each in `cycles` (0: unknown) at `clock` MHz."""
        speed = f"{cycles:,} cycles, " if cycles else ""
        if cycles and clock:
            speed += f"{clock * 1e6 / cycles:.2f} tokens/s at {clock:g} MHz, "
        self.note(f"token {count} of {total}: {speed}{seconds / count:.1f} s each here")

    @contextmanager
    def generation(self) -> Iterator[None]:
        """While this is open, text is written, and notes are about it."""
        self._column = 0
        if self._shared or not self.console.is_terminal:
            try:
                yield
            finally:
                self.note("")
        else:
            with self.phase("decoding"):
                yield


def _spinner(text: str) -> Spinner:
    # A string would be taken for markup.
    return Spinner("dots", Text(printable(text)))
