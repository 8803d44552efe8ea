"""A server in a process of its own with more clients than it has room for; see `verification.load`."""

import pytest

pytest.importorskip("uvicorn")

from verification.load.__main__ import Load, run


@pytest.mark.slow
def test_half_a_minute_of_load(seed: int) -> None:
    """Clients that go away, a device that fails, SIGTERM in the middle: nothing is lost, hangs or is wrong."""
    assert run(Load(minutes=0.5, errors=5, seed=seed)) == []
