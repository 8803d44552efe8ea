"""`tailrace plan`: its output as documented, its files, and what is refused."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tailrace.command.cli import main
from tailrace.plan.table import SHIPPED
from verification.packages import ROOT

#: A wish that every command here takes, with one board.
SMALL = ["shakespeare", "--context", "64", "--prompt", "32", "--board", "kv260"]


def plan(*options: str) -> Result:
    return CliRunner().invoke(main, ["plan", *options])


def documented() -> tuple[list[str], str]:
    """The command of docs/plan.md and its output."""
    found = re.search(r"```\n\$ tailrace plan (.*?)\n(.*?)```", (ROOT / "docs/plan.md").read_text(encoding="utf-8"), re.S)
    assert found
    return found[1].split(), found[2]


@pytest.mark.slow
def test_the_documented_example() -> None:
    options, text = documented()
    result = plan(*options)
    assert result.exit_code == 0
    assert "\n".join(line.rstrip() for line in result.stdout.splitlines()) + "\n" == text


def test_every_line_has_room_in_100_columns() -> None:
    result = plan(*SMALL, "--users", "3", "--what-if")
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert max(map(len, lines)) <= 100
    assert lines[0] == "model: shakespeare.gguf, 0.9 million parameters"
    assert lines[1] == "wish: 3 users, 4 tokens/s each at 64 tokens; prompts of 32, first token within 10 s"
    assert lines[3] == "recommended: 1 x Kria KV260, build kv260, 3 users on a core, 300 assumed MHz"
    assert "what if kv260 had another build" in lines
    assert any(line.startswith("Clocks: assumed (nobody has built it): kv260.") for line in lines)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    result = plan("--write-table", str(path))
    assert result.exit_code == 0
    assert path.read_bytes() == SHIPPED.read_bytes()
    path.write_text(path.read_text().replace("Kria KV260", "my board").replace("clock_mhz = 300.0", "clock_mhz = 240.0", 1))
    assert "1 x my board, build kv260, 1 user on a core, 240 assumed MHz" in plan(*SMALL, "--table", str(path)).stdout
    assert "300 assumed MHz" in plan(*SMALL).stdout
    assert "150 given MHz" in plan(*SMALL, "--clock", "150").stdout
    result = plan("--write-table", str(path))
    assert (result.exit_code, result.output) == (1, f"tailrace: {path} is there already: name another file\n")


def test_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plan.png"
    assert plan(*SMALL, "--plot", str(path)).exit_code == 0
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "Error: Missing argument 'MODEL'."),
        (["shakespeare", "--write-table", "{folder}/t.toml"], 2, "Error: --write-table writes the table and nothing else: leave MODEL out"),
        ([*SMALL, "--prompt", "64"], 2, "Error: --prompt 64 leaves no room for an answer in a context of 64"),
        ([*SMALL, "--tokens-per-pass", "2"], 2, "Error: --tokens-per-pass is for --what-if"),
        ([*SMALL, "--board", "kv26"], 1, "tailrace: there is no board 'kv26' in the table: choose from ulx3s, arty, ecpix5, kv260, ypcb-00338, u250, u280, u280-hbm"),
        ([*SMALL, "--prefill", "cpu"], 1, "tailrace: --prefill 'cpu' is not in the table: choose from device, rtx3060, rtx4090, h200"),
        (["shakespeare", "--table", "{folder}/none.toml"], 1, "tailrace: No such file or directory ({folder}/none.toml)"),
    ],
)  # fmt: skip
def test_what_is_refused(options: list[str], code: int, message: str, tmp_path: Path) -> None:
    result = plan(*(option.format(folder=tmp_path) for option in options))
    assert result.exit_code == code
    assert result.output.splitlines()[-1] == message.format(folder=tmp_path)
