from pathlib import Path

import pytest

from tailrace.hdl.boards.litedram import LiteDram, generate

CLOCK_HZ = 60_000_000


@pytest.fixture(scope="session")
def controller(tmp_path_factory: pytest.TempPathFactory) -> LiteDram:
    """A memory controller with pads."""
    return generate(_folder(tmp_path_factory), "litedram_core", CLOCK_HZ, 128)


@pytest.fixture(scope="session")
def simulated_controller(tmp_path_factory: pytest.TempPathFactory) -> LiteDram:
    """A memory controller with LiteDRAM's model of a memory."""
    return generate(_folder(tmp_path_factory), "litedram_core", CLOCK_HZ, 128, simulated=True)


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("litedram") / "made"
