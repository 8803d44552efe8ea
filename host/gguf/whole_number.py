"""Whole numbers as callers give them: Python's, numpy's, tensors with one of them."""

from operator import index

from tailrace.spec.errors import ConfigError

from .printable import shown


def whole_number(name: str, value: object, low: int | None = None, high: int | None = None) -> int:
    """A whole number as Python's, which does not overflow.

    Parameters
    ----------
    name : str
        Of the caller's parameter.
    value : object
    low, high : int or None
        Where it must lie, if it must.

    Raises
    ------
    ConfigError
        If it is not one, or lies elsewhere.
    """
    try:
        # A truth value is no number of things.
        number = None if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or (low is not None and number < low) or (high is not None and number > high):
        where = "" if low is None else f" of {low} or more" if high is None else f" from {low} to {high}"
        raise ConfigError(f"{name} must be a whole number{where}, not {shown(value)}")
    return number
