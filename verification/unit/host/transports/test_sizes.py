"""Sizes and waveform windows."""

from pathlib import Path

import pytest

from tailrace.spec.errors import ConfigError
from tailrace.transports.sizes import parse_size, parse_wave


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


def test_waves() -> None:
    assert parse_wave("a.vcd") == (Path("a.vcd"), (0, 10_000))
    assert parse_wave("b:c/a.vcd:0:17") == (Path("b:c/a.vcd"), (0, 17))


@pytest.mark.parametrize("text", ["", "a.vcd:5:5", "a.vcd:6:5", "a.vcd:5", "a.vcd:-1:5", "a.vcd:a:b", ":1:2", "b/"])
def test_bad_waves(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a waveform file with a window of cycles"):
        parse_wave(text)
