"""Stop strings: where an answer ends, wherever the borders of its tokens are."""

from collections.abc import Sequence

from tailrace.spec.errors import ConfigError


class StopStrings:
    """Looks for strings in text that comes bit by bit, and holds back what may yet become one.

    Of several, the one that is complete first counts; of those that are complete at once, the one that began first.

    Parameters
    ----------
    strings : sequence of str

    Attributes
    ----------
    found : str or None
        The one that was found.

    Raises
    ------
    ConfigError
        If one is empty, or no string.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        for string in strings:
            if not isinstance(string, str) or not string or not _is_unicode(string):
                raise ConfigError(f"a stop string must be some text, not {string!r}")
        self._strings = tuple(strings)
        self._held = ""
        self.found: str | None = None

    def put(self, text: str) -> str:
        """Take the next bit; returns what is certainly not part of a stop string. Nothing follows once one is found."""
        if self.found is not None:
            return ""
        text = self._held + text
        places = [(at + len(string), at, string) for string in self._strings if (at := text.find(string)) >= 0]
        if places:
            _, at, self.found = min(places)
            self._held = ""
            return text[:at]
        held = max((_overlap(text, string) for string in self._strings), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def end(self) -> str:
        """What is held back, now that nothing follows."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, string: str) -> int:
    """Characters at the end of a text that a string begins with."""
    return next((n for n in range(min(len(text), len(string) - 1), 0, -1) if text.endswith(string[:n])), 0)


def _is_unicode(text: str) -> bool:
    """Whether it has no halves of characters, which no answer ever has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
