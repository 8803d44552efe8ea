"""Numbers of options."""

import click
import pytest

from tailrace.command.finite_range import FiniteRange


def test_numbers_that_are_none_are_in_no_range() -> None:
    kind = FiniteRange(min=0, min_open=True)
    assert kind.convert("1e300", None, None) == 1e300
    for text, reason in (
        ("nan", "nan is not a finite number"),
        ("inf", "inf is not a finite number"),
        ("-inf", "-inf is not in the range x>0."),
        ("0", "0.0 is not in the range x>0."),
    ):
        with pytest.raises(click.BadParameter) as error:
            kind.convert(text, None, None)
        assert error.value.message == reason
