import re

import pytest

from tailrace.sim.device_memory import device_memory
from tailrace.sim.devices import KINDS, open_device
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import HostMemoryError, TailraceError

#: More than any machine's addresses reach.
TOO_MUCH = 1 << 61


def test_memory_is_zero_and_can_be_written():
    memory = device_memory(1 << 30)
    assert memory.size == 1 << 30
    assert not memory[:: 1 << 20].any()
    memory[-1] = 7
    assert memory[-1] == 7


def test_more_than_there_is():
    text = f"this machine has no room for {TOO_MUCH:,} bytes of device memory: choose less, or leave it to auto"
    with pytest.raises(HostMemoryError, match=f"^{re.escape(text)}$"):
        device_memory(TOO_MUCH)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "verilator"])
def test_no_device_is_opened_then(kind):

    with pytest.raises(TailraceError, match="^this machine has no room for"):
        open_device(kind, Config("all", 128, address_width=64), TOO_MUCH)
    open_device(kind, CONFIGS["tiny"], 1 << 20).close()
