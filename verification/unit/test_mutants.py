import ast
from pathlib import Path

from verification.mutants import OPERATORS, Mutant, draw, mutants

SOURCE = '''"""A part (a + b)."""

LIMIT = 3


class Part:
    def __init__(self, width: int = 4) -> None:
        self.width = width + 1

    def elaborate(self, platform):
        m = Module()
        é, b = Signal(4), Signal(range(8 + 1))
        m.d.comb += self.o.eq(~é & (b << 2))
        with m.If(b == 5):
            m.d.sync += b.eq(0)
        return m

    def _rest(self, m):
        raise ValueError(1 + 1)
'''


def test_operators_constants_and_assignments_change_and_nothing_else() -> None:
    assert [mutant.difference(SOURCE) for mutant in mutants(SOURCE)] == [
        f"    - {old}\n    + {new}"
        for old, new in (
            ("m.d.comb += self.o.eq(~é & (b << 2))", "m.d.comb += self.o.eq(é & (b << 2))"),
            ("m.d.comb += self.o.eq(~é & (b << 2))", "m.d.comb += self.o.eq(~(~é & (b << 2)))"),
            ("m.d.comb += self.o.eq(~é & (b << 2))", "m.d.comb += self.o.eq(~é | (b << 2))"),
            ("m.d.comb += self.o.eq(~é & (b << 2))", "m.d.comb += self.o.eq(~é & (b >> 2))"),
            ("m.d.comb += self.o.eq(~é & (b << 2))", "m.d.comb += self.o.eq(~é & (b << 3))"),
            ("with m.If(b == 5):", "with m.If(b != 5):"),
            ("with m.If(b == 5):", "with m.If(b == 4):"),
            ("with m.If(b == 5):", "with m.If(b == 6):"),
            ("m.d.sync += b.eq(0)", "m.d.sync += b.eq(1)"),
        )
    ]


def test_every_operator_is_mistaken_for_another() -> None:
    for operator, (old, new) in OPERATORS.items():
        source = f"def elaborate(self, platform):\n    return a {old} b\n"
        found = {mutant.applied(source) for mutant in mutants(source)}
        assert found == {source.replace(f" {old} ", f" {new} ")}, operator


def test_every_change_of_the_gateware_is_python() -> None:
    for path in sorted(Path(__file__).parents[2].glob("hdl/*/[a-f]*.py")):
        source = path.read_text()
        for mutant in mutants(source)[::7]:
            ast.parse(mutant.applied(source))
            assert mutant.difference(source)


def test_the_seed_draws() -> None:
    sources = {Path("a.py"): SOURCE, Path("b.py"): SOURCE}
    drawn = draw(sources, 6, 1)
    assert drawn == draw(sources, 6, 1)
    assert drawn != draw(sources, 6, 2)
    assert len(set(drawn)) == 6
    assert len(draw(sources, 100, 1)) == 18


def test_a_mutant_changes_one_place() -> None:
    assert Mutant(2, 3, "-", 1).applied("a + b") == "a - b"
