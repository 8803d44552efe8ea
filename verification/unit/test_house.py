"""The house is in order, and each of its rules notices when it is not."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from verification import house
from verification.packages import ROOT, modules

PLAN = """
[exact-sums]
promise = "Sums are exact."
limits = "Of two numbers."
tests = ["verification/unit/hdl/test_lane.py::test_sum", "verification/unit/hdl/test_lane.py::TestStalls::test_none"]
"""


@pytest.fixture
def model_house(tmp_path: Path) -> Path:
    """A small repository in which every rule is kept."""
    files = {
        "spec/__init__.py": "",
        "spec/numbers.py": "import struct\nimport numpy as np\n",
        "hdl/__init__.py": "",
        "hdl/lane.py": "from tailrace.spec import numbers\nclass Lane(wiring.Component):\n    pass\n",
        "verification/golden/__init__.py": "",
        "verification/golden/lane.py": "from tailrace.spec.numbers import WIDTH\n",
        "sim/__init__.py": "",
        "sim/device.py": "from tailrace.golden import lane\nfrom tailrace.hdl import lane as gateware\n",
        "host/__init__.py": "",
        "host/driver.py": "from tailrace.sim import device\nfrom .cli import main\n",
        "host/cli.py": "import sys\n",
        "docs/lane.md": "# The Lane\n\nA `Lane` multiplies. See [the numbers](numbers.md#in-short).\n",
        "docs/README.md": "[Lane](lane.md), [numbers](numbers.md#numbers)",
        "docs/numbers.md": "# Numbers\n\n## In short\n",
        "verification/unit/hdl/test_lane.py": "def test_sum(): pass\nclass TestStalls:\n    def test_none(self): pass\n",
        "verification/testplan.toml": PLAN,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for floor, folder in {"spec": "spec", "hdl": "hdl", "golden": "verification/golden", "sim": "sim"}.items():
        (tmp_path / "host" / floor).symlink_to(Path("..") / folder)
    return tmp_path


@pytest.mark.parametrize("rule", house.RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule: Callable[[], Iterator[str]]) -> None:
    assert list(rule()) == []


@pytest.mark.parametrize("rule", house.RULES, ids=lambda rule: rule.__name__)
def test_the_model_house_keeps_the_rule(rule: Callable[[Path], Iterator[str]], model_house: Path) -> None:
    assert list(rule(model_house)) == []


@pytest.mark.parametrize(
    ("file", "text", "breach"),
    [
        ("spec/numbers.py", "from tailrace.hdl import lane", "spec/numbers.py:1: tailrace.spec must not import tailrace.hdl"),
        (
            "hdl/lane.py",
            "\nfrom tailrace.golden.lane import x",
            "hdl/lane.py:2: tailrace.hdl must not import tailrace.golden",
        ),
        (
            "verification/golden/lane.py",
            "def f():\n    import tailrace.hdl.lane",
            "verification/golden/lane.py:2: tailrace.golden must not import tailrace.hdl",
        ),
        ("sim/device.py", "from tailrace.driver import Driver", "sim/device.py:1: tailrace.sim must not import tailrace"),
        ("sim/device.py", "from ..driver import Driver", "sim/device.py:1: tailrace.sim must not import tailrace"),
        ("spec/numbers.py", "import torch.nn", "spec/numbers.py:1: tailrace.spec must not need torch"),
        (
            "host/driver.py",
            "from tailrace.cli import main",
            "host/driver.py:1: tailrace.cli.main is on the same floor: import it with a dot",
        ),
    ],
    ids=["upwards", "sideways", "inside a function", "from above", "from above, with dots", "foreign package", "no dot"],
)
def test_broken_floor(model_house: Path, file: str, text: str, breach: str) -> None:
    (model_house / file).write_text(text)
    assert breach in list(house.broken_floors(model_house))


def test_circle(model_house: Path) -> None:
    (model_house / "host/cli.py").write_text("from . import driver")
    assert list(house.broken_floors(model_house)) == [
        "host/cli.py: imports go in a circle: tailrace.cli > tailrace.driver > tailrace.cli"
    ]


def test_broken_room(model_house: Path) -> None:
    (model_house / "host/gguf").mkdir()
    (model_house / "host/gguf/__init__.py").touch()
    (model_house / "host/gguf/file.py").write_text("\nfrom ..driver import x\nfrom ..progress import Progress\n")
    (model_house / "host/progress.py").touch()
    (model_house / "host/attic").mkdir()
    (model_house / "host/attic/__init__.py").touch()
    assert list(house.broken_rooms(model_house)) == [
        "host/attic/__init__.py: the room attic is not in ROOMS of verification/house.py",
        "host/gguf/file.py:2: gguf must not import API",
    ]


def test_folder_without_init(model_house: Path) -> None:
    (model_house / "hdl/axi").mkdir()
    (model_house / "hdl/axi/lite.py").touch()
    (model_house / "sim/__init__.py").unlink()
    assert list(house.folders_without_init(model_house)) == [
        "hdl/axi: it has modules and no __init__.py",
        "sim: it has modules and no __init__.py",
    ]


def test_empty_name(model_house: Path) -> None:
    (model_house / "sim/utils.py").touch()
    assert list(house.empty_names(model_house)) == ["sim/utils.py: name the file after what is in it"]


def test_empty_case(model_house: Path) -> None:
    (model_house / "hdl/lane.py").write_text("with m.Case(1):\n    pass\nwith m.Case():\n    pass\n")
    assert list(house.empty_cases(model_house)) == ["hdl/lane.py:3: an empty Case() matches nothing: write Default()"]


def test_undocumented_block(model_house: Path) -> None:
    (model_house / "hdl/engine.py").write_text("class _Inner(wiring.Component): pass\nclass Engine(Component): pass\n")
    assert list(house.undocumented_blocks(model_house)) == ["hdl/engine.py:2: no page under docs/ says what Engine is"]


def test_unlisted_page(model_house: Path) -> None:
    (model_house / "docs/README.md").write_text("[Numbers](numbers.md)\n```\n[lane](lane.md)\n```\n")
    assert list(house.unlisted_pages(model_house)) == ["docs/lane.md: no index leads here: link it from docs/README.md"]


def test_broken_links(model_house: Path) -> None:
    (model_house / "docs/lane.md").write_text(
        "[a](gone.md)\n[b](numbers.md#gone)\n```\n[c](code.md)\n```\n[d](https://x.org/y)\n"
    )
    assert list(house.broken_links(model_house)) == [
        "docs/lane.md:1: gone.md does not exist",
        "docs/lane.md:2: numbers.md has no heading #gone",
    ]


def test_broken_plan(model_house: Path) -> None:
    (model_house / "verification/testplan.toml").write_text("""
[exact-sums]
promise = "Sums are exact."
tests = ["verification/unit/hdl/test_sums.py", "verification/unit/hdl/test_lane.py::test_product"]
[speed]
promise = "It is fast"
limits = ""
limit = "Not always."
tests = []
""")
    (model_house / "sim/test_speed.py").touch()
    (model_house / "verification/unit/hdl/test_bus.py").touch()
    assert list(house.broken_plan(model_house)) == [
        "verification/testplan.toml: exact-sums: limits must be a sentence",
        "verification/testplan.toml: speed: unknown 'limit'; an entry has promise, limits, tests",
        "verification/testplan.toml: speed: promise must be a sentence",
        "verification/testplan.toml: speed: limits must be a sentence",
        "verification/testplan.toml: exact-sums: verification/unit/hdl/test_sums.py does not exist",
        "verification/testplan.toml: exact-sums: verification/unit/hdl/test_lane.py has no test_product",
        "verification/testplan.toml: nothing shows speed",
        "verification/testplan.toml: no requirement names verification/unit/hdl/test_bus.py",
    ]


def test_every_module_is_found_below_src() -> None:
    for name, file in modules().items():
        place = ROOT.joinpath("src", *name.split("."))
        assert (place / "__init__.py" if file.name == "__init__.py" else place.with_suffix(".py")).resolve() == file


def test_generated_pages_are_up_to_date() -> None:
    run = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_command_line_starts_without_optional_packages() -> None:
    program = (
        "import sys, tailrace.command.cli; print(*sorted({'torch', 'transformers', 'amaranth', 'pyosys'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""
