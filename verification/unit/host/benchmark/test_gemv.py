"""`tailrace bench gemv`: cycles of products."""

import pytest
from click.testing import CliRunner

from tailrace.benchmark.gemv import MATRIX_FORMATS, measure_products
from tailrace.command.cli import main
from tailrace.spec.formats import BY_NAME, FORMATS, I8


def test_formats_are_those_of_matrices() -> None:
    assert set(MATRIX_FORMATS) == set(FORMATS) - {I8}


def test_a_product_takes_its_beats_and_what_any_takes() -> None:
    formats = [BY_NAME[name] for name in ("Q4_K", "Q4_SM16", "Q8_0x3")]
    products = list(measure_products(64, 1024, bus_widths=[128], formats=formats))
    assert [product.format for product in products] == formats
    assert [product.counters.weight_bytes for product in products] == [64 * fmt.row_bytes(1024) for fmt in formats]
    others = {p.counters.cycles - p.format.matrix_beats(64, 32, 1) for p in products}
    assert len(others) == 1
    assert others.pop() < 1000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--columns", "300"], "--columns must be a multiple of 256, not 300"),
        (["--widths", "64"], "--widths knows no '64': choose from 128, 256, 512"),
        (["--formats", "i8"], "--formats knows no 'i8': choose from Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, MXFP4, Q4_K"),
    ],
)
def test_the_command_line_says_no(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(main, ["bench", "gemv", *arguments])
    assert text in " ".join(result.output.split())
    assert result.exit_code == 2
