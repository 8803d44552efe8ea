"""Numbers of things, as callers give them."""

import re
from typing import Any

import numpy as np
import pytest

from tailrace.gguf.whole_number import whole_number
from tailrace.spec.errors import ConfigError


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_what_counts(value: Any) -> None:
    found = whole_number("n", value, 1, 3)
    assert (type(found), found) == (int, 3)


@pytest.mark.parametrize("value", [3.0, "3", None, True, np.bool_(True), np.array([3, 4]), [3], 0, 4])
def test_what_does_not(value: Any) -> None:
    text = re.escape(f"n must be a whole number from 1 to 3, not {value!r}")
    with pytest.raises(ConfigError, match=f"^{text}$"):
        whole_number("n", value, 1, 3)


def test_without_limits() -> None:
    assert whole_number("n", -5) == -5
    with pytest.raises(ConfigError, match=r"^n must be a whole number, not 1\.5$"):
        whole_number("n", 1.5)
    with pytest.raises(ConfigError, match="^n must be a whole number of 2 or more, not 1$"):
        whole_number("n", 1, 2)
    with pytest.raises(ConfigError, match="^n must be a whole number, not a list$"):
        whole_number("n", list(range(100)))
