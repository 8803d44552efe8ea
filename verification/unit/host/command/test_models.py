"""`tailrace models`: every architecture with its models."""

from click.testing import CliRunner

from tailrace.command.cli import main
from tailrace.command.models import EVERYWHERE
from tailrace.gguf.architectures import ARCHITECTURES


def test_every_architecture_is_listed() -> None:
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 0
    first = [line.split("│")[1].strip() for line in result.stdout.splitlines() if line.startswith("│")]
    assert [name for name in first if name] == list(ARCHITECTURES)
    assert result.stdout.splitlines()[-1] == EVERYWHERE


def test_the_program_names_the_command() -> None:
    assert "models" in CliRunner().invoke(main, ["--help"]).stdout
