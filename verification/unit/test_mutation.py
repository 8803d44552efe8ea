import sys
from pathlib import Path

import pytest

from verification import mutation
from verification.mutants import mutants
from verification.mutation import LEFT_OUT, Trial, copied_tree, noticed_by, sources
from verification.packages import ROOT

SOURCE = "def elaborate(self, platform):\n    return platform + 1\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with one part, its own test, which sees the sum, and another test in its folder, which sees the sign."""
    tests = tmp_path / "verification/unit/hdl/part"
    for folder in (tmp_path / "hdl/part", tmp_path / "src", tests):
        folder.mkdir(parents=True)
    (tmp_path / "hdl/part/adder.py").write_text(SOURCE)
    load = "from hdl.part.adder import elaborate\n"
    (tests / "test_adder.py").write_text(f"{load}def test():\n    assert elaborate(None, 1) in (1, 2)\n")
    (tests / "test_other.py").write_text(f"{load}def test():\n    assert elaborate(None, 0) % 2\n")
    return tmp_path


def test_what_became_of_each_mutant(tree: Path) -> None:
    trial, path = Trial(tree, timeout=60), Path("hdl/part/adder.py")
    results = {
        mutant.applied(SOURCE).split()[-2:][0] + mutant.applied(SOURCE).split()[-1]: trial.result(path, mutant)
        for mutant in mutants(SOURCE)
    }
    folder = "verification/unit/hdl/part"
    assert {text: result.killed_by for text, result in results.items()} == {
        "-1": f"{folder}/test_adder.py",
        "+0": folder,
        "+2": f"{folder}/test_adder.py",
    }
    assert results["+0"].place == "hdl/part/adder.py:2"
    assert results["+0"].difference == "    - return platform + 1\n    + return platform + 0"
    assert (tree / path).read_text() == SOURCE


def test_one_that_nobody_notices(tree: Path) -> None:
    (tree / "verification/unit/hdl/part/test_other.py").write_text("def test(): pass\n")
    trial = Trial(tree, timeout=60)
    (zero,) = (mutant for mutant in mutants(SOURCE) if mutant.new == "0")
    assert trial.result(Path("hdl/part/adder.py"), zero).killed_by == ""


def test_tests_that_fail_without_a_change_are_an_error(tree: Path) -> None:
    (tree / "hdl/part/adder.py").write_text(SOURCE.replace("1", "7"))
    source = (tree / "hdl/part/adder.py").read_text()
    with pytest.raises(
        RuntimeError, match=r"^verification/unit/hdl/part/test_adder\.py fails, or takes more than 60 s, without a"
    ):
        Trial(tree, timeout=60).result(Path("hdl/part/adder.py"), mutants(source)[0])


def test_what_is_changed_and_what_is_run() -> None:
    files = sources()
    assert not [path for path in files if str(path).startswith(LEFT_OUT)]
    assert noticed_by(ROOT, Path("hdl/fifo.py")) == [Path("verification/unit/hdl/test_fifo.py")]
    assert noticed_by(ROOT, Path("hdl/axi/read_master.py")) == [
        Path("verification/unit/hdl/axi/test_read_master.py"),
        Path("verification/unit/hdl/axi"),
    ]
    assert noticed_by(ROOT, Path("hdl/slots/mantissa.py")) == [Path("verification/unit/hdl/slots")]
    assert Path("hdl/slots/mantissa.py") in files
    assert Path("hdl/wide_product.py") not in files


def test_the_copy_has_its_own_links(tree: Path) -> None:
    (tree / "link").symlink_to("hdl")
    with copied_tree(tree) as copy:
        (copy / "link/part/adder.py").write_text("")
        assert (tree / "hdl/part/adder.py").read_text() == SOURCE
    assert not copy.exists()


def test_the_command_counts(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(mutation, "ROOT", tree)
    monkeypatch.setattr(mutation, "sources", lambda: {Path("hdl/part/adder.py"): SOURCE})
    monkeypatch.setattr(mutation, "run_tests", lambda tree, tests, timeout: "1" in (tree / "hdl/part/adder.py").read_text())
    monkeypatch.setattr(sys, "argv", ["mutation", "--count", "9"])
    mutation.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "2 of 3 killed"
    assert [line for line in lines if line.startswith("SURVIVED")] == ["SURVIVED hdl/part/adder.py:2 "]
