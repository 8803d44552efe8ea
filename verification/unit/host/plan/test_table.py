"""The table of boards and GPUs: the one that comes along, one that a user has edited, and what is wrong in others."""

import re
from pathlib import Path

import pytest

from tailrace.plan.table import SHIPPED, read_table, write_table
from tailrace.spec.errors import ConfigError
from tailrace.transports.sizes import parse_size

TEXT = SHIPPED.read_text(encoding="utf-8")


def test_the_table_that_comes_along() -> None:
    hardware = read_table()
    boards = {board.name: board for board in hardware.boards}
    assert list(boards) == ["ulx3s", "arty", "ecpix5", "kv260", "ypcb-00338", "u250", "u280", "u280-hbm"]
    assert [board.name for board in hardware.boards if board.clock_is == "routed"] == ["ulx3s", "ecpix5"]
    assert boards["u280"].core_bytes == 1 << 30
    assert boards["kv260"].bus_bytes == 64
    assert boards["ulx3s"].guessed == ("watts", "usd")
    assert boards["ulx3s"].rate(6e5) == 100.0
    assert all(parse_size(gpu.memory_size) > 0 for gpu in hardware.gpus)


def test_a_copy_is_read_as_it_is_and_as_it_was_edited(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    write_table(path)
    assert read_table(path) == read_table()
    path.write_text(TEXT.replace('name = "kv260"', 'name = "mine"').replace("clock_mhz = 300.0", "clock_mhz = 250", 1))
    mine = read_table(path).boards[3]
    assert (mine.name, mine.clock_mhz) == ("mine", 250.0)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))} is there already: name another file$"):
        write_table(path)
    assert read_table(path).boards[3] == mine


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('usd = 155\n', 'usd = 155\neur = 140\n', "board 'ulx3s': unknown field 'eur': choose from name, title, build, cores, ports, port_bits, clock_mhz, clock_is, memory, memory_size, memory_gb_s, memory_timing, link_mb_s, watts, usd, source, reads, guessed"),
        ("usd = 155\n", "", "board 'ulx3s': usd is missing"),
        ("usd = 155\n", "usd = -1\n", "board 'ulx3s': usd must be 0 or more, not -1"),
        ("usd = 155\n", "usd = nan\n", "board 'ulx3s': usd must be a number, not nan"),
        ("usd = 155\n", "usd = true\n", "board 'ulx3s': usd must be a number, not True"),
        ("clock_mhz = 60.0", "clock_mhz = 0", "board 'ulx3s': clock_mhz must be above 0, not 0"),
        ("clock_mhz = 60.0", 'clock_mhz = "60"', "board 'ulx3s': clock_mhz must be a number, not '60'"),
        ('clock_is = "routed"', 'clock_is = "sure"', "board 'ulx3s': clock_is must be one of routed, estimated, assumed, not 'sure'"),
        ('title = "ULX3S-85F"', "title = 1", "board 'ulx3s': title must be a text, not 1"),
        ('name = "ulx3s"', "name = 1", "board number 1: name must be a text, not 1"),
        ('name = "arty"', 'name = "ulx3s"', "board 'ulx3s': there is another one of this name"),
        ('build = "base"', 'build = "huge"', "board 'ulx3s': unknown configuration 'huge': choose one of "),
        ("cores = 1\n", "cores = 1.5\n", "board 'ulx3s': cores must be a whole number from 1 on, not 1.5"),
        ("cores = 1\n", "cores = 0\n", "board 'ulx3s': cores must be a whole number from 1 on, not 0"),
        ("port_bits = 128", "port_bits = 256", "board 'ulx3s': 1 x 256 bits of ports are 256, and base takes 128"),
        ('memory_size = "32MiB"', 'memory_size = "much"', "board 'ulx3s': 'much' is not a size of memory: write it like 512MiB or 1GiB"),
        ('memory_timing = "ideal"', 'memory_timing = "ddr5"', "board 'ulx3s': memory_timing must be one of ideal, ddr4, hbm2, ddr3, not 'ddr5'"),
        ('memory_timing = "ideal"', 'memory_timing = "ddr4"', "board 'ulx3s': reads is for memory_timing = 'ideal': what ddr4 leaves is known"),
        ("reads = 0.873", "reads = 1.2", "board 'ulx3s': reads must be above 0 and up to 1 where memory_timing = 'ideal', not 1.2"),
        ('guessed = ["watts", "usd"]', 'guessed = ["clock_mhz"]', "board 'ulx3s': guessed must be a list of watts and usd, not ['clock_mhz']"),
        ("part = 0.5", "part = 1.5", "gpu 'rtx3060': part must be up to 1, not 1.5"),
        ('name = "rtx3060"', 'name = "device"', "gpu 'device': the name is taken: device is what computes prompts without a GPU"),
        ("[[gpu]]\nname", "[[npu]]\nname", "unknown table 'npu': choose [[board]] or [[gpu]]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(before: str, after: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    assert before in TEXT
    path.write_text(TEXT.replace(before, after, 1))
    # A name of a configuration is followed by all of them.
    end = "" if message.endswith("choose one of ") else "$"
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{path}: {message}')}{end}"):
        read_table(path)


def test_what_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    for text, message in (
        ("x = [", f"{path} is not TOML: "),
        ("", f"{path} has no [[board]]: tailrace plan --write-table FILE writes a table to begin with"),
        ("board = 1", f"{path}: board must be written as [[board]], once for each"),
        ("board = [1]", f"{path}: board must be written as [[board]], once for each"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
            read_table(path)
