"""Boards without the core: what surrounds it is looked at in seconds."""

import pytest
from amaranth.hdl import Module

from tailrace.hdl.boards import system
from tailrace.hdl.core import Core


class NoCore(Core):
    """The ports of the core, and nothing behind them."""

    def elaborate(self, platform: object) -> Module:
        return Module()


def leave_out_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build systems without a core until the end of the test."""
    monkeypatch.setattr(system, "Core", NoCore)
