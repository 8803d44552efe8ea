"""JSON files of a checkpoint, whose values are checked when they are asked for."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailrace.spec.errors import ModelError

from ..printable import printable, shortened

#: Bytes of a file at most: the largest tokenizers have 40 MB.
_MAX_BYTES = 1 << 28


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises
    ------
    ModelError
        If it is too long, or no JSON.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise ModelError(f"{path} is corrupt: it has more than {_MAX_BYTES >> 20} MiB. Download it again.")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is corrupt: it is not JSON. Download it again.") from None


class Values:
    """The values of a JSON object; null is as good as no value.

    Parameters
    ----------
    path : Path
        Of the file.
    values : object
        What it holds.
    place : str
        What stands before the names in messages, for an object within the object.

    Raises
    ------
    ModelError
        If it is no object.
    """

    def __init__(self, path: Path, values: Any, place: str = "") -> None:
        if not isinstance(values, dict):
            raise ModelError(
                f"{path} can't be used: {place.rstrip('.') or 'it'} is {_shown(values)}, and an object is expected"
            )
        self.path, self.place = path, place
        self._values: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        self._asked: set[str] = set()

    @classmethod
    def read(cls, path: Path) -> "Values":
        """Those of a file."""
        return cls(path, read_json(path))

    def __contains__(self, name: str) -> bool:
        self._asked.add(name)
        return name in self._values

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`; without a default, it must be there."""
        if name not in self and default is not None:
            return default
        value = self._value(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.unexpected(name, f"a whole number from {low} to {high}")
        return value

    def real(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """A number from `low` to `high`; without a default, it must be there."""
        if name not in self and default is not None:
            return default
        value = self._value(name)
        if not _is_number(value) or not low <= value <= high:
            raise self.unexpected(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        if name not in self:
            return default
        value = self._value(name)
        if not isinstance(value, bool):
            raise self.unexpected(name, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default, it must be there."""
        if name not in self and default is not None:
            return default
        value = self._value(name)
        if not isinstance(value, str):
            raise self.unexpected(name, "a text")
        return value

    def texts(self, name: str, count: int) -> list[str]:
        """An array of so many texts."""
        value = self._value(name)
        if not isinstance(value, list) or len(value) != count or not all(isinstance(item, str) for item in value):
            raise self.unexpected(name, f"an array of {count} texts")
        return value

    def reals(self, name: str, count: int) -> list[float]:
        """An array of so many numbers."""
        value = self._value(name)
        if not isinstance(value, list) or len(value) != count or not all(map(_is_number, value)):
            raise self.unexpected(name, f"an array of {count} numbers")
        return [float(item) for item in value]

    def items(self, name: str) -> list[Any]:
        """An array of anything; empty if there is none."""
        value = self.any(name, [])
        if not isinstance(value, list):
            raise self.unexpected(name, "an array")
        return value

    def inner(self, name: str) -> "Values":
        """An object within the object; empty if there is none."""
        return Values(self.path, self.any(name, {}), f"{self.place}{name}.")

    def any(self, name: str, default: Any = None) -> Any:
        """A value of whatever type."""
        return self._values[name] if name in self else default

    def unasked(self) -> Iterator[tuple[str, Any]]:
        """Values that nobody has asked for."""
        return ((name, value) for name, value in self._values.items() if name not in self._asked)

    def unexpected(self, name: str, expected: str) -> ModelError:
        """What is to be said of a value that is not what was expected."""
        return ModelError(
            f"{self.path} can't be used: {printable(self.place + name)} is {_shown(self._values[name])}, and {expected} is"
            " expected"
        )

    def _value(self, name: str) -> Any:
        if name not in self:
            raise ModelError(f"{self.path} can't be used: it lacks {printable(self.place + name)}")
        return self._values[name]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    return shortened(json.dumps(value, ensure_ascii=False)[:400])
