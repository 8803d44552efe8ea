"""The option --wave."""

from pathlib import Path

import click
import pytest

from tailrace.command.waveform import WaveFile, parse_wave
from tailrace.spec.errors import ConfigError


def test_waves() -> None:
    assert parse_wave("a.vcd") == (Path("a.vcd"), (0, 10_000))
    assert parse_wave("b:c/a.vcd:0:17") == (Path("b:c/a.vcd"), (0, 17))


@pytest.mark.parametrize("text", ["", "a.vcd:5:5", "a.vcd:6:5", "a.vcd:5", "a.vcd:-1:5", "a.vcd:a:b", ":1:2", "b/"])
def test_bad_waves(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a waveform file with a window of cycles"):
        parse_wave(text)


def test_the_file_is_checked(tmp_path: Path) -> None:
    wave = tmp_path / "a.vcd"
    assert WaveFile().convert(f"{wave}:1:9", None, None) == f"{wave}:1:9"
    assert not wave.exists()
    with pytest.raises(click.BadParameter) as error:
        WaveFile().convert(f"{tmp_path}/none/a.vcd:1:9", None, None)
    assert error.value.message == f"{tmp_path}/none/a.vcd can't be written: No such file or directory"
    with pytest.raises(click.BadParameter, match="is not a waveform file with a window of cycles"):
        WaveFile().convert("a.vcd:9:1", None, None)
