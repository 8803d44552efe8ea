"""A console that shows text as it is: names from files and paths are neither markup nor commands for the terminal."""

from typing import Any

from rich.console import Console
from rich.text import Text

from ..gguf.printable import printable_lines


class PlainConsole(Console):
    """A console of `rich` for which a string is a string, wherever it is: printed, in a cell of a table, or in its title.

    Parameters
    ----------
    options
        Those of `Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Text with what is not printable escaped; `options`: those of the base class, of which styles are obeyed."""
        return super().render_str(printable_lines(text), **{**options, "markup": False, "emoji": False, "highlight": False})
