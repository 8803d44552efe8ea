"""The names of the package."""

import subprocess
import sys

import pytest

import tailrace
from tailrace import TailraceError
from tailrace.spec import errors


def test_every_error_can_be_caught_by_name() -> None:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, TailraceError):
            assert getattr(tailrace, name) is value
            assert name in tailrace.__all__
    for name in tailrace.__all__:
        assert name in dir(tailrace)
        assert getattr(tailrace, name)
    with pytest.raises(AttributeError, match="module 'tailrace' has no attribute 'laod'"):
        _ = tailrace.laod  # type: ignore[attr-defined]


def test_a_floor_is_imported_alone() -> None:
    """What needs the contract only does not import the API, nor what that needs."""
    code = "import sys, tailrace.spec.formats; print(*sorted(m for m in sys.modules if m.startswith(('tailrace.', 'gguf', 'tokenizers'))))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(found) == {"tailrace.spec", "tailrace.spec.errors", "tailrace.spec.formats"}
