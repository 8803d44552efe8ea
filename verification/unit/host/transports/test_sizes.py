"""Sizes of memory."""

import pytest

from tailrace.spec.errors import ConfigError
from tailrace.transports.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GiB", 1 << 30), ("512 MiB", 1 << 29), ("64K", 1 << 16), ("100", 64), ("2gb", 1 << 31), ("98304B", 98304)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "63", "-1G", "1.5G", "G", "1X", "lots"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size of memory: write it like 512MiB or 1GiB$"):
        parse_size(text)
