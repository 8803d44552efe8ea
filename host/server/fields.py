"""Fields of a request: read with their types, and none passed over that would have changed the answer."""

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ApiError

_TYPES = {"a text": str, "true or false": bool, "an object": dict, "a list": list}


class Fields:
    """The fields of a request's body.

    A field that is null counts as one that is left out. What has been asked for is known, so that in the end a field that
    nobody asked for can be refused by its name.

    Parameters
    ----------
    body : object
        What the request's JSON says.

    Raises
    ------
    ApiError
        If it is no object.
    """

    def __init__(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise ApiError(400, "the body must be a JSON object")
        self._body = body
        self._known: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self._body.get(name) is not None

    def get(self, name: str) -> Any:
        """A field as it is; None if it was left out."""
        self._known.add(name)
        return self._body.get(name)

    def _typed(self, name: str, what: str) -> Any:
        value = self.get(name)
        if value is not None and not isinstance(value, _TYPES[what]):
            raise wrong(name, f"must be {what}, not {value!r}")
        return value

    def text(self, name: str) -> str | None:
        """A text."""
        value: str | None = self._typed(name, "a text")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false if it was left out."""
        return bool(self._typed(name, "true or false"))

    def table(self, name: str) -> dict[str, Any] | None:
        """An object."""
        value: dict[str, Any] | None = self._typed(name, "an object")
        return value

    def integer(self, name: str, low: int, high: int | None = None) -> int | None:
        """A whole number."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
            where = f"of {low} or more" if high is None else f"from {low} to {high}"
            raise wrong(name, f"must be a whole number {where}, not {value!r}")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise wrong(name, f"must be a number from {low:g} to {high:g}, not {value!r}")
        return float(value)

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """A text or several."""
        value = self.get(name)
        if value is None:
            return ()
        found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else (None,)
        if len(found) > most or not all(isinstance(text, str) and text for text in found):
            raise wrong(name, f"must be a text that is not empty, or a list of up to {most}, not {value!r}")
        return found

    def ignore(self, names: Iterable[str]) -> None:
        """Take fields for known that change no answer."""
        self._known.update(names)

    def refuse(self, unless: Mapping[str, tuple[Any, ...]]) -> None:
        """Refuse fields that are known elsewhere and not supported here, but for values that mean nothing."""
        for name, harmless in unless.items():
            value = self.get(name)
            if value is not None and value not in harmless:
                raise wrong(name, f"of {value!r} is not supported: leave it out", "unsupported_parameter")

    def end(self) -> None:
        """Refuse whatever is left."""
        for name, value in self._body.items():
            if name not in self._known and value is not None:
                raise wrong(name, "is not a field of this request: leave it out", "unknown_parameter")


def wrong(name: str, what: str, code: str = "invalid_value") -> ApiError:
    """The error of a field that is not as it should be."""
    return ApiError(400, f"{name} {what}", param=name, code=code)
